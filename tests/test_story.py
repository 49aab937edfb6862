"""The whole story with nothing left out: real footage, real weights, real processes, ended without warning."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from subprocess import Popen

import pytest

from policies.events import Event
from policies.fold import advance, initial_state
from server.commands.local_stack import Agent, LocalStack
from server.store import Store, open_store

SITE = Path(__file__).parents[1] / "deploy" / "sites" / "pets.toml"
WITHIN_LOOKS, LOOK_S = 1200, 0.1


def recording(footage: Path) -> dict[str, object]:
    """The footage at one frame a second, as fast as the server takes it: 80 frames in 20 bursts."""
    return {
        "name": "view1",
        "video": str(footage),
        "speed": 0,
        "frames_per_s": 1.0,
        "started_at": "2026-01-01T00:00:00Z",
        "at_end": "stop",
        "burst": {"frames": 4},
    }


def local_stack(folder: Path) -> LocalStack:
    folder.mkdir()
    return LocalStack(folder, {"pets": SITE.read_text()}, ["yolov3-tiny", "frame-change"])


def crash(process: Popen[bytes]) -> None:
    """Kill a process with its children, as a power cut would."""
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def log_of(store: Store) -> list[Event]:
    return [logged.event for logged in store.events()]


def until(agent: Agent, reached: Callable[[], bool]) -> None:
    """Wait until something is so, while the agent works or after it has ended; fail if it never is."""
    for _ in range(WITHIN_LOOKS):
        if reached() or agent.wait(LOOK_S):
            break
    assert reached()


@pytest.fixture(scope="module")
def undisturbed(footage: Path, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """The store after a run in which nothing went wrong."""
    with local_stack(tmp_path_factory.mktemp("calm") / "run") as run:
        agent = run.agent("pets", recording(footage))
        assert agent.wait(WITHIN_LOOKS * LOOK_S)
        return open_store(run.database_url)


def test_people_enter_move_through_and_leave_the_sectors_of_the_scene(undisturbed):
    kinds = {event.kind for event in log_of(undisturbed)}
    assert kinds == {"presence_started", "presence_ended", "entered", "left", "moved", "crossed"}
    assert sum(1 for _ in undisturbed.observations("pets", "view1")) == 80


def test_replay_of_the_stored_observations_gives_the_live_events_exactly(undisturbed):
    policy, state, events = None, initial_state(), []
    for recorded in undisturbed.history("pets", "view1"):
        policy = undisturbed.policy(recorded.policy).camera("view1")
        state, settled = advance(policy, state, recorded.observation)
        events += settled
    assert events == log_of(undisturbed)


def test_killing_server_and_agent_at_any_point_leaves_the_log_of_an_undisturbed_run(undisturbed, footage, tmp_path):
    with local_stack(tmp_path / "run") as run:
        store = open_store(run.database_url)
        agent = run.agent("pets", recording(footage))
        for bursts, victim in ((1, "server"), (4, "agent"), (7, "both"), (11, "agent"), (14, "server")):
            until(agent, lambda bursts=bursts: store.counts()["bursts"] >= bursts)
            if victim in ("agent", "both"):
                crash(agent.process)
            if victim in ("server", "both"):
                crash(run.server)
                run.start_server()
            if victim in ("agent", "both"):
                agent = run.agent("pets", recording(footage))
        assert agent.wait(WITHIN_LOOKS * LOOK_S)
        assert store.counts()["bursts"] == undisturbed.counts()["bursts"]
        assert log_of(store) == log_of(undisturbed)
