"""A yard with a past: a walk that was judged, and the commands that ask about it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from server.__main__ import command
from server.store import open_store
from tests.server.scenes import Yard, across
from tests.stand_ins import ManualClock


@pytest.fixture
def url(new_sqlite: Callable[[], str]) -> str:
    return new_sqlite()


@pytest.fixture
def yard(tmp_path: Path, url: str, clock: ManualClock) -> Iterator[Yard]:
    """A yard that someone walked across, in bursts of four frames, two a second, without a gap."""
    store = open_store(url, clock)
    yard = Yard(tmp_path / "sites", store, clock)
    for each in yard.walked(across, 26):
        yard.pipeline.process(each)
    yield yard
    store.close()


@pytest.fixture
def ask(yard: Yard, url: str) -> Callable[..., Result]:
    """Runs a subcommand of `sectorwatch` on the yard's database."""

    def invoke(name: str, *arguments: str) -> Result:
        return CliRunner().invoke(command, [name, *arguments, "--database", url])

    return invoke
