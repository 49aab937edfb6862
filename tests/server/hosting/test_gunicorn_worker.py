"""The accepting thread survives that one event of a batch closes what another event of the same batch is about."""

from __future__ import annotations

import selectors
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from gunicorn.config import Config
from gunicorn.glogging import Logger
from gunicorn.workers.gthread import TConn

from server.hosting.gunicorn_worker import Worker


@pytest.fixture
def worker() -> Iterator[Worker]:
    """A worker's accepting thread without a process of its own: at most one connection may be without a request."""
    config = Config()
    for name, value in {"threads": 4, "worker_connections": 8}.items():
        config.set(name, value)
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setblocking(False)
    worker = Worker(1, 1, [listener], None, 30, config, Logger(config))
    worker.poller = selectors.DefaultSelector()
    with worker.poller, listener:
        yield worker
    worker.tmp.close()


def pending(worker: Worker, stack: ExitStack) -> socket.socket:
    """A client's end of a new connection that is without a request."""
    client, accepted = map(stack.enter_context, socket.socketpair())
    connection = TConn(worker.cfg, accepted, ("192.0.2.7", 1), None)
    worker.nr_conns += 1
    worker.enqueue_req(connection)
    return client


def test_a_connection_that_makes_room_for_another_of_the_same_batch_is_passed_over(worker: Worker) -> None:
    with ExitStack() as stack:
        worker._most_pending = 2
        clients = [pending(worker, stack) for _ in range(2)]
        worker._most_pending = 1
        for client in clients:
            client.sendall(b"G")
        worker.wait_for_and_dispatch_events(0)
        assert (worker.nr_conns, len(worker.pending_conns)) == (1, 1)


def test_a_connection_that_comes_while_the_port_is_given_up_does_not_end_the_worker(worker: Worker) -> None:
    (listener,) = worker.sockets
    worker.set_accept_enabled(True)
    with socket.create_connection(listener.getsockname()):
        worker.poller.select(5)
        done = threading.Event()
        worker.stop_listening(done)
        worker.accept(listener)  # what the selector calls for an event of the batch before
        assert done.is_set()
        assert worker.nr_conns == 0
