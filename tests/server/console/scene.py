"""A console over a yard with a past: somebody walks across a yard, is seen by two models, and comes again."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flask import Flask

from policies.events import Event
from server.app import create_app, runtime_of
from server.domain.keeping import KeepFrames
from server.frames import FrameKeeper
from server.settings import ServerSettings
from server.store import Store
from tests.server import new_sqlite
from tests.server.scenes import START_US, YARD, Yard, across
from tests.stand_ins import ManualClock, ScriptedEnsemble

OSLO = YARD.replace('site = "yard"', 'site = "yard"\ntimezone = "Europe/Oslo"')
NOW_US = START_US + 3_600_000_000


@contextmanager
def console(
    folder: Path, text: str = OSLO, until_s: float = 26, like: Path | None = None
) -> Iterator[tuple[Flask, Yard]]:
    """An application whose site `yard` has this policy, and the yard, for more bursts. Its pictures are kept.

    `like`: the folder of an application that was made before, which is copied instead.
    """
    if like is not None:
        shutil.copytree(like, folder, dirs_exist_ok=True)
    else:
        (folder / "sites").mkdir(parents=True)
        new_sqlite.provide(folder / "sectorwatch.sqlite")
    clock = ManualClock(NOW_US)
    app = create_app(ServerSettings(data_dir=folder), ensemble=ScriptedEnsemble([]), channels=[], clock=clock)
    store = runtime_of(app).store
    yard = Yard(folder / "sites", store, clock, text)
    if like is None:
        keeper = FrameKeeper(store.frames, lambda _site, _older: KeepFrames("all"), 10**9)
        for one in yard.walked(across, until_s):
            yard.pipeline.process(one)
            keeper.offer(one, [0.5] * len(one.frames))
        keeper.drain()
    yield app, yard
    store.close()


def event_of(store: Store, kind: str, sector: str | None = None) -> Event:
    """The first event of a kind (in a sector)."""
    return next(e.event for e in store.events() if e.event.kind == kind and sector in (None, e.event.sector))
