"""Fixtures only: a folder of site policies whose versions are in a database."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from server.store import open_store
from tests.server.pipeline.versions.folder import Folder
from tests.stand_ins import ManualClock


@pytest.fixture
def url(new_sqlite: Callable[[], str]) -> str:
    return new_sqlite()


@pytest.fixture
def yard(tmp_path: Path, url: str, clock: ManualClock) -> Iterator[Folder]:
    with closing(open_store(url, clock)) as store:
        yield Folder(tmp_path / "sites", store)
