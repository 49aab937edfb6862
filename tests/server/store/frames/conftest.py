"""A past in which somebody walked by, with its pictures."""

from __future__ import annotations

import shutil
from contextlib import closing
from pathlib import Path

import pytest

from server.frames import open_place
from server.store import Store, open_store
from server.store.retention import Place
from tests.server import pasts
from tests.server.pasts import Past
from tests.server.scenes import START_US, Yard, across
from tests.server.store.frames.pictured import (
    SECOND,
    take,
)
from tests.stand_ins import ManualClock


@pytest.fixture
def past() -> Past:
    return Past("pictured", _walk)


def _walk(url: str, folder: Path) -> None:
    clock = ManualClock(START_US + 3600 * SECOND)
    with closing(open_store(url, clock, open_place(str(folder / "frames")))) as store:
        yard = Yard(folder / "sites", store, clock)
        for one in yard.walked(across, 40):
            take(yard, one)


@pytest.fixture
def pictures(tmp_path: Path, database_url: str, past: Past) -> Path:
    """The folder of the pictures that the past has left."""
    shutil.copytree(pasts.files_of(past, pasts.engine_of(database_url)) / "frames", tmp_path / "frames")
    return tmp_path / "frames"


@pytest.fixture
def place(pictures: Path) -> Place:
    return open_place(str(pictures))


@pytest.fixture
def yard(tmp_path: Path, store: Store, clock: ManualClock) -> Yard:
    """A yard in which somebody walked across from 2 to 18 s; the server keeps its pictures in a folder."""
    yard = Yard(tmp_path / "sites", store, clock)
    yard.walked(across, 40)  # its ensemble knows the pictures
    store.frames.own()  # as one does with a copy
    return yard
