"""A yard whose pictures are kept: steps and looks of the tests here."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import pytest
from sqlalchemy import select

from server.domain.burst import Burst
from server.domain.errors import DatabaseUnavailable
from server.domain.keeping import Keep, KeepFrames
from server.frames import FrameKeeper, open_place
from server.store import Store, open_store
from server.store.retention import frames
from server.store.schema import leaving_frames
from tests.server import new_sqlite
from tests.server.scenes import START_US, Yard
from tests.stand_ins import ManualClock

SECOND = 1_000_000
DAY_S = 86_400.0
EVENTS = Keep(frames=KeepFrames("events"))
ALL = Keep(frames=KeepFrames("all"))


def keeper(store: Store) -> FrameKeeper:
    return FrameKeeper(store.frames, lambda _site, _older: KeepFrames("events"), 10**9)


def take(yard: Yard, one: Burst, brightness: float | None = None) -> None:
    yard.pipeline.process(one)
    offer(yard.store, one, brightness)


def offer(store: Store, one: Burst, brightness: float | None = None) -> None:
    keeps = keeper(store)
    keeps.offer(one, [brightness] * len(one.frames))
    keeps.drain()


def on_disk(pictures: Path) -> set[str]:
    """The names of all pictures in their place."""
    return {file.name for file in pictures.rglob("*") if file.is_file() and file.name != "owner"}


def kept_s(yard: Yard, camera: str = "gate") -> list[float]:
    """The instants of the kept frames, in seconds."""
    return [(each.at_us - START_US) / SECOND for each in yard.store.frames.find("yard", camera, None, None, 1000)]


def later(yard: Yard, days: float) -> None:
    """Another burst comes so many days later, in which nobody is seen."""
    yard.clock.advance(days * DAY_S)
    at_s = (yard.clock() - START_US) / SECOND - 60
    take(yard, yard.walk(round(at_s), lambda _t: None, at_s))


def sweep(yard: Yard, keep: Keep) -> int:
    return yard.store.retention.sweep(lambda _site: keep).frames


def noted(yard: Yard) -> set[str]:
    """The pictures that are to be deleted."""
    with yard.store._engine.begin() as connection:
        return {each.hex() for each in connection.execute(select(leaving_frames.c.sha256)).scalars()}


@contextmanager
def without_writes(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Another process writes to the database for long."""

    def busy(_engine: object, lock: str) -> NoReturn:
        raise DatabaseUnavailable(f"{lock}: the database does not answer")

    with monkeypatch.context() as patched:
        patched.setattr(frames, "writing", busy)
        yield


def age_files(pictures: Path) -> None:
    for file in pictures.rglob("*"):
        os.utime(file, (0, 0))


def sqlite_yard(file: Path, clock: ManualClock, pictures: Path) -> Yard:
    new_sqlite.provide(file)
    return Yard(file.with_suffix(".sites"), open_store(f"sqlite:///{file}", clock, open_place(str(pictures))), clock)
