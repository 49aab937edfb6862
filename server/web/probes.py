"""What machines ask of the process: `/livez`, `/readyz` and `/metrics`, also on a port of their own.

On the application's port these wait for a request thread like everybody else. The own port (`admin_port`) has
threads of its own and no admission, so it answers while every request thread is busy: point probes and Prometheus
there. It listens on loopback unless `admin_host` says otherwise, where it answers no web page of elsewhere, and asks
for no token; on the application's port `/metrics` needs a reader's token of all sites, once there are tokens.
"""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Callable
from socketserver import TCPServer, ThreadingMixIn
from typing import Protocol
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

import msgspec
from flask import Blueprint, Flask, Response, request

from policies.observation import EnsembleInfo
from server.domain.errors import ConfigurationError, Forbidden
from server.web.auth import Doorkeeper, is_for_this_machine, is_loopback

log = logging.getLogger(__name__)

_ASKED_WITHIN_S = 10.0


class Ensemble(Protocol):
    @property
    def ensemble_info(self) -> EnsembleInfo: ...


class Metrics(Protocol):
    def text(self, accept: str | None = None) -> tuple[bytes, str]: ...
    def answered(self, method: str, route: str | None, status: int) -> None: ...


def routes(
    ensemble: Callable[[], Ensemble],
    database: Callable[[], object],
    metrics: Metrics,
    doorkeeper: Doorkeeper | None,
) -> Blueprint:
    """The three endpoints. `ensemble` and `database` raise RetryLater while the one is loading, the other silent.

    Without `doorkeeper` whoever reaches the port may read the metrics.
    """
    blueprint = Blueprint("admin", __name__)

    @blueprint.get("/livez")
    def livez() -> Response:
        return _json({"status": "alive"})

    @blueprint.get("/readyz")
    def readyz() -> Response:
        ensemble_info = ensemble().ensemble_info
        database()
        return _json({"status": "ready", "ensemble": ensemble_info.ensemble})

    @blueprint.get("/metrics")
    def numbers() -> Response:
        if doorkeeper is not None and doorkeeper.admit(request).to_read() is not None:
            raise Forbidden("the metrics are of all sites: use a reader's token of all sites, or the admin port")
        text, content_type = metrics.text(request.headers.get("Accept"))
        return Response(text, content_type=content_type)

    return blueprint


def count_requests(app: Flask, metrics: Metrics) -> None:
    """Have every answer of `app` counted, by the pattern of its route."""

    @app.after_request
    def count(response: Response) -> Response:
        route = request.url_rule.rule if request.url_rule else None
        metrics.answered(request.method, route, response.status_code)
        return response


class AdminPort:
    """A small server for a small application, in threads that nobody else uses. Constructing listens to nothing."""

    def __init__(self, app: Flask, host: str, port: int, *, name: str = "admin port") -> None:
        self._app = app
        self._name = name
        self._address = host, port
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> int:
        """Listen and answer; the port, which the system chose for 0. Raises ConfigurationError when it is taken."""
        host, port = self._address
        if is_loopback(host):
            self._app.before_request(_check_address)
        kind = _Server6 if ":" in host else _Server
        try:
            self._server = kind((host, port), _Handler)
        except OSError as error:
            raise ConfigurationError(f"cannot listen on {host} port {port} ({self._name}): {error.strerror}") from None
        self._server.set_app(self._app.wsgi_app)
        self._thread = threading.Thread(target=self._server.serve_forever, name="sectorwatch-admin", daemon=True)
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
        self._thread.join(_ASKED_WITHIN_S)


def _check_address() -> None:
    """Raises Forbidden for what only a browser would send here, on behalf of a page of elsewhere."""
    if not is_for_this_machine(request):
        raise Forbidden("this port is this machine's alone: ask it as 127.0.0.1 or localhost")


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True
    block_on_close = False

    def server_bind(self) -> None:
        # As WSGIServer does it, but without asking the name service for this machine's name, which may take long.
        TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])
        self.setup_environ()

    def handle_error(self, request: object, client_address: object) -> None:
        log.debug("probe broken off", extra={"client": client_address}, exc_info=True)


class _Server6(_Server):
    address_family = socket.AF_INET6


class _Handler(WSGIRequestHandler):
    timeout = _ASKED_WITHIN_S  # a client that sends nothing is not waited for

    def log_message(self, format: str, *args: object) -> None:
        log.debug("probe", extra={"client": self.address_string(), "line": format % args})


def _json(value: object) -> Response:
    return Response(msgspec.json.encode(value), content_type="application/json")
