"""The keeper writes pictures beside intake, in a bounded queue, and counts what it does not keep."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence

import pytest

from server.domain.burst import Burst
from server.domain.errors import DatabaseDamaged, DatabaseUnavailable
from server.domain.keeping import KeepFrames
from server.domain.pictures.kept_frames import Kept, Picture
from server.frames import FrameKeeper
from server.frames import keeper as keeper_module
from tests.server.scenes import burst


class Shelves:
    """Remembers what it keeps; `failing` many times the database does not answer, and it takes at most `most`."""

    def __init__(self, failing: int = 0, most: int = 10**6) -> None:
        self.kept: list[Picture] = []
        self.failing = failing
        self.most = most

    def keep(self, pictures: Sequence[Picture]) -> Kept:
        if self.failing:
            self.failing -= 1
            raise DatabaseUnavailable("busy")
        taken = pictures[: self.most]
        self.kept += taken
        refused = len(pictures) - len(taken)
        return Kept(len(taken), refused, "no space left" if refused else None)

    def older_sites(self) -> frozenset[str]:
        return frozenset({"old"})


class Counted:
    def __init__(self) -> None:
        self.kept: list[tuple[int, int]] = []
        self.lost: list[tuple[int, str]] = []


def keeper(shelves: Shelves, counted: Counted, most_bytes: int = 1000) -> FrameKeeper:
    return FrameKeeper(
        shelves,
        lambda _site, is_older: KeepFrames().chosen(is_older=is_older),
        most_bytes,
        on_kept=lambda frames, size: counted.kept.append((frames, size)),
        on_not_kept=lambda frames, cause: counted.lost.append((frames, cause)),
    )


def one(number: int, size: int = 10) -> Burst:
    return burst(number, [bytes([number, index]) * (size // 2) for index in range(2)], float(number))


def test_what_is_offered_is_kept_with_its_brightness_and_counted() -> None:
    shelves, counted = Shelves(), Counted()
    keeps = keeper(shelves, counted)
    keeps.offer(one(1), [0.25, None])
    keeps.drain()
    assert [(each.site, each.brightness, len(each.image)) for each in shelves.kept] == [
        ("yard", 0.25, 10),
        ("yard", None, 10),
    ]
    assert counted.kept == [(2, 20)]
    assert keeps.waiting_bytes == 0


def test_a_queue_that_is_full_takes_no_more_and_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    shelves, counted = Shelves(), Counted()
    keeps = keeper(shelves, counted, most_bytes=50)
    with caplog.at_level(logging.INFO):
        for number in range(5):
            keeps.offer(one(number), [None] * 2)
        assert counted.lost == [(2, "busy")] * 3
        keeps.drain()
        keeps.offer(one(9), [None] * 2)
        keeps.drain()
    assert len(shelves.kept) == 6
    assert [record.message for record in caplog.records] == [
        "pictures are not kept; bursts are",
        "pictures are kept again",
    ]


def test_a_burst_larger_than_the_queue_is_kept_when_nothing_waits() -> None:
    shelves, counted = Shelves(), Counted()
    keeps = keeper(shelves, counted, most_bytes=5)
    keeps.offer(one(1), [None] * 2)
    keeps.drain()
    assert len(shelves.kept) == 2


def test_a_database_that_does_not_answer_is_asked_again_and_then_the_pictures_are_counted_as_not_kept() -> None:
    shelves, counted = Shelves(failing=2), Counted()
    keeps = keeper(shelves, counted)
    keeps.offer(one(1), [None] * 2)
    keeps.drain(lambda _seconds: False)
    assert (len(shelves.kept), counted.lost) == (2, [])
    shelves.failing = 99
    keeps.offer(one(2), [None] * 2)
    keeps.drain(lambda _seconds: False)
    assert counted.lost == [(2, "database")]


def test_what_its_place_does_not_take_is_counted() -> None:
    shelves, counted = Shelves(most=1), Counted()
    keeps = keeper(shelves, counted)
    keeps.offer(one(1), [None] * 2)
    keeps.drain()
    assert (counted.kept, counted.lost) == ([(1, 10)], [(1, "place")])


def test_a_site_that_is_older_than_pictures_offers_in_vain() -> None:
    shelves, counted = Shelves(), Counted()
    keeps = FrameKeeper(
        shelves, lambda _site, _older: KeepFrames("none"), 1000, on_not_kept=lambda *lost: counted.lost.append(lost)
    )
    for number in range(2):
        keeps.offer(one(number), [None] * 2)
        keeps.drain()
    assert (shelves.kept, counted.lost) == ([], [])


@pytest.mark.parametrize("error", [DatabaseDamaged("page 7"), KeyError("unforeseen")], ids=["damage", "a bug"])
def test_an_error_that_nobody_awaits_costs_the_pictures_of_its_turn_and_no_more(error: Exception) -> None:
    shelves, counted = Damaged(error), Counted()
    keeps = keeper(shelves, counted)
    for number in range(2):
        keeps.offer(one(number), [None] * 2)
        keeps.drain()
    assert (counted.lost, len(shelves.kept), keeps.waiting_bytes) == ([(2, "database")], 2, 0)


class Damaged(Shelves):
    """The database cannot be read the first time."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.errors = [error]

    def older_sites(self) -> frozenset[str]:
        if self.errors:
            raise self.errors.pop()
        return super().older_sites()


def test_pictures_that_are_being_kept_count_as_waiting() -> None:
    counted = Counted()

    class Full(Shelves):
        def keep(self, pictures: Sequence[Picture]) -> Kept:
            for number in range(5, 9):
                keeps.offer(one(number), [None] * 2)
            return super().keep(pictures)

    shelves = Full()
    keeps = keeper(shelves, counted, most_bytes=50)
    keeps.offer(one(1), [None] * 2)
    keeps._keep(keeps._next(), lambda _seconds: True)
    assert keeps.waiting_bytes == 40 <= 50
    assert counted.lost == [(2, "busy")] * 3


def test_a_keeper_that_stops_keeps_what_waits() -> None:
    shelves, counted = Shelves(), Counted()
    keeps, stopping = keeper(shelves, counted), threading.Event()
    keeps.offer(one(1), [None] * 2)
    stopping.set()
    keeps.run(stopping)
    assert len(shelves.kept) == 2


def test_an_idle_keeper_stops_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeper_module, "_IDLE_S", 3600.0)
    keeps, stopping = keeper(Shelves(), Counted()), threading.Event()
    thread = threading.Thread(target=keeps.run, args=(stopping,), daemon=True)
    thread.start()
    stopping.set()
    keeps.wake()
    thread.join(60)
    assert not thread.is_alive()
