"""Probes and metrics: `/livez`, `/readyz` and `/metrics`, also on a port of their own.

On the application's port they wait for a request thread like all requests. The admin port (`admin_port`) has threads of
its own and no admission control, so it answers under any load: point probes and Prometheus there. It listens on
loopback unless `admin_host` says otherwise, and asks for no token; on loopback it refuses requests of web pages from
elsewhere. Of more than 32 connections the oldest is ended. On the application's port `/metrics` needs a reader's token
of all sites, once there are tokens.
"""

from __future__ import annotations

import logging
import socket
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from socketserver import TCPServer, ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from flask import Blueprint, Flask, Response, request

from server.domain.ensemble_protocol import Ensemble
from server.domain.errors import Forbidden, RetryLater
from server.web.auth import Authenticator, is_for_this_machine, is_loopback
from server.web.json_http import json_response

log = logging.getLogger(__name__)

_TIMEOUT_S = 10.0
_STOPS_WITHIN_S = 0.1
_MOST_CONNECTIONS = 32
"""Each has a thread of its own; of more, the oldest is ended."""


def routes(
    ensemble: Callable[[], Ensemble],
    check_database: Callable[[], object],
    metrics_text: Callable[[str | None], tuple[bytes, str]],
    authenticator: Authenticator | None,
) -> Blueprint:
    """The three endpoints. `ensemble` raises RetryLater while it is loading, `check_database` while the database is
    silent or takes nothing; `metrics_text` gives the metrics and their media type for an `Accept` header.

    Without `authenticator` everybody who reaches the port may read the metrics.
    """
    blueprint = Blueprint("probes", __name__)

    @blueprint.get("/livez")
    def live() -> Response:
        return json_response({"status": "alive"})

    @blueprint.get("/readyz")
    def ready() -> Response:
        ensemble_info = ensemble().ensemble_info
        check_database()
        return json_response({"status": "ready", "ensemble": ensemble_info.ensemble})

    @blueprint.get("/metrics")
    def metrics() -> Response:
        if authenticator is not None and authenticator.authenticate(request).to_read() is not None:
            raise Forbidden("the metrics cover all sites: use a reader's token of all sites, or the admin port")
        text, content_type = metrics_text(request.headers.get("Accept"))
        return Response(text, content_type=content_type)

    return blueprint


def count_requests(app: Flask, on_answer: Callable[[str, str | None, int], None]) -> None:
    """Call `on_answer` with the method, the route's pattern (None: no route) and the status of every answer."""

    @app.after_request
    def count(response: Response) -> Response:
        on_answer(request.method, request.url_rule.rule if request.url_rule else None, response.status_code)
        return response


class AdminPort:
    """A small HTTP server for a small application, in threads of its own. Constructing opens no port."""

    def __init__(self, app: Flask, host: str, port: int, *, name: str = "admin port") -> None:
        self._app = app
        self._name = name
        self._address = host, port
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> int:
        """Listen and answer; returns the port, which the system chooses for 0.

        Raises RetryLater when it is taken.
        """
        host, port = self._address
        if is_loopback(host):
            self._app.before_request(_check_address)
        server_class = _Server6 if ":" in host else _Server
        try:
            self._server = server_class((host, port), _Handler)
        except OSError as error:
            raise RetryLater(f"cannot listen on {host} port {port} ({self._name}): {error.strerror}") from None
        self._server.set_app(self._app.wsgi_app)
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(_STOPS_WITHIN_S,), name="sectorwatch-admin", daemon=True
        )
        self._thread.start()
        chosen = int(self._server.server_address[1])
        log.info("%s open", self._name, extra={"host": host, "port": chosen})
        return chosen

    def stop(self) -> None:
        """Close the port. Harmless when it was never open."""
        if self._server is None or self._thread is None:
            return
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(_TIMEOUT_S)


def _check_address() -> None:
    """Raises Forbidden for a request that only a browser sends here, for another site's web page."""
    if not is_for_this_machine(request):
        raise Forbidden("this port serves this machine only: address it as 127.0.0.1 or localhost")


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, *args: Any) -> None:
        self._open: deque[socket.socket] = deque()
        super().__init__(*args)

    def process_request(self, request: Any, client_address: Any) -> None:
        self._open.append(request)
        if len(self._open) > _MOST_CONNECTIONS:
            with suppress(OSError):  # it has ended just now
                self._open.popleft().shutdown(socket.SHUT_RDWR)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with suppress(ValueError):  # it was ended for another
            self._open.remove(request)
        super().shutdown_request(request)

    def server_bind(self) -> None:
        # As WSGIServer does it, but without asking the name service for this machine's name, which may take long.
        TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])
        self.setup_environ()

    def handle_error(self, request: object, client_address: object) -> None:
        log.debug("probe failed", extra={"client": client_address}, exc_info=True)


class _Server6(_Server):
    address_family = socket.AF_INET6


class _Handler(WSGIRequestHandler):
    timeout = _TIMEOUT_S  # for a client that sends nothing

    def log_message(self, format: str, *args: object) -> None:
        log.debug("probe", extra={"client": self.address_string(), "line": format % args})
