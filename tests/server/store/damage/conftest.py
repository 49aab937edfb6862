"""A database of a yard, whose pages the tests damage."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from server.domain.burst import Burst
from server.store import open_store
from tests.server.scenes import Yard, there_and_back
from tests.stand_ins import ManualClock


@pytest.fixture
def yard(tmp_path: Path, new_sqlite: Callable[[], str], clock: ManualClock) -> Iterator[Yard]:
    yard = Yard(tmp_path / "sites", open_store(new_sqlite(), clock), clock)
    yield yard
    yard.store.close()


@pytest.fixture
def bursts(yard: Yard) -> list[Burst]:
    return yard.walked(there_and_back, 30)


@pytest.fixture
def long_yard(yard: Yard) -> Yard:
    """A yard with some hundred frames, so that its tables have several pages."""
    for number in range(40):
        yard.pipeline.process(yard.walk(number, lambda t: there_and_back(t % 30), number * 2.0))
    return yard
