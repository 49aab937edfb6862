"""Gunicorn's thread worker with TLS, deadlines for slow clients and a lingering close for refused ones.

The accepting thread must never wait. It takes bytes that have arrived already, holds them until a request is whole, and
discards what refused clients still send. Request threads read through a `DeadlineSocket`. With TLS, both see the plain
end of a `TlsFront`. All overrides here are of methods that Gunicorn does not document, so `pyproject.toml` pins its
minor version.
"""

from __future__ import annotations

import errno
import logging
import resource
import selectors
import threading
import time
from collections.abc import Iterable
from functools import partial
from typing import Any

from gunicorn.http.errors import LimitRequestHeaders
from gunicorn.util import close
from gunicorn.workers.gthread import ThreadWorker

from server.hosting.certificate import ReloadingContext
from server.hosting.crowds import SlowReaders, origin_of, to_close
from server.hosting.deadlines import DeadlineSocket
from server.hosting.lingering_close import LingeringCloser, LingeringMiddleware, Wsgi
from server.hosting.self_signed import Pair
from server.hosting.tls_front import TlsFront
from server.hosting.whole_requests import HEAD_BYTES, Arrival

log = logging.getLogger(__name__)

_FLUSH_S = 2.0
_FILES = 4096
"""Open files of a server, which needs one for each connection, three with TLS; systemd allows 1024 unless asked."""
_NO_ROOM = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
"""What the system says where it has no file handle, or no memory, for one more connection. It passes."""
_PAUSE_S = 1.0
_TOLD_EVERY_S = 60.0


class Worker(ThreadWorker):  # type: ignore[misc]  # gunicorn is untyped
    """Gunicorn's `gthread` around our application.

    Of the connections for which there are no threads, a third may be without a whole request, and the others idle after
    an answer. At most a quarter of the threads wait for clients that read slowly. The settings require more threads
    than that in addition to those of uploads, so some are always free.
    """

    nr_conns: int
    _front: TlsFront | None = None
    _accepts_from_s = 0.0
    _told_at_s = float("-inf")

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        spare = self.worker_connections - self.cfg.threads
        self._most_pending = max(1, spare // 3)
        self.max_keepalived = spare - self._most_pending
        self._slow_readers = SlowReaders(max(1, self.cfg.threads // 4))

    def secure(self, pair: Pair) -> None:
        """Speak HTTPS with this certificate, from the next connection on. Raises ConfigurationError."""
        self._front = TlsFront(ReloadingContext(pair))

    def stop_listening(self, done: threading.Event) -> None:
        """Give up the port for good; requests that are accepted are still answered. For the accepting thread."""
        self.set_accept_enabled(False)
        for listener in self.sockets:
            listener.close()
        self.alive = False
        done.set()

    def run(self) -> None:
        _allow_files(_FILES)
        self._closer = LingeringCloser(self.wsgi.config["MAX_CONTENT_LENGTH"])
        self.wsgi.wsgi_app = LingeringMiddleware(self.wsgi.wsgi_app, self._closer)
        self.poller.register(self._closer, selectors.EVENT_READ, lambda closer: closer.discard_ready())
        if self._front is not None:
            self.wsgi.wsgi_app = _Https(self.wsgi.wsgi_app)
            self._front.start()
        super().run()
        if self._front is not None:
            self._front.stop(_FLUSH_S)

    def accept(self, listener: Any) -> None:
        """Accept a connection. Without a file handle for it, it waits in the system's queue, and idle ones go."""
        if not self._accepting:  # the listener was closed by an earlier event of the same batch
            return
        before = self.nr_conns
        try:
            super().accept(listener)
        except OSError as error:
            if error.errno not in _NO_ROOM:
                raise
            self.nr_conns = before  # it may have been accepted, and closed again
            self._pause(error)

    def set_accept_enabled(self, enabled: bool) -> None:
        """As Gunicorn's own, which calls it at least once a second, but not while accepting pauses."""
        if not enabled or time.monotonic() >= self._accepts_from_s:
            super().set_accept_enabled(enabled)

    def _pause(self, error: OSError) -> None:
        """Accept nothing for a while: the waiting connection would wake this thread again and again."""
        self.murder_keepalived(force=True)
        now_s = time.monotonic()
        self._accepts_from_s = now_s + _PAUSE_S
        self.set_accept_enabled(False)
        if now_s - self._told_at_s >= _TOLD_EVERY_S:
            self._told_at_s = now_s
            most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
            log.warning(
                "no room for another connection; clients wait: raise LimitNOFILE of the unit, or `ulimit -n`",
                extra={"cause": error.strerror, "open_files_at_most": most, "connections": self.nr_conns},
            )

    def on_client_socket_readable(self, conn: Any, client: Any) -> None:
        if conn in self.keepalived_conns:  # else it was closed by an earlier event of the same batch
            super().on_client_socket_readable(conn, client)

    def on_pending_socket_readable(self, conn: Any, client: Any) -> None:
        if conn in self.pending_conns:  # else it was closed by an earlier event of the same batch
            super().on_pending_socket_readable(conn, client)

    def enqueue_req(self, conn: Any) -> None:
        """Pass a connection to the thread pool once its request is whole. Until then, it waits for more."""
        if not isinstance(conn.sock, DeadlineSocket):
            self._take_over(conn)
        if conn.initialized:  # read together with the end of the request before
            conn.arrival.add(conn.parser.unreader.take_buffered())
        conn.arrival.receive(conn.sock)
        if conn.arrival.is_complete:
            super().enqueue_req(conn)
        else:
            self._wait_for_more(conn)

    def handle(self, conn: Any) -> Any:
        arrival, conn.arrival = conn.arrival, Arrival()
        conn.sock.expect_head()
        conn.init()
        conn.parser.unreader.unread(bytes(arrival.held))
        if arrival.is_head_too_long:
            self.handle_error(None, conn.sock, conn.client, LimitRequestHeaders(f"more than {HEAD_BYTES} bytes"))
            return False
        return super().handle(conn)

    def handle_request(self, req: Any, conn: Any) -> Any:
        conn.sock.expect_body()
        return super().handle_request(req, conn)

    def murder_pending(self) -> None:
        """Close what waits too long, wherever it stands in the queue. Gunicorn calls this about once a second."""
        now = time.monotonic()
        for conn in [conn for conn in self.pending_conns if now >= conn.timeout]:
            self._close_pending(conn)
        self._closer.close_expired()

    def _take_over(self, conn: Any) -> None:
        """Prepare a connection that is new."""
        plain = conn.sock if self._front is None else self._front.take(conn.sock)
        conn.origin = origin_of(conn.client)
        conn.sock = DeadlineSocket(plain, self._slow_readers, conn.origin)
        conn.sock.setblocking(False)
        conn.arrival = Arrival()
        conn.close = partial(self._close, conn)

    def _close(self, conn: Any, graceful: bool = False) -> None:
        """As Gunicorn's own, without waiting for the client."""
        if graceful:
            self._closer.drain(conn.sock)
        else:
            close(conn.sock)

    def _wait_for_more(self, conn: Any) -> None:
        """As Gunicorn does for a connection on which a request thread has waited too long.

        Of too many such connections, one of the address with the most is closed: beyond `worker_connections`, Gunicorn
        accepts no others.
        """
        if len(self.pending_conns) >= self._most_pending:
            self._close_pending(to_close(self.pending_conns, lambda each: each.origin))
        conn.sock.setblocking(False)
        conn.set_timeout()
        conn.timeout = min(conn.timeout, conn.arrival.deadline)
        self.pending_conns.append(conn)
        self.poller.register(conn.sock, selectors.EVENT_READ, partial(self.on_pending_socket_readable, conn))

    def _close_pending(self, conn: Any) -> None:
        self.pending_conns.remove(conn)
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
