"""Gunicorn's thread worker with TLS, deadlines for slow clients and a lingering close for refused ones.

The accepting thread must never wait. It reads bytes that have arrived already and discards what refused clients still
send. Request threads read through a `DeadlineSocket`. With TLS, both see the plain end of a `TlsFront`. All overrides
here are of methods that Gunicorn does not document, so `pyproject.toml` pins its minor version.
"""

from __future__ import annotations

import math
import resource
import selectors
import socket
import threading
from collections.abc import Iterable
from contextlib import suppress
from functools import partial
from typing import Any

from gunicorn.workers.gthread import ThreadWorker

from server.hosting.certificate import ReloadingContext
from server.hosting.deadlines import DeadlineSocket
from server.hosting.lingering_close import LingeringCloser, LingeringMiddleware, Wsgi
from server.hosting.self_signed import Pair
from server.hosting.tls_front import TlsFront
from server.hosting.whole_requests import Arrival, arrival_of

_FLUSH_S = 2.0
_FILES = 4096
"""Open files of a server with TLS, which needs three for each connection; systemd allows 1024 unless asked."""
_MOST_PENDING = 128
"""Connections that have not brought a whole request; half of those for which there are no threads."""


class Worker(ThreadWorker):  # type: ignore[misc]  # gunicorn is untyped
    """Gunicorn's `gthread` around our application."""

    _front: TlsFront | None = None

    def secure(self, pair: Pair) -> None:
        """Speak HTTPS with this certificate, from the next connection on. Raises ConfigurationError."""
        _allow_files(_FILES)
        self._front = TlsFront(ReloadingContext(pair))

    def stop_listening(self, done: threading.Event) -> None:
        """Give up the port for good; requests that are accepted are still answered. For the accepting thread."""
        self.set_accept_enabled(False)
        for listener in self.sockets:
            listener.close()
        self.alive = False
        done.set()

    def run(self) -> None:
        self._closer = LingeringCloser(self.wsgi.config["MAX_CONTENT_LENGTH"])
        self.wsgi.wsgi_app = LingeringMiddleware(self.wsgi.wsgi_app, self._closer)
        self.poller.register(self._closer, selectors.EVENT_READ, lambda closer: closer.discard_ready())
        if self._front is not None:
            self.wsgi.wsgi_app = _Https(self.wsgi.wsgi_app)
            self._front.start()
        super().run()
        if self._front is not None:
            self._front.stop(_FLUSH_S)

    def enqueue_req(self, conn: Any) -> None:
        """Pass a connection to the thread pool, unless a request thread would wait for the rest of its request."""
        if not isinstance(conn.sock, DeadlineSocket):
            conn.sock = DeadlineSocket(conn.sock if self._front is None else self._front.take(conn.sock))
            conn.sock.setblocking(False)
        if not conn.initialized and self._is_silent(conn):
            self._wait_for_more(conn)
            return
        conn.arrival = self._arrival(conn)
        if conn.arrival is not None:
            self._wait_for_more(conn, conn.arrival.deadline)
            return
        super().enqueue_req(conn)

    def handle(self, conn: Any) -> Any:
        conn.sock.expect_head()
        return super().handle(conn)

    def handle_request(self, req: Any, conn: Any) -> Any:
        conn.sock.expect_body()
        return super().handle_request(req, conn)

    def murder_pending(self) -> None:
        """Gunicorn calls this about once a second."""
        super().murder_pending()
        self._closer.close_expired()

    def _is_silent(self, conn: Any) -> bool:
        """Whether a new connection has sent nothing yet."""
        with suppress(OSError):
            conn.data_ready = conn.data_ready or bool(conn.sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT))
        return not conn.data_ready

    def _arrival(self, conn: Any) -> Arrival | None:
        """What has arrived of a request that is not whole; None for one that a request thread can take."""
        is_read_ahead = conn.initialized and conn.parser.unreader.buf.getbuffer().nbytes > 0
        if is_read_ahead:
            return None
        with suppress(OSError):  # broken: the request thread finds out
            return arrival_of(conn.sock, getattr(conn, "arrival", None))
        return None

    def _wait_for_more(self, conn: Any, deadline: float = math.inf) -> None:
        """As Gunicorn does for a connection on which a request thread has waited too long.

        Of too many such connections the oldest is closed: beyond `worker_connections`, Gunicorn accepts no others.
        """
        if len(self.pending_conns) >= _MOST_PENDING:
            self._close_pending(self.pending_conns.popleft())
        conn.sock.setblocking(False)
        conn.set_timeout()
        conn.timeout = min(conn.timeout, deadline)
        self.pending_conns.append(conn)
        self.poller.register(conn.sock, selectors.EVENT_READ, partial(self.on_pending_socket_readable, conn))

    def _close_pending(self, conn: Any) -> None:
        self.poller.unregister(conn.sock)
        self.nr_conns -= 1
        conn.close()


class _Https:
    """WSGI middleware for requests that came by TLS, which Gunicorn does not see."""

    def __init__(self, app: Wsgi) -> None:
        self._app = app

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        environ["wsgi.url_scheme"] = "https"
        return self._app(environ, start_response)


def _allow_files(count: int) -> None:
    """Let this process open so many files, as far as the system permits."""
    allowed, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count if most == resource.RLIM_INFINITY else min(count, most)
    if allowed != resource.RLIM_INFINITY and allowed < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))
