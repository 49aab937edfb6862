"""A yard with a past, for the tests of retention."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from policies.events import Event
from server.commands.folding import FoldTask, fold_as_accepted
from server.domain.burst import Burst
from server.store import Store, open_store
from tests.server.scenes import START_US, Yard, across, there_and_back
from tests.stand_ins import ManualClock

SECOND = 1_000_000
DAY_S = 86_400.0


def walk(url: str, folder: Path) -> None:
    clock = ManualClock(START_US + 3600 * SECOND)
    with closing(open_store(url, clock)) as store:
        yard = Yard(folder / "sites", store, clock)
        for one in walks(yard):
            yard.pipeline.process(one)


def walks(yard: Yard) -> list[Burst]:
    later = [yard.walk(100 + n, lambda t: there_and_back(t - 60), 60 + 2 * n) for n in range(16)]
    return yard.walked(across, 26) + later


def log(store: Store) -> list[Event]:
    return [logged.event for logged in store.events()]


def replayed(yard: Yard) -> list[Event]:
    return fold_as_accepted(FoldTask(str(yard.store._engine.url.render_as_string(False)), "yard", "gate"))


def first_s(store: Store) -> float:
    return (next(iter(store.observations("yard", "gate"))).at_us - START_US) / SECOND
