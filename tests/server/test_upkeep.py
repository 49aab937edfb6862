"""The upkeep is done by the server that has the lease for it, and ends when that is lost."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from server.app.upkeep import Upkeep
from server.domain.keeping import Keep
from server.frames import open_place
from server.pipeline.advancing import Advancing
from server.store import Store
from server.store.retention import Place, slices
from tests.server.scenes import START_US, Yard, across
from tests.stand_ins import ManualClock

DAY_US = 86_400 * 1_000_000


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return open_place(f"file://{tmp_path}/pictures")


def upkeep_of(store: Store, clock: ManualClock, is_mine: Callable[[], bool], keep_days: float = 1.0) -> Upkeep:
    return Upkeep(
        store,
        is_mine=is_mine,
        keep_of=lambda _site: Keep(observations_days=keep_days, events_days=keep_days),
        keep_days=keep_days,
        release_held=Advancing(store, clock).release_held,
        committed=lambda: None,
    )


def do_all(upkeep: Upkeep) -> None:
    stopping = threading.Event()
    upkeep.release()
    upkeep.refold(stopping)
    upkeep.convert(stopping)
    upkeep.retain(stopping)
    upkeep.sweep_frames(stopping)


def test_nothing_of_it_is_done_while_another_server_has_the_lease(
    store: Store, clock: ManualClock, tmp_path: Path
) -> None:
    yard = Yard(tmp_path / "sites", store, clock)
    bursts = yard.walked(across, 10)
    clock.now_us = START_US - DAY_US
    for one in bursts[:5]:
        yard.pipeline.process(one)
    clock.now_us = START_US + 3 * DAY_US
    for _ in range(3):
        do_all(upkeep_of(store, clock, lambda: False))
    assert [held.bursts for held in store.marked()] == [5]
    do_all(upkeep_of(store, clock, lambda: True))
    assert store.marked() == []


def test_what_is_too_old_is_deleted_by_the_one_with_the_lease_until_it_is_lost(
    store: Store, clock: ManualClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slices, "AT_ONCE", 2)
    yard = Yard(tmp_path / "sites", store, clock)
    for one in yard.walked(across, 26):
        yard.pipeline.process(one)
    kept = store.counts()["observations"]
    clock.now_us += 40 * DAY_US
    asked = iter([True, True, *[False] * 1000])
    upkeep_of(store, clock, lambda: next(asked), keep_days=1 / 86_400).retain(threading.Event())
    some = store.counts()["observations"]
    upkeep_of(store, clock, lambda: True, keep_days=1 / 86_400).retain(threading.Event())
    assert store.counts()["observations"] < some < kept
