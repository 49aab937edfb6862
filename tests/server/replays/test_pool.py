"""A pool of processes gives what one process gives, in the same order, and ends with its command."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest
from click.testing import CliRunner

from policies.site.site_policy import parse_site_policy
from server.__main__ import command
from server.commands import folding
from server.domain.errors import Refused, SectorwatchError
from server.replays import pool
from server.replays.pool import AHEAD, counted, in_order
from server.serving.machine import Machine
from server.store import Store
from tests.benchmarks.past.replay import fill, site
from tests.server.launched import ROOT

CAMERAS = 3
FRAMES = 900

_WATCHED = """
import signal, sys
from server.replays.pool import in_order
from tests.server.replays.test_pool import block
if __name__ == "__main__":
    print(*in_order(block, [1, 2], 2, print))
"""


def block(number: int) -> int:
    """Says that it has begun, and never ends by itself."""
    os.write(1, b"begun\n")
    signal.pause()
    return number


def doubled(number: int) -> int:
    return 2 * number


def killed(number: int) -> int:
    if number == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def refused(number: int) -> int:
    raise Refused(f"not {number}")


def folded(frames: int) -> int:
    return len(list(counted(range(frames))))


def _silent(line: str) -> None:
    raise AssertionError(line)


@pytest.fixture
def many_cameras(store: Store) -> Store:
    """A site of three cameras under which somebody walks twice."""
    text = site(CAMERAS)
    for camera in parse_site_policy(text).cameras:
        fill(store, parse_site_policy(text), text, camera, FRAMES, "noise")
    return store


def _printed(*arguments: str) -> str:
    result = CliRunner().invoke(command, arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_a_replay_in_several_processes_prints_what_one_prints(many_cameras: Store, database_url: str) -> None:
    for how in (("--json",), ("--full",), ("--check",)):
        one, three = (
            _printed("replay", *how, "--database", database_url, "--processes", processes) for processes in ("1", "3")
        )
        assert one == three
    assert f"of {CAMERAS} cameras, bit for bit" in one


def test_policies_are_tried_in_several_processes_with_the_results_of_one(
    many_cameras: Store, database_url: str
) -> None:
    policies = tuple(
        parse_site_policy(site(CAMERAS).replace('"person"]', f'"person"]\nmin_score = {{"*" = {score}}}', 1))
        for score in (0.3, 0.5, 0.95)
    )
    tasks = [folding.FoldTask(database_url, "pets", camera, policies) for camera in policies[0].cameras]
    one = folding.fold_many(tasks, 1)
    assert any(events for result in one for events in result.events)
    assert folding.fold_many(tasks, 2) == one
    assert folding.fold_many(tasks[:1], 3) == one[:1], "the policies of one camera are shared out"


def test_results_come_in_the_order_of_the_tasks() -> None:
    numbers = list(range(4 * AHEAD + 1))
    assert list(in_order(doubled, numbers, 2, _silent)) == [2 * number for number in numbers]


def test_what_the_work_refuses_is_refused_by_its_own_words() -> None:
    with pytest.raises(Refused, match="not 1"):
        list(in_order(refused, [1, 2], 2, _silent))


def test_a_killed_process_is_told_with_what_to_do() -> None:
    with pytest.raises(SectorwatchError, match="fewer --processes"):
        list(in_order(killed, [0, 1, 2], 2, _silent))


@pytest.fixture
def blocked() -> Iterator[subprocess.Popen[bytes]]:
    """A command whose pool has two processes at work that never end."""
    with subprocess.Popen(
        [sys.executable, "-c", _WATCHED], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert [process.stdout.readline() for _ in range(2)] == [b"begun\n"] * 2
        yield process
        process.kill()


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_no_process_goes_on_without_its_command(blocked: subprocess.Popen[bytes], how: signal.Signals) -> None:
    blocked.send_signal(how)
    assert blocked.stdout is not None
    assert blocked.stdout.read() == b"", "the output ends once nobody has it open any more"
    assert blocked.wait(60) != 0


def test_long_work_says_how_far_it_is_and_not_at_every_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []
    monkeypatch.setattr(pool, "SHOWN_AFTER_S", 0.0)
    assert list(in_order(folded, [2 * pool.COUNT_EVERY, 10], 1, lines.append)) == [2 * pool.COUNT_EVERY, 10]
    (line,) = lines
    assert re.fullmatch(rf"0 of 2 parts done; {pool.COUNT_EVERY} frames folded, [\d,]+ a second \.\.\.", line)


def test_the_default_is_a_process_for_each_processor_that_the_memory_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    def default(processors: int, free_bytes: int | None) -> int:
        given = Machine(processors, None, free_bytes)
        monkeypatch.setattr(folding, "this_machine", lambda: given)
        return folding.default_processes()

    assert default(4, 600 * 2**20) == 2, "a Pi with little memory free"
    assert default(4, 3 * 2**30) == 4
    assert default(1, 10 * 2**20) == 1
    assert default(64, 256 * 2**30) == folding.MOST_PROCESSES
    assert default(2, None) == 2
