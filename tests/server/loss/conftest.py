"""Fixtures only: a PostgreSQL that can be lost."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.server import databases
from tests.server.databases import Cluster


@pytest.fixture
def durable() -> Iterator[tuple[Cluster, str]]:
    with databases.durable_database() as both:
        yield both


@pytest.fixture(autouse=True)
def _own(own_folder: None) -> None:
    pass
