"""Two servers keep pictures in one place at the same time: none twice, none lost, none that nothing names."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import select

from server.domain.burst import Burst
from server.store import Store, open_store
from server.store.engine import also_lock, writing
from server.store.retention import Place
from server.store.schema import kept_frames
from tests.server.scenes import START_US, Yard, burst
from tests.server.store.frames.pictured import SECOND, offer, on_disk, take
from tests.stand_ins import ManualClock

CAMERAS = ("gate", "shed", "lane")


@pytest.fixture
def another(database_url: str, store: Store, clock: ManualClock, place: Place) -> Iterator[Store]:
    """The store of another server."""
    with closing(open_store(database_url, clock, place)) as other:
        yield other


def bursts_of(yard: Yard) -> list[Burst]:
    """Bursts of three cameras, which are stored; all see the same picture in their first frame."""
    shared = yard.picture(0.3, at_s=99.25)
    made = []
    for number in range(18):
        at_s = 100.0 + 2 * number
        images = [shared, *(yard.picture(at_s=at_s + each) for each in range(1, 4))]
        made.append(burst(500 + number, images, at_s, camera=CAMERAS[number % 3]))
        yard.pipeline.process(made[-1])
    return made


def rows(store: Store) -> list[tuple[int, int, str, int]]:
    with store._engine.connect() as connection:
        columns = (kept_frames.c.camera, kept_frames.c.at_us, kept_frames.c.sha256, kept_frames.c.bytes)
        found = connection.execute(select(*columns).order_by(kept_frames.c.camera, kept_frames.c.at_us)).all()
    return [(row.camera, row.at_us, row.sha256.hex(), row.bytes) for row in found]


def test_what_two_servers_keep_and_a_third_erases_at_the_same_time_is_there_once_and_nothing_else(
    yard: Yard, pictures: Path, store: Store, another: Store
) -> None:
    made = bursts_of(yard)

    def keep(server: Store, bursts: list[Burst]) -> None:
        for one in bursts:
            offer(server, one)

    def erase() -> None:
        store.retention.erase("yard", "gate", START_US, START_US + 50 * SECOND, author="anna")

    with ThreadPoolExecutor(3) as pool:
        work = [
            pool.submit(keep, store, made),
            pool.submit(keep, another, made[::-1]),  # the agents send each burst to both
            pool.submit(erase),
        ]
        for each in work:
            each.result()
    store.frames.remove_leaving()
    expected = {(one.camera, frame.at_us, frame.sha256) for one in made for frame in one.frames}
    kept = rows(store)
    assert len(kept) == len({row[:3] for row in kept}) == len(expected)
    assert {row[2] for row in kept} == {sha256 for _, _, sha256 in expected} == on_disk(pictures)
    totals = store.frames.totals()
    assert sum(each.frames for each in totals) == len(expected)
    assert sum(each.bytes for each in totals) == sum(row[3] for row in kept)


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_a_server_that_keeps_pictures_of_one_camera_does_not_hold_up_another_camera(
    yard: Yard, store: Store, another: Store
) -> None:
    made = bursts_of(yard)
    before = len(rows(store))
    with writing(store._engine, lock="frames/yard/gate") as connection:
        also_lock(connection, "frames", is_shared=True)
        offer(another, made[1])  # of the shed; after 30 s of waiting it would be given up
        assert len(rows(another)) == before + 4


def test_a_picture_that_one_camera_may_not_keep_stays_for_the_one_that_does(
    yard: Yard, pictures: Path, store: Store, another: Store
) -> None:
    made = bursts_of(yard)
    store.retention.erase("yard", "shed", START_US, START_US + 200 * SECOND, author="anna")
    for one in made[:2]:
        offer(another, one)
    sha256 = made[0].frames[0].sha256
    assert sha256 in on_disk(pictures)
    assert [row[2] for row in rows(store)].count(sha256) == 1
    take(yard, made[0])
    assert not on_disk(pictures) - {row[2] for row in rows(store)}
