"""How the machine's own commands reach a running server: to swap its models, roll back, and ask what it serves.

    GET  /ensemble   what is in service, and what a rollback would serve
    POST /swap       {"models": [...], "shadow_s": 0, "shadow_frames": 0} -> what is in service now
    POST /rollback   -> what is in service now

A loopback port of its own that the system chooses, in threads of its own. Its address and a key stand in a file in
`data_dir` that only the server's user can read: whoever may read that could change the server's database as well,
and nobody else gets in, be it over the network or as another user of the machine. A new key is made at each start.
An answer comes when all is done; a client that does not wait for it changes nothing.
"""

from __future__ import annotations

import hmac
import logging
import secrets
from contextlib import suppress
from pathlib import Path
from typing import Protocol

import msgspec
from flask import Blueprint, Flask, Response, request

from server.domain.atomic_files import replacing
from server.domain.errors import ConfigurationError, Malformed, Unauthorized
from server.serving.service import InService
from server.serving.swap import Swap
from server.web import problem_json
from server.web.probes import AdminPort

log = logging.getLogger(__name__)

FILE = "control.json"
_MOST_BYTES = 65_536


class Address(msgspec.Struct, frozen=True):
    """Where a running server takes commands, and the key to it."""

    url: str
    key: str


class State(msgspec.Struct, frozen=True):
    """What `GET /ensemble` tells; null: nothing yet."""

    in_service: InService | None
    before: InService | None


class Service(Protocol):
    def swap(self, asked: Swap) -> InService: ...
    def rollback(self) -> InService: ...
    def in_service(self) -> tuple[InService | None, InService | None]: ...


class Control:
    """The port and its file. Constructing opens nothing."""

    def __init__(self, service: Service, data_dir: Path) -> None:
        self._key = secrets.token_urlsafe(32)
        self._file = data_dir / FILE
        self._port = AdminPort(_app(service, self._key), "127.0.0.1", 0, name="control port")

    def start(self) -> None:
        """Take commands from now on. Raises ConfigurationError when there is no port; a file that cannot be written is
        told in the log, and keeps nobody from serving."""
        address = Address(f"http://127.0.0.1:{self._port.start()}", self._key)
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            with replacing(self._file, 0o600) as aside:
                aside.write_bytes(msgspec.json.encode(address))
        except OSError as error:
            log.error("no commands are taken", extra={"detail": f"{self._file} cannot be written: {error.strerror}"})

    def stop(self) -> None:
        """Take no more, and leave no file, unless it is another server's by now."""
        self._port.stop()
        with suppress(ConfigurationError):
            if address_in(self._file.parent).key == self._key:
                self._file.unlink(missing_ok=True)


def address_in(data_dir: Path) -> Address:
    """Where the server of this folder takes commands. Raises ConfigurationError when none runs, or it is another
    user's.
    """
    try:
        return msgspec.json.decode((data_dir / FILE).read_bytes(), type=Address)
    except FileNotFoundError:
        raise ConfigurationError(
            f"no server is running on {data_dir}: start `sectorwatch serve`, or name its --config"
        ) from None
    except OSError as error:
        raise ConfigurationError(
            f"{data_dir / FILE} cannot be read: {error}; ask as the user who runs the server"
        ) from error
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ConfigurationError(
            f"{data_dir / FILE} is not what a server writes: {error}; start the server anew"
        ) from error


def _app(service: Service, key: str) -> Flask:
    app = Flask("server.web.control", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = _MOST_BYTES
    problem_json.install(app)
    app.before_request(lambda: _check(key))
    app.register_blueprint(_routes(service))
    return app


def _routes(service: Service) -> Blueprint:
    blueprint = Blueprint("control", __name__)

    @blueprint.get("/ensemble")
    def ensemble() -> Response:
        return _json(State(*service.in_service()))

    @blueprint.post("/swap")
    def swap() -> Response:
        try:
            asked = msgspec.json.decode(request.get_data(cache=False), type=Swap)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise Malformed(f"not a swap: {error}") from None
        return _json(service.swap(asked))

    @blueprint.post("/rollback")
    def rollback() -> Response:
        return _json(service.rollback())

    return blueprint


def _check(key: str) -> None:
    """Raises Unauthorized unless the request has the key."""
    given = request.headers.get("Authorization", "")
    if not hmac.compare_digest(given.encode(), f"Bearer {key}".encode()):
        raise Unauthorized(f"commands need the key in {FILE} of the server's data_dir")


def _json(value: object) -> Response:
    return Response(msgspec.json.encode(value), content_type="application/json")
