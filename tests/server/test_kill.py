"""Killed with SIGKILL at any instant and started again, the server ends with the log of an undisturbed run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from policies.events import Event
from server.store import Store, open_store
from tests.server.scenes import Yard, across
from tests.stand_ins import ManualClock

ROOT = Path(__file__).parents[2]


def walker(url: str, folder: Path, *more: str, name: str = "walker") -> subprocess.Popen[str]:
    command = [sys.executable, "-m", f"tests.server.{name}", url, str(folder), *more]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)


def undisturbed(folder: Path, url: str, clock: ManualClock) -> list[Event]:
    store = open_store(url, clock)
    yard = Yard(folder, store, clock)
    for one in yard.walked(across, 26):
        yard.pipeline.process(one)
    events = [logged.event for logged in store.events()]
    store.close()
    return events


def assert_undisturbed(store: Store, folder: Path, expected: list[Event]) -> None:
    assert [logged.event for logged in store.events()] == expected
    assert not any(logged.late or logged.is_withdrawn for logged in store.events(after_seq=0))
    assert store.counts()["observations"] == 13 * 4
    lines = (folder / "events.log").read_text(encoding="utf-8").splitlines()
    delivered = {msgspec.json.decode(line)["id"] for line in lines if line.endswith("}")}
    assert delivered == {event.id for event in expected}, "nothing that was committed stayed undelivered"


def test_killed_in_the_middle_of_its_turns(
    store: Store, database_url: str, tmp_path: Path, new_sqlite: Callable[[], str], clock: ManualClock
) -> None:
    expected = undisturbed(tmp_path / "sites", new_sqlite(), clock)
    for write in (1, 2, 3, 5, 8, 13, 21, 34):
        process = walker(database_url, tmp_path, str(write))
        process.communicate(timeout=60)
        assert process.returncode == -signal.SIGKILL, f"it died at write {write}"
    process = walker(database_url, tmp_path)
    process.communicate(timeout=60)
    assert process.returncode == 0
    assert_undisturbed(store, tmp_path, expected)


@pytest.mark.parametrize("bursts", [1, 4])
def test_killed_from_outside_whenever_it_happens_to_be(
    bursts: int, tmp_path: Path, new_sqlite: Callable[[], str], clock: ManualClock
) -> None:
    expected = undisturbed(tmp_path / "sites", new_sqlite(), clock)
    url = new_sqlite()
    for _ in range(3):
        with walker(url, tmp_path) as process:
            assert process.stdout is not None
            for _line in range(bursts):
                process.stdout.readline()
            process.kill()
        assert process.returncode == -signal.SIGKILL
    with walker(url, tmp_path) as process:
        process.communicate(timeout=60)
    assert process.returncode == 0
    store = open_store(url, clock)
    assert_undisturbed(store, tmp_path, expected)
    store.close()


def test_killed_at_any_write_of_a_refold_the_log_is_as_before_or_corrected_and_the_next_process_finishes_it(
    store: Store, database_url: str, tmp_path: Path, new_sqlite: Callable[[], str], clock: ManualClock
) -> None:
    expected = undisturbed(tmp_path / "sites", new_sqlite(), clock)
    before: list[Event] = []
    for write in (1, 2, 3, 5, 8, 9):
        process = walker(database_url, tmp_path, str(write), name="late_walker")
        process.communicate(timeout=60)
        assert process.returncode == -signal.SIGKILL, f"it died at write {write}"
        now = [logged.event for logged in store.events()]
        assert now == (before or now) != expected, "nothing of a refold shows before its commit"
        before = now
    process = walker(database_url, tmp_path, name="late_walker")
    process.communicate(timeout=60)
    assert process.returncode == 0
    assert [logged.event for logged in store.events()] == expected
    assert store.marked() == []
    assert store.counts()["observations"] == 13 * 4
