"""Fixtures only: databases, and the parts around them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from argon2 import PasswordHasher
from flask import Flask

from server.app.runtime import Runtime
from server.hosting.self_signed import Pair
from server.settings import described
from server.store import Store, open_store
from server.store.people import passwords
from server.store.retention import Place
from tests.server import databases, new_sqlite, pasts
from tests.server.doors import SCHEMES, certified, self_signed
from tests.server.launched import ROOT, Running
from tests.server.pasts import Past
from tests.server.scenes import START_US
from tests.server.swaps import Shelf, serving
from tests.stand_ins import ManualClock

_numbers = itertools.count(1)


@pytest.fixture
def clock() -> ManualClock:
    """An hour after the scenes begin: nothing they hold lies in the future."""
    return ManualClock(START_US + 3_600_000_000)


@pytest.fixture(name="new_sqlite")
def _new_sqlite(tmp_path: Path) -> Callable[[], str]:
    """Makes fresh, migrated SQLite databases and gives their URLs."""

    def make() -> str:
        path = tmp_path / f"{next(_numbers)}.sqlite"
        new_sqlite.provide(path)
        return f"sqlite:///{path}"

    return make


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """URL of a database of our own on a PostgreSQL server."""
    with databases.postgresql_database() as url:
        yield url


@pytest.fixture
def past() -> Past | None:
    """What the database of `store` has been through: nothing, unless the tests of a module say otherwise."""
    return None


@pytest.fixture(params=databases.NAMES)
def database_url(request: pytest.FixtureRequest, tmp_path: Path, past: Past | None) -> str:
    """An empty database, on each of the engines: what holds on one must hold on the other. Under a `store` it is
    migrated, and has its `past`."""
    is_migrated = "store" in request.fixturenames
    if request.param == "sqlite":
        file = tmp_path / "sectorwatch.sqlite"
        if is_migrated and past is not None:
            pasts.provide_sqlite(past, file)
        elif is_migrated:
            new_sqlite.provide(file)
        return f"sqlite:///{file}"
    url: str = request.getfixturevalue("postgresql")
    if is_migrated and past is not None:
        pasts.provide_postgresql(past, url)
        return url
    databases.renew(url, is_migrated=is_migrated)
    return url


@pytest.fixture
def place() -> Place | None:
    """Where the `store` keeps pictures: nowhere, unless the tests of a module say otherwise."""
    return None


@pytest.fixture
def store(database_url: str, clock: ManualClock, place: Place | None) -> Iterator[Store]:
    """A migrated, empty store on each engine."""
    store = open_store(database_url, clock, place)
    yield store
    store.close()


@pytest.fixture
def cheap_passwords(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hashes of passwords that take no time."""
    monkeypatch.setattr(passwords, "_hasher", PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))
    monkeypatch.setattr(passwords, "_nobody", [])


@pytest.fixture
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The settings of a server of its own, also in processes that are started."""
    for setting in described():
        monkeypatch.delenv(setting.variable, raising=False)
    monkeypatch.setenv("SECTORWATCH_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("SECTORWATCH_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """A self-signed certificate for 127.0.0.1, and its key."""
    return self_signed(tmp_path_factory.mktemp("certificate"))


@pytest.fixture(params=SCHEMES)
def scheme(request: pytest.FixtureRequest, tmp_path: Path, certificate: Pair) -> str:
    """HTTP, and HTTPS with a certificate in `tmp_path`: what holds by one must hold by the other."""
    if request.param == "https":
        certified(tmp_path, certificate)
    return str(request.param)


@pytest.fixture
def running() -> Iterator[list[Running]]:
    """Servers that are ended, with their children, whatever becomes of the test."""
    started: list[Running] = []
    yield started
    for server in started:
        server.end()


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


@pytest.fixture
def served(tmp_path: Path, shelf: Shelf) -> Iterator[tuple[Flask, Runtime]]:
    with serving(tmp_path, shelf) as both:
        yield both
