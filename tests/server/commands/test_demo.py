"""`sectorwatch demo` shows the console's address before anything happens, and leaves it running with `--stay`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import cv2
import numpy as np
import psutil
import pytest
import requests

from server.commands.demo import _ending_cleanly
from server.commands.local_stack import LocalStack
from server.domain.errors import ConfigurationError
from tests.server.launched import Running

pytestmark = pytest.mark.usefixtures("own_folder")

ADDRESS = r"^Open the console in a browser on this machine: (http://127\.0\.0\.1:\d+/)$"
STAYS = r"^The console stays at (http://127\.0\.0\.1:\d+/) until Ctrl-C\.$"


@pytest.fixture
def film(tmp_path: Path) -> Path:
    """Two seconds of a square that moves, ten frames a second."""
    file = tmp_path / "film.avi"
    video = cv2.VideoWriter(str(file), cv2.VideoWriter.fourcc(*"MJPG"), 10, (160, 120))
    for index in range(20):
        picture = np.full((120, 160, 3), 90, np.uint8)
        picture[40:80, 5 * index : 5 * index + 30] = (40, 40, 220)
        video.write(picture)
    video.release()
    return file


@pytest.fixture
def demo(film: Path, running: list[Running], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The words of a demonstration of this film with a model that needs no weights, for `Running`."""
    monkeypatch.setenv("SECTORWATCH_MODELS", "frame-change")
    monkeypatch.delenv("SECTORWATCH_DATA_DIR")
    return ["server", "demo", "--footage", str(film), "--speed", "0"]


def began(running: list[Running], words: list[str]) -> tuple[Running, list[psutil.Process]]:
    """A demonstration that has shown its address, and its processes."""
    started = Running(words)
    running.append(started)
    assert requests.get(f"{started.line(ADDRESS)[1]}now", timeout=30).ok
    return started, psutil.Process(started.process.pid).children(recursive=True)


def test_without_stay_the_address_comes_before_the_events_and_the_server_ends_with_the_footage(
    demo: list[str], running: list[Running]
) -> None:
    started, family = began(running, demo)
    assert started.stopped() == 0
    said = "".join(started.output)
    assert said.index("Open the console") < said.index("events are shown") < said.index("\nSummary\n")
    assert "frames in" in said
    assert not any(map(psutil.Process.is_running, family))


def test_with_stay_the_console_answers_until_ctrl_c_and_leaves_nothing_behind(
    demo: list[str], running: list[Running]
) -> None:
    started, family = began(running, [*demo, "--stay"])
    address = started.line(STAYS)[1]
    assert requests.get(f"{address}now", timeout=30).ok
    os.kill(started.process.pid, signal.SIGINT)
    assert started.stopped() == 0
    assert "Traceback" not in "".join(started.output)
    assert not any(map(psutil.Process.is_running, family))
    with pytest.raises(requests.ConnectionError):
        requests.get(address, timeout=30)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_another_signal_ends_it_as_cleanly(number: signal.Signals) -> None:
    def interrupted() -> None:
        with _ending_cleanly():
            os.kill(os.getpid(), number)
            threading.Event().wait(30)

    before = signal.getsignal(number)
    with pytest.raises(SystemExit) as ended:
        interrupted()
    assert ended.value.code == 128 + number
    assert signal.getsignal(number) == before


def test_a_server_that_ends_while_the_console_stays_is_shown_with_the_end_of_its_log(tmp_path: Path) -> None:
    stack = LocalStack(tmp_path, {})
    (tmp_path / "server.log").write_text("no space left\n")
    stack.server = subprocess.Popen([sys.executable, "-c", "raise SystemExit(3)"])
    with pytest.raises(ConfigurationError, match=r"the server ended with 3:\nno space left"):
        stack.wait_for_server()


def test_the_environment_of_another_server_is_left_out_and_how_models_run_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    foreign = {f"SECTORWATCH_{name}" for name in ("DATABASE_URL", "DATABASE_URL_FILE", "SITES", "FRAMES_URL")}
    for name in (*foreign, "SECTORWATCH_EXECUTION"):
        monkeypatch.setenv(name, "somebody's")
    show = "import os; print(*sorted(name for name in os.environ if name.startswith('SECTORWATCH_')))"
    LocalStack(tmp_path, {})._start("shown", "-c", show).wait(30)
    seen = (tmp_path / "shown.log").read_text().split()
    assert "SECTORWATCH_EXECUTION" in seen
    assert not foreign & {*seen}
