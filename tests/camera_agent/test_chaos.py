"""A bad link and killed agents: every burst arrives once, in order, soon after the link is back.

What a kill or a full disk does at each step of the spool is in `test_every_step`.
"""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.camera_agent.chaos import Fault, Proxy, faults
from tests.camera_agent.conftest import AgentProcess
from tests.camera_agent.stand_in import StandIn
from tests.camera_agent.storm import Storm, weather

Start = Callable[..., AgentProcess]
KINDS: tuple[Fault, ...] = ("short", "cut", "reset", "deaf", "slow", "error", "hang")
BURSTS = 12


def settings(folder: Path, url: str, footage: Path) -> Path:
    path = folder / "agent.toml"
    path.write_text(
        f'site = "yard"\nstate_dir = "state"\n[server]\nurl = "{url}"\nread_timeout_s = 0.5\nheartbeat_s = 0\n'
        f'[[cameras]]\nname = "gate"\nvideo = "{footage}"\nspeed = 0\nframes_per_s = 10\n'
        "started_at = 2026-01-01T00:00:00Z\nburst = { frames = 5 }\n"
    )
    return path


@pytest.mark.parametrize("seed", [1])
def test_under_faults_and_kills_every_burst_arrives_once_and_in_order(
    tmp_path: Path, server: StandIn, footage: Path, start_agent: Start, seed: int
) -> None:
    chance = random.Random(seed)
    kills = sorted(chance.sample(range(1, BURSTS), 2))
    running: list[AgentProcess] = []

    def perhaps_kill(count: int) -> None:
        del count
        if kills and len(server.bursts) >= kills[0]:
            kills.pop(0)
            running[-1].kill()

    server.on_arrival = perhaps_kill
    is_bad = lambda: len(server.bursts) < BURSTS - 2  # noqa: E731
    with Proxy(server.url, faults(seed, KINDS, is_bad)) as proxy:
        path = settings(tmp_path, proxy.url, footage)
        code = None
        while code != 0:
            running.append(start_agent("run", path))
            code = running[-1].wait(120.0)
            assert code in (0, -signal.SIGKILL), running[-1].lines
    assert len(running) == 3
    assert set(proxy.met) >= set(KINDS)
    captured = [seen.envelope["captured_at"] for seen in server.bursts.values()]
    assert len(captured) == BURSTS
    assert captured == sorted(set(captured))
    identities = {seen.envelope["burst_id"]: seen.identity for seen in server.bursts.values()}
    assert all(seen.identity == identities[seen.envelope["burst_id"]] for seen in server.arrivals)


def test_a_link_that_is_back_is_used_after_the_announced_delay(
    tmp_path: Path, server: StandIn, footage: Path, start_agent: Start
) -> None:
    is_down = True
    with Proxy(server.url, faults(0, ("cut",), lambda: is_down)) as proxy:
        agent = start_agent("run", settings(tmp_path, proxy.url, footage))
        for _ in range(2):
            failure = agent.wait_for_line("sending_failed")
            agent.lines.remove(failure)
        is_down = False
        back_s = time.monotonic()
        server.wait_for(lambda: bool(server.bursts))
        assert time.monotonic() - back_s < float(failure.split("retry_in_s=")[1]) + 1.0
        assert agent.wait() == 0
    assert len(server.bursts) == BURSTS


def test_real_agents_and_a_real_server_lose_and_repeat_nothing_under_faults(
    tmp_path: Path,
) -> None:
    """A short piece of `python -m tests.benchmarks.agent.chaos`: two agents, one of them killed now and then."""
    storm = Storm(
        duration_s=8.0,
        shortest_s=0.2,
        longest_s=1.2,
        spacing_s=0.1,
        read_timeout_s=0.6,
        kill_every_s=4.0,
        seed=3,
    )
    outcome = weather(storm, tmp_path)
    assert outcome.wrong == []
    assert outcome.kills > 0
    assert outcome.failures > 0
    assert len(outcome.pieces) > 4
    assert min(outcome.taken.values()) > 10
