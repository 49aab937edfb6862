"""A server and agents as processes on this machine, for the demonstration, tests and benchmarks."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import requests
import tomlkit

from server.domain.errors import ConfigurationError
from server.hosting.listening import listener
from server.settings.declaration import ENV_PREFIX, FIELDS

READY_WITHIN_S = 120
STOP_WITHIN_S = 60
_OF_THE_MACHINE = (
    "models",
    "models_dir",
    "lock",
    "golden",
    "execution",
    "device",
    "inference_threads",
    "memory_limit_bytes",
)
"""Settings that the server here takes from the environment: what answers, and with how much of the machine."""


class LocalStack:
    """Runs `sectorwatch serve` on a free loopback port, and `camera-agent run`, inside a `with` block.

    All files are in `folder`, whatever the environment says of the database, sites and channels of another server.
    `sites` maps a site's name to its policy as TOML. The processes end with the block.
    """

    server: subprocess.Popen[bytes]

    def __init__(self, folder: Path, sites: Mapping[str, str], models: Sequence[str] | None = None) -> None:
        self.folder = folder
        self.url = ""
        self.database_url = f"sqlite:///{folder}/data/sectorwatch.sqlite"
        self._sites = sites
        self._models = models
        self._processes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> LocalStack:
        sites = self.folder / "sites"
        sites.mkdir(parents=True, exist_ok=True)
        for name, text in self._sites.items():
            (sites / f"{name}.toml").write_text(text, encoding="utf-8")
        with listener("127.0.0.1", 0, "port") as free:
            port = free.getsockname()[1]
        settings = {"port": port, "data_dir": str(self.folder / "data"), "sites_dir": str(sites)}
        if self._models is not None:
            settings["models"] = list(self._models)
        (self.folder / "server.toml").write_text(tomlkit.dumps(settings))
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
        """Start the server and wait until it is ready. Raises ConfigurationError with the end of its log."""
        self.server = self._start("server", "-m", "server", "serve", "--config", str(self.folder / "server.toml"))
        deadline = time.monotonic() + READY_WITHIN_S
        while time.monotonic() < deadline and self.server.poll() is None:
            with suppress(requests.RequestException):
                if requests.get(f"{self.url}/readyz", timeout=5).ok:
                    return
            with suppress(subprocess.TimeoutExpired):
                self.server.wait(0.2)
        what = "ended at once" if self.server.poll() is not None else f"was not ready within {READY_WITHIN_S} s"
        raise ConfigurationError(f"the server {what}:\n{_tail(self.folder / 'server.log')}")

    def wait_for_server(self) -> None:
        """Wait for as long as the server runs. Raises ConfigurationError with the end of its log once it ends."""
        code = self.server.wait()
        raise ConfigurationError(f"the server ended with {code}:\n{_tail(self.folder / 'server.log')}")

    def agent(self, site: str, camera: Mapping[str, Any], *, name: str = "agent") -> Agent:
        """Start an agent with a camera (the keys of a `[[cameras]]` table)."""
        state, config = self.folder / name, self.folder / f"{name}.toml"
        settings = {"site": site, "state_dir": str(state), "server": {"url": self.url}, "cameras": [camera]}
        config.write_text(tomlkit.dumps(settings))
        return Agent(self._start(name, "-m", "camera_agent", "run", str(config)), state, self.folder / f"{name}.log")

    def _start(self, name: str, *arguments: str) -> subprocess.Popen[bytes]:
        with (self.folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=_environment(),
                start_new_session=True,
            )
        self._processes.append(process)
        return process

    def _stop_all(self) -> None:
        for process in reversed(self._processes):  # the agents before the server
            _stop(process)
        self._processes.clear()


def _environment() -> dict[str, str]:
    """That of this process, without what it says of a server of its own: its database, sites, pictures, channels."""
    others = (f"{ENV_PREFIX}{name.upper()}" for name in FIELDS if name not in _OF_THE_MACHINE)
    foreign = {variable for name in others for variable in (name, f"{name}_FILE")}
    return {name: value for name, value in os.environ.items() if name not in foreign}


class Agent:
    """A running agent. It keeps its files in `state`, and writes its log to `log`."""

    def __init__(self, process: subprocess.Popen[bytes], state: Path, log: Path) -> None:
        self.process = process
        self._state = state
        self._log = log

    def wait(self, timeout_s: float) -> bool:
        """Whether it ends within this time. Raises ConfigurationError if its exit code is not 0."""
        with suppress(subprocess.TimeoutExpired):
            if self.process.wait(timeout_s) != 0:
                raise ConfigurationError(f"the agent ended with {self.process.returncode}:\n{_tail(self._log)}")
            return True
        return False

    def stop(self) -> dict[str, Any]:
        """Stop it, and return its counts (bursts, frames, bytes_sent and so on); empty if it wrote none."""
        _stop(self.process)
        with suppress(OSError, ValueError):
            counts: dict[str, Any] = json.loads((self._state / "status.json").read_text())
            return counts
        return {}


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is not None:
        return
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_WITHIN_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _tail(log: Path, lines: int = 15) -> str:
    with suppress(OSError):
        return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])
    return ""
