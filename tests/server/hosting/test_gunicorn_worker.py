"""The accepting thread survives that one event of a batch closes what another event of the same batch is about."""

from __future__ import annotations

import os
import resource
import selectors
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil
import pytest
import requests
from gunicorn.config import Config
from gunicorn.glogging import Logger
from gunicorn.workers.gthread import TConn

from server.hosting.gunicorn_worker import Worker
from server.hosting.self_signed import Pair
from tests.server.launched import PATIENCE_S, Running


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


@contextmanager
def handles_left(count: int) -> Iterator[None]:
    """Let this process open so many files, and no more."""
    allowed = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = [os.dup(0) for _ in range(count + 1)]
    for each in free:
        os.close(each)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(free), allowed[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, allowed)


@pytest.mark.parametrize("with_tls", [False, True])
def test_without_a_file_handle_for_it_a_connection_waits_and_the_worker_neither_ends_nor_spins(
    worker: Worker, with_tls: bool, certificate: Pair, caplog: pytest.LogCaptureFixture
) -> None:
    (listener,) = worker.sockets
    if with_tls:
        worker.secure(certificate)
    worker.set_accept_enabled(True)
    with ExitStack() as stack:
        stack.enter_context(socket.create_connection(listener.getsockname()))
        with handles_left(1 if with_tls else 0):
            worker.wait_for_and_dispatch_events(5)
            assert worker.nr_conns == 0
            worker.set_accept_enabled(True)
            assert (worker._accepting, worker.poller.select(0)) == (False, []), "nothing wakes it while it pauses"
        assert [record.message for record in caplog.records] == [
            "no room for another connection; clients wait: raise LimitNOFILE of the unit, or `ulimit -n`"
        ]
        worker._accepts_from_s = 0.0
        worker.set_accept_enabled(True)
        stack.enter_context(socket.create_connection(listener.getsockname()))
        worker.wait_for_and_dispatch_events(5)
        assert worker.nr_conns == 1


def test_a_server_that_is_out_of_file_handles_goes_on_once_it_has_some(tmp_path: Path) -> None:
    server = Running(["tests.server.hosted", str(tmp_path)])
    try:
        port = int(server.line(r"^port (\d+)")[1])
        url = f"http://127.0.0.1:{port}/livez"
        assert requests.get(url, timeout=PATIENCE_S).status_code == 200
        (worker,) = psutil.Process(server.process.pid).children()
        worker.rlimit(psutil.RLIMIT_NOFILE, (worker.num_fds() + 1, worker.rlimit(psutil.RLIMIT_NOFILE)[1]))
        with ExitStack() as stack:
            for _ in range(6):
                stack.enter_context(socket.create_connection(("127.0.0.1", port)))
            server.line("no room for another connection")
        assert requests.get(url, timeout=PATIENCE_S).status_code == 200
        assert [each.pid for each in psutil.Process(server.process.pid).children()] == [worker.pid]
    finally:
        server.end()
