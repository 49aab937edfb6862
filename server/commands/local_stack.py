"""The whole product at work on one machine, for the demonstration and for measuring: real processes, own folders.

A `Rehearsal` runs `sectorwatch serve` on a free loopback port with everything it writes in one folder, and
`camera-agent run` on footage or a camera. Both are ended, and waited for, when the block is left.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import requests

from server.domain.errors import ConfigurationError

READY_WITHIN_S = 120
STOP_WITHIN_S = 60


class Rehearsal:
    """A server and its agents, alive inside a `with` block. `sites` maps a site's name to its policy as TOML."""

    def __init__(self, folder: Path, sites: Mapping[str, str], models: Sequence[str] | None = None) -> None:
        self.folder = folder
        self.url = ""
        self._sites = sites
        self._models = models
        self._processes: list[subprocess.Popen[bytes]] = []
        self._server: subprocess.Popen[bytes] | None = None

    @property
    def database_url(self) -> str:
        return f"sqlite:///{self.folder}/data/sectorwatch.sqlite"

    def __enter__(self) -> Rehearsal:
        sites = self.folder / "sites"
        sites.mkdir(parents=True, exist_ok=True)
        for name, text in self._sites.items():
            (sites / f"{name}.toml").write_text(text, encoding="utf-8")
        port = _free_port()
        settings = {"port": port, "data_dir": str(self.folder / "data"), "sites_dir": str(sites)}
        if self._models is not None:
            settings["models"] = list(self._models)
        config = self.folder / "server.toml"
        config.write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in settings.items()))
        self.url = f"http://127.0.0.1:{port}"
        try:
            self.start_server()
        except BaseException:
            self._stop_all()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop_all()

    def start_server(self) -> None:
        """Start the server on its port and wait until it is ready. Raises ConfigurationError with its last words."""
        self._server = self._start("server", "-m", "server", "serve", "--config", str(self.folder / "server.toml"))
        self._wait_until_ready(self._server)

    def crash_server(self) -> None:
        """`kill -9` the server with its workers, as a power cut would."""
        assert self._server is not None
        _crash(self._server)

    def agent(self, site: str, camera: Mapping[str, Any], *, name: str = "agent") -> Agent:
        """An agent on one camera (the keys of a `[[cameras]]` table), begun at once."""
        state = self.folder / name
        lines = [f"site = {json.dumps(site)}", f"state_dir = {json.dumps(str(state))}"]
        lines += ["[server]", f"url = {json.dumps(self.url)}", "[[cameras]]"]
        lines += [f"{key} = {_toml(value)}" for key, value in camera.items()]
        config = self.folder / f"{name}.toml"
        config.write_text("\n".join(lines) + "\n")
        return Agent(self._start(name, "-m", "camera_agent", "run", str(config)), state, self.folder / f"{name}.log")

    def _start(self, name: str, *arguments: str) -> subprocess.Popen[bytes]:
        with (self.folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._processes.append(process)
        return process

    def _wait_until_ready(self, server: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + READY_WITHIN_S
        while time.monotonic() < deadline:
            if server.poll() is not None:
                raise ConfigurationError(f"the server ended at once:\n{_tail(self.folder / 'server.log')}")
            with suppress(requests.RequestException):
                if requests.get(f"{self.url}/readyz", timeout=5).ok:
                    return
            with suppress(subprocess.TimeoutExpired):
                server.wait(0.2)
        raise ConfigurationError(
            f"the server was not ready within {READY_WITHIN_S} s:\n{_tail(self.folder / 'server.log')}"
        )

    def _stop_all(self) -> None:
        for process in reversed(self._processes):  # the agents before the server they talk to
            _stop(process)
        self._processes.clear()


class Agent:
    """An agent at work."""

    def __init__(self, process: subprocess.Popen[bytes], state: Path, log: Path) -> None:
        self._process = process
        self._state = state
        self._log = log

    def wait(self, timeout_s: float) -> bool:
        """Whether it has ended within this time. Raises ConfigurationError when it ended badly."""
        with suppress(subprocess.TimeoutExpired):
            if self._process.wait(timeout_s) != 0:
                raise ConfigurationError(f"the agent ended with {self._process.returncode}:\n{_tail(self._log)}")
            return True
        return False

    def stop(self) -> None:
        _stop(self._process)

    def crash(self) -> None:
        """`kill -9` it."""
        _crash(self._process)

    def status(self) -> dict[str, Any]:
        """What it has counted so far: bursts, frames, bytes_sent and so on."""
        with suppress(OSError, ValueError):
            found: dict[str, Any] = json.loads((self._state / "status.json").read_text())
            return found
        return {}


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is not None:
        return
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_WITHIN_S)
    except subprocess.TimeoutExpired:
        _crash(process)


def _crash(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _tail(log: Path, lines: int = 15) -> str:
    with suppress(OSError):
        return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])
    return ""


def _toml(value: object) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key} = {_toml(item)}" for key, item in value.items()) + "}"
    return json.dumps(value)
