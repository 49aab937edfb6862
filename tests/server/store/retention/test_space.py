"""What the database takes on the disk, and how it gives space back."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import event, insert

from server.domain.errors import DatabaseUnavailable
from server.domain.keeping import Keep
from server.store import Store, open_store
from server.store.retention import space
from server.store.schema import panels
from tests.server.scenes import Yard, across
from tests.server.store.retention.yards import DAY_S
from tests.stand_ins import ManualClock


def test_the_file_shrinks_when_bursts_go(
    tmp_path: Path, new_sqlite: Callable[[], str], clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(space, "_RESERVE", 0)
    url = new_sqlite()
    store = open_store(url, clock)
    file = Path(url.removeprefix("sqlite:///"))
    with store._engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE ballast (bytes BLOB)")
        connection.exec_driver_sql("INSERT INTO ballast VALUES (zeroblob(4000000))")
    with store._engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE ballast")
    store.retention.sweep(lambda _site: Keep())
    store.close()
    assert file.stat().st_size < 400_000


def test_a_small_file_of_an_earlier_version_shrinks_from_its_upgrade_on(tmp_path: Path, clock: ManualClock) -> None:
    file = tmp_path / "old.sqlite"
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("CREATE TABLE ballast (bytes BLOB)")
        connection.execute("INSERT INTO ballast VALUES (zeroblob(4000000))")
        connection.commit()
        connection.execute("DROP TABLE ballast")
        connection.commit()
    store = open_store(f"sqlite:///{file}", clock)
    store.upgrade()
    assert store.retention.space().gives_back
    store.close()
    assert file.stat().st_size < 400_000


def test_the_growth_of_the_database_says_when_its_disk_is_full(store: Store, clock: ManualClock) -> None:
    assert store.retention.space().full_in_s is None
    store.retention.sweep(lambda _site: Keep())
    with store._engine.begin() as connection:
        connection.execute(insert(panels), [{"ensemble": f"{n}", "body": "x" * 2000} for n in range(500)])
    clock.advance(DAY_S)
    store.retention.sweep(lambda _site: Keep())
    room = store.retention.space()
    assert room.grows_bytes_a_day is not None
    assert 900_000 < room.grows_bytes_a_day < 3_000_000
    if room.free_bytes is not None:
        assert room.full_in_s == pytest.approx(room.free_bytes / room.grows_bytes_a_day * DAY_S)


def test_a_database_that_takes_nothing_is_not_ready_until_it_does_again(
    tmp_path: Path, new_sqlite: Callable[[], str], clock: ManualClock
) -> None:
    yard = Yard(tmp_path / "sites", open_store(new_sqlite(), clock), clock)
    with yard.store._engine.connect() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
    limits = [pages, pages + 10_000]

    def limit(connection: sqlite3.Connection, *_: object) -> None:
        connection.execute(f"PRAGMA max_page_count = {limits[0]}")

    event.listen(yard.store._engine, "checkout", limit)
    yard.store.check()
    with pytest.raises(DatabaseUnavailable):
        send_many(yard)
    with pytest.raises(DatabaseUnavailable, match=r"full.*no burst is accepted"):
        yard.store.check()
    yard.store.retention.try_disk()
    with pytest.raises(DatabaseUnavailable, match="full"):
        yard.store.check()
    del limits[0]
    yard.store.retention.try_disk()
    yard.store.check()


def send_many(yard: Yard) -> None:
    for n in range(200):
        yard.pipeline.process(yard.walk(2000 + n, across, 100 + 2 * n))
