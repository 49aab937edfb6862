"""What the agent's tests share: a stand-in server, small footage made here, and real agent processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from camera_agent.clock import Clock
from camera_agent.logs import TextFormatter
from tests.camera_agent.stand_in import StandIn

CHECKOUT = Path(__file__).parents[2]


@pytest.fixture
def caplog(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """The log, formatted as the agent formats it."""
    caplog.handler.setFormatter(TextFormatter())
    return caplog


@pytest.fixture
def server() -> Iterator[StandIn]:
    with StandIn() as stand_in:
        yield stand_in


@pytest.fixture(scope="session")
def footage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six seconds of a moving square at ten pictures a second, Motion JPEG: its picture i is brighter than i - 1."""
    path = tmp_path_factory.mktemp("footage") / "yard.avi"
    make_video(path, pictures=60)
    return path


def make_video(path: Path, *, pictures: int, width: int = 160, height: int = 120) -> None:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10.0, (width, height))
    assert writer.isOpened()
    for index in range(pictures):
        writer.write(picture(index, width=width, height=height))
    writer.release()


def picture(index: int, *, width: int = 160, height: int = 120) -> np.ndarray:
    """A plain ground of brightness 2 * index (mod 200) with a white square that walks to the right."""
    image = np.full((height, width, 3), (2 * index) % 200, np.uint8)
    left = (3 * index) % (width - 20)
    image[height // 2 : height // 2 + 20, left : left + 20] = 255
    return image


def jpeg(index: int, *, width: int = 160, height: int = 120) -> bytes:
    return cv2.imencode(".jpg", picture(index, width=width, height=height))[1].tobytes()


@pytest.fixture
def write_settings(tmp_path: Path, server: StandIn) -> Callable[..., Path]:
    """Write an `agent.toml` with the given lines for its one camera, and return its path."""

    def write(camera: str, *, state: str = "state", name: str = "agent.toml", more: str = "") -> Path:
        path = tmp_path / name
        path.write_text(
            f'site = "yard"\nstate_dir = "{state}"\n{more}\n'
            f'[server]\nurl = "{server.url}"\ntoken = "s3cret"\n[[cameras]]\nname = "gate"\n{camera}\n'
        )
        return path

    return write


class AgentProcess:
    """`camera-agent` as a user runs it, its log kept in memory."""

    def __init__(self, arguments: list[str]) -> None:
        environment = {**os.environ, "PYTHONPATH": str(CHECKOUT), "PYTHONUNBUFFERED": "1"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "camera_agent", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment,
        )
        self.lines: list[str] = []
        self._changed = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        return self.process.pid

    def wait_for_line(self, part: str, timeout_s: float = 120.0) -> str:
        """Wait for the first log line that contains `part`, and return it."""
        with self._changed:
            matching = self._changed.wait_for(
                lambda: next((line for line in self.lines if part in line), None), timeout_s
            )
            assert matching is not None, f"no {part!r} in:\n" + "\n".join(self.lines)
            return matching

    def wait(self, timeout_s: float = 180.0) -> int:
        code = self.process.wait(timeout_s)
        self._reader.join(5.0)
        return code

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._changed:
                self.lines.append(line.rstrip())
                self._changed.notify_all()


@pytest.fixture
def start_agent() -> Iterator[Callable[..., AgentProcess]]:
    started: list[AgentProcess] = []

    def start(*arguments: object) -> AgentProcess:
        agent = AgentProcess([str(argument) for argument in arguments])
        started.append(agent)
        return agent

    yield start
    for agent in started:
        if agent.process.poll() is None:
            agent.kill()
        agent.wait()
        assert agent.process.stdout is not None
        agent.process.stdout.close()


class HandClock(Clock):
    """A manual clock; waiting on it moves it forward."""

    def __init__(self, *, monotonic_s: float = 1000.0, unix_s: float = 1_800_000_000.0) -> None:
        self.now_s = monotonic_s
        self.ahead_s = unix_s - monotonic_s
        self.waits: list[float] = []

    def monotonic_s(self) -> float:
        return self.now_s

    def unix_s(self) -> float:
        return self.now_s + self.ahead_s

    def wait_until(self, monotonic_s: float, stop: threading.Event) -> bool:
        if stop.is_set():
            return False
        self.waits.append(monotonic_s - self.now_s)
        self.now_s = max(self.now_s, monotonic_s)
        return True


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture(scope="session")
def vtest(cache_dir: Path) -> str:
    """PETS S2.L1, 795 pictures of 768x576, ten a second: the footage of the whole project."""
    chosen = os.environ.get("SECTORWATCH_FOOTAGE")
    path = Path(chosen) if chosen else cache_dir / "footage" / "vtest.avi"
    assert path.is_file(), f"no footage at {path}: run deploy/test, which fetches it"
    return str(path)
