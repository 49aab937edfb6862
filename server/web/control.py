"""The control port, by which `sectorwatch models swap` and its like reach the running server on this machine.

    GET  /ensemble   the ensemble in service, and the one that a rollback restores
    POST /swap       {"models": [...], "shadow_s": 0, "shadow_frames": 0} -> the ensemble in service then
    POST /rollback   {"author": ""} -> the ensemble in service then

The port is on loopback and chosen by the system. Its address and a key stand in a file in `data_dir` that only the
server's user can read; whoever can read it could change the server's database as well. Nobody else gets in, neither
over the network nor as another user of the machine. Each start makes a new key. An answer comes when the work is done;
a client that does not wait for it changes nothing.
"""

from __future__ import annotations

import hmac
import logging
import secrets
from contextlib import suppress
from pathlib import Path

import msgspec
from flask import Flask, Response, request

from server.domain.errors import ConfigurationError, Unauthorized
from server.domain.files.atomic_files import replacing
from server.domain.files.private_files import PRIVATE_FILE, PRIVATE_FOLDER
from server.serving.served import InService
from server.serving.service import Service
from server.serving.swap import Rollback, Swap
from server.web import problem_json
from server.web.json_http import MAX_BODY_BYTES, decoded, json_response
from server.web.probes import AdminPort

log = logging.getLogger(__name__)

FILE = "control.json"


class Address(msgspec.Struct, frozen=True):
    """Where a running server takes commands, and the key to it."""

    url: str
    key: str


class State(msgspec.Struct, frozen=True):
    """The answer of `GET /ensemble`; null: none yet."""

    in_service: InService | None
    before: InService | None


_address = msgspec.json.Decoder(Address)
_swap = msgspec.json.Decoder(Swap)
_rollback = msgspec.json.Decoder(Rollback)


class Control:
    """The port and its file. Constructing opens nothing."""

    def __init__(self, service: Service, data_dir: Path) -> None:
        self._key = secrets.token_urlsafe(32)
        self._file = data_dir / FILE
        self._port = AdminPort(_app(service, self._key), "127.0.0.1", 0, name="control port")

    def start(self) -> None:
        """Take commands from now on. Raises RetryLater when there is no port.

        When the file cannot be written, an error is logged and the server serves without commands.
        """
        address = Address(f"http://127.0.0.1:{self._port.start()}", self._key)
        try:
            self._file.parent.mkdir(mode=PRIVATE_FOLDER, parents=True, exist_ok=True)
            with replacing(self._file, PRIVATE_FILE) as aside:
                aside.write_bytes(msgspec.json.encode(address))
        except OSError as error:
            log.error("no commands are taken", extra={"detail": f"{self._file} cannot be written: {error.strerror}"})

    def stop(self) -> None:
        """Take no more commands, and remove the file unless it belongs to another server by now."""
        self._port.stop()
        with suppress(ConfigurationError):
            if address_in(self._file.parent).key == self._key:
                self._file.unlink(missing_ok=True)


def address_in(data_dir: Path) -> Address:
    """Where the server of this folder takes commands.

    Raises ConfigurationError when none runs, or it is another user's.
    """
    try:
        return _address.decode((data_dir / FILE).read_bytes())
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
            f"{data_dir / FILE} is not what a server writes: {error}; restart the server"
        ) from error


def _app(service: Service, key: str) -> Flask:
    app = Flask("server.web.control", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY_BYTES
    problem_json.install(app)
    app.before_request(lambda: _check_key(key))

    @app.get("/ensemble")
    def ensemble() -> Response:
        return json_response(State(*service.in_service()))

    @app.post("/swap")
    def swap() -> Response:
        return json_response(service.swap(decoded(request.get_data(cache=False), _swap, "a swap")))

    @app.post("/rollback")
    def rollback() -> Response:
        return json_response(service.rollback(decoded(request.get_data(cache=False), _rollback, "a rollback").author))

    return app


def _check_key(key: str) -> None:
    """Raises Unauthorized unless the request has the key."""
    if not hmac.compare_digest(request.headers.get("Authorization", "").encode(), f"Bearer {key}".encode()):
        raise Unauthorized(f"commands need the key in {FILE} of the server's data_dir")
