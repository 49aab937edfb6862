"""What the agent costs: the modules that it loads, and its resident memory."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil

from tests.camera_agent.cameras.test_cameras import answering, serving
from tests.camera_agent.conftest import CHECKOUT, AgentProcess, jpeg, make_video
from tests.camera_agent.stand_in import StandIn

Write = Callable[..., Path]
Start = Callable[..., AgentProcess]

FORBIDDEN = ("torch", "torchvision", "server", "policies", "flask", "sqlalchemy")
BOUND_BYTES = 90_000_000
BOUND_PILLOW_BYTES = 60_000_000

RUN_AND_LIST_MODULES = """
import json, sys
from camera_agent.__main__ import command
code = command(sys.argv[1:])
print(json.dumps([code, sorted({name.partition(".")[0] for name in sys.modules})]))
"""


def modules_after(*arguments: object) -> set[str]:
    """The top-level modules that a process has loaded after it ran the command."""
    run = subprocess.run(
        [sys.executable, "-c", RUN_AND_LIST_MODULES, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=True,
        cwd=CHECKOUT,
        timeout=180,
    )
    code, modules = json.loads(run.stdout.splitlines()[-1])
    assert code == 0, run.stderr
    return set(modules)


def test_an_agent_that_ran_over_footage_holds_neither_torch_nor_server_nor_policies(
    server: StandIn, footage: Path, write_settings: Write
) -> None:
    modules = modules_after("run", write_settings(f'video = "{footage}"\nspeed = 0'))
    assert modules.isdisjoint(FORBIDDEN)
    assert "PIL" not in modules
    assert server.bursts


def test_an_agent_without_opencv_cameras_never_loads_opencv(
    tmp_path: Path, server: StandIn, write_settings: Write
) -> None:
    (tmp_path / "stills").mkdir()
    for number in range(5):
        (tmp_path / f"stills/{number}.jpg").write_bytes(jpeg(number))
    modules = modules_after("run", write_settings('folder = "stills"\npictures_per_s = 1\nspeed = 0'))
    assert modules.isdisjoint({*FORBIDDEN, "cv2", "numpy"})
    assert server.bursts


def resident_bytes(agent: AgentProcess) -> int:
    return int(psutil.Process(agent.pid).memory_info().rss)


def test_resident_memory_stays_under_its_bound_with_opencv_and_does_not_grow(
    tmp_path: Path, server: StandIn, write_settings: Write, start_agent: Start
) -> None:
    """Pictures are as large as a surveillance camera's; memory is read while bursts are sent."""
    make_video(tmp_path / "long.avi", pictures=400, width=768, height=576)
    agent = start_agent("run", write_settings('video = "long.avi"\nspeed = 0\nframes_per_s = 5\nquality = 95'))
    read: list[int] = []

    def look(count: int) -> None:
        del count
        read.append(resident_bytes(agent))

    server.on_arrival = look
    assert agent.wait() == 0
    assert len(server.bursts) == 40
    assert max(read) < BOUND_BYTES
    assert max(read[-5:]) - max(read[5:10]) < 3_000_000


def test_resident_memory_stays_under_its_bound_with_pillow(
    server: StandIn, write_settings: Write, start_agent: Start
) -> None:
    with serving(answering(jpeg(3, width=1920, height=1080))) as url:
        text = f'snapshot = "{url}"\nmax_width = 640\nburst = {{ frames = 5, spacing_s = 0.05 }}'
        agent = start_agent("run", write_settings(text))
        read: list[int] = []
        server.on_arrival = lambda count: read.append(resident_bytes(agent))
        server.wait_for(lambda: len(server.bursts) >= 20)
        agent.stop()
        assert agent.wait(60.0) == 0
    assert max(read) < BOUND_PILLOW_BYTES
