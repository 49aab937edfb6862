"""A yard with a past, in small slices."""

from __future__ import annotations

from pathlib import Path

import pytest

from server.store import Store
from server.store.retention import slices
from tests.server.pasts import Past
from tests.server.scenes import Yard
from tests.server.store.retention.yards import walk, walks
from tests.stand_ins import ManualClock


@pytest.fixture(autouse=True)
def small_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slices, "AT_ONCE", 2)


@pytest.fixture
def past() -> Past:
    return Past("walks", walk)


@pytest.fixture
def yard(tmp_path: Path, store: Store, clock: ManualClock) -> Yard:
    """A yard in which somebody walked across, and somebody went there and back a minute later."""
    yard = Yard(tmp_path / "sites", store, clock)
    walks(yard)  # its ensemble knows their pictures
    return yard
