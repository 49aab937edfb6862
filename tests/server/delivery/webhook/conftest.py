"""Fixtures only: a receiver, and a store with the events of a walk."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from server.store import Store, open_store
from tests.server.delivery.webhook.receiver import Receiver, receiving
from tests.server.scenes import Yard, across
from tests.stand_ins import ManualClock


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


@pytest.fixture(name="plain_store")
def _plain_store(new_sqlite: Callable[[], str], clock: ManualClock) -> Iterator[Store]:
    """A store on SQLite: what the channel needs of it, all databases give."""
    with closing(open_store(new_sqlite(), clock)) as store:
        yield store


@pytest.fixture
def walked_yard(tmp_path: Path, plain_store: Store, clock: ManualClock) -> Yard:
    yard = Yard(tmp_path / "sites", plain_store, clock)
    for burst in yard.walked(across, 26):
        yard.pipeline.process(burst)
    return yard
