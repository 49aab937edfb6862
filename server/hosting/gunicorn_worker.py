"""The process behind Gunicorn's master: its thread worker, which turns away and sees off without a request thread.

The thread that accepts connections does both, and must never wait: it looks at bytes that are there already, sends
what fits into any buffer, and throws away what has come. On a request thread no client is waited for for long
(`hurried`).
"""

from __future__ import annotations

import selectors
import socket
from collections.abc import Iterable
from contextlib import suppress
from functools import partial
from typing import Any

from gunicorn.http.errors import ParseException
from gunicorn.workers.gthread import ThreadWorker

from server.app import runtime_of
from server.domain.errors import RetryLater
from server.hosting.deadlines import BODY_S, Hurried
from server.hosting.lingering_close import Leavers, Lingering, Wsgi
from server.hosting.turnstile import LINE_BYTES, Turnstile


class Worker(ThreadWorker):  # type: ignore[misc]  # gunicorn is untyped
    """Gunicorn's `gthread` around our application."""

    def run(self) -> None:
        runtime = runtime_of(self.wsgi)
        self._turnstile = Turnstile(self.wsgi.url_map, runtime.admission.knock, runtime.metrics.answered)
        self._leavers = Leavers(self.wsgi.config["MAX_CONTENT_LENGTH"])
        self.wsgi.wsgi_app = Lingering(_reading(self.wsgi.wsgi_app), self._leavers)
        self.poller.register(self._leavers, selectors.EVENT_READ, lambda leavers: leavers.attend())
        super().run()

    def enqueue_req(self, conn: Any) -> None:
        """A connection has, or is about to have, a request: the thread pool's affair, unless it is an upload and there
        is no room for it. Those that an access log is to tell of all go the same way."""
        if not (self.cfg.is_ssl or isinstance(conn.sock, Hurried)):
            conn.sock = Hurried(conn.sock)
            conn.sock.setblocking(False)
        if not conn.initialized and self._is_silent(conn):
            self._wait_for(conn)
            return
        is_plain = not (conn.initialized or self.cfg.is_ssl or self.cfg.accesslog)
        full = self._turnstile.closed() if is_plain else None
        if full is None or not self._is_turned_away(conn, full):
            super().enqueue_req(conn)

    def handle(self, conn: Any) -> Any:
        if isinstance(conn.sock, Hurried):
            conn.sock.expect_head()
        return super().handle(conn)

    def handle_request(self, req: Any, conn: Any) -> Any:
        if isinstance(conn.sock, Hurried):
            conn.sock.expect_body()
        else:  # Gunicorn's own TLS
            conn.sock.settimeout(BODY_S)
        return super().handle_request(req, conn)

    def murder_pending(self) -> None:
        """Gunicorn asks for it about once a second."""
        super().murder_pending()
        self._leavers.look_after()

    def _is_silent(self, conn: Any) -> bool:
        """Whether a new connection has said nothing yet: Gunicorn would wait for it in a request thread."""
        with suppress(OSError):
            conn.data_ready = conn.data_ready or bool(conn.sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT))
        return not conn.data_ready

    def _is_turned_away(self, conn: Any, full: RetryLater) -> bool:
        """Whether this connection is no request thread's affair."""
        try:
            begun = conn.sock.recv(LINE_BYTES, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except OSError:
            return False
        answer = self._turnstile.answer(full, begun, conn.client[0] if isinstance(conn.client, tuple) else "")
        if answer is None:
            return False
        self.nr_conns -= 1
        with suppress(OSError):  # the client has gone
            conn.sock.send(answer)
            conn.sock.shutdown(socket.SHUT_WR)
        self._leavers.see_off(conn.sock)
        return True

    def _wait_for(self, conn: Any) -> None:
        """As Gunicorn waits for those who have sent nothing to a request thread in time."""
        conn.sock.setblocking(False)
        conn.set_timeout()
        self.pending_conns.append(conn)
        self.poller.register(conn.sock, selectors.EVENT_READ, partial(self.on_pending_socket_readable, conn))


def _reading(app: Wsgi) -> Wsgi:
    """`app`, to which a body that is no HTTP, or ends too soon, is one whose client has gone: werkzeug knows that."""

    def read(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        environ["wsgi.input"] = _Body(environ["wsgi.input"])
        return app(environ, start_response)

    return read


class _Body:
    def __init__(self, body: Any) -> None:
        self._body = body

    def read(self, size: int = -1) -> bytes:
        try:
            piece: bytes = self._body.read(size)
        except ParseException as error:
            raise OSError(str(error)) from error
        return piece
