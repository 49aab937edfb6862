"""An erasure deletes the pictures of its stretch and no other, whatever ends it in the middle."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import pytest

from server.analysis.annotations import annotation_of
from server.domain.errors import ConfigurationError
from server.domain.keeping import Keep, KeepFrames
from server.frames import folder
from server.store import open_store
from server.store.retention import frame_limits
from tests.server.scenes import START_US, Yard, burst
from tests.server.store.frames.pictured import (
    ALL,
    SECOND,
    kept_s,
    noted,
    offer,
    on_disk,
    sweep,
    take,
    without_writes,
)
from tests.server.store.test_store import Interrupted, Interruption


class Refusing(folder.Folder):
    """A place that deletes nothing while `refuses`."""

    refuses = True

    def remove(self, digests: Sequence[str]) -> None:
        if self.refuses:
            raise OSError("read-only")
        super().remove(digests)


def test_an_erasure_deletes_the_pictures_of_its_stretch_and_no_other(yard: Yard, pictures: Path) -> None:
    shared = yard.picture(at_s=5000.0)
    take(yard, burst(500, [shared], 50))
    take(yard, burst(501, [shared], 5, camera="shed"))
    done = yard.store.retention.erase("yard", "gate", START_US + 10 * SECOND, START_US + 60 * SECOND, author="me")
    assert done.frames == 61
    assert max(kept_s(yard)) == 9.5
    assert hashlib.sha256(shared).hexdigest() in on_disk(pictures), "another camera has it"
    assert len(on_disk(pictures)) == 21
    yard.store.retention.erase("yard", "shed", START_US, START_US + 60 * SECOND, author="me")
    assert len(on_disk(pictures)) == 20


def test_pictures_that_waited_while_their_time_was_erased_are_not_kept(yard: Yard, pictures: Path) -> None:
    one = yard.walk(500, lambda _t: None, 50)
    yard.pipeline.process(one)
    yard.store.retention.erase("yard", "gate", START_US + 45 * SECOND, START_US + 60 * SECOND, author="me")
    offer(yard.store, one)
    assert max(kept_s(yard)) < 45
    assert len(on_disk(pictures)) == 80


def test_an_erasure_that_may_keep_what_is_annotated_keeps_its_pictures(yard: Yard) -> None:
    first = next(iter(yard.store.events())).event
    yard.store.annotations.add([annotation_of(yard.store, first.id, "true", "me", None)])
    far = yard.walk(500, lambda _t: None, 500)
    take(yard, far)
    yard.store.retention.erase("yard", "gate", START_US, START_US + 600 * SECOND, author="me", keeps_annotated=True)
    assert len(kept_s(yard)) == 80


def test_nothing_is_erased_where_the_place_of_the_pictures_is_not_known(yard: Yard, database_url: str) -> None:
    other = open_store(database_url, yard.clock)
    with pytest.raises(ConfigurationError, match="frames_url"):
        other.retention.erase("yard", "gate", START_US, START_US + 60 * SECOND, author="me")
    other.close()
    assert yard.store.retention.erasures()[0].finished_at_us is None, "a server goes on with it"


def test_a_sweep_that_is_interrupted_at_any_statement_loses_no_picture_and_goes_on(
    yard: Yard, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frame_limits, "AT_ONCE", 9)
    statement, is_done = 0, False
    while not is_done:
        statement += 5
        try:
            with Interruption(yard.store, statement):
                sweep(yard, Keep(frames=KeepFrames("events", max_bytes=1200)))
            is_done = True
        except Interrupted:
            named = {each.sha256 for each in yard.store.frames.find("yard", "gate", None, None, 1000)}
            assert on_disk(pictures) <= named | noted(yard), "no picture outlives its frame unnoticed"
    assert statement > 30
    assert {each.sha256 for each in yard.store.frames.find("yard", "gate", None, None, 1000)} == on_disk(pictures)


def test_pictures_whose_rows_the_database_does_not_take_do_not_stay(
    yard: Yard, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = yard.walk(500, lambda _t: None, 50)
    yard.pipeline.process(one)
    with without_writes(monkeypatch):
        offer(yard.store, one)
    assert len(on_disk(pictures)) == 80 == len(kept_s(yard))
    offer(yard.store, one)
    assert len(on_disk(pictures)) == 84 == len(kept_s(yard))


def test_an_erasure_deletes_pictures_that_a_crash_left_without_rows(yard: Yard, pictures: Path) -> None:
    one = yard.walk(500, lambda _t: None, 50)
    yard.pipeline.process(one)
    for frame in one.frames:
        yard.store.frames.shelf.put(frame.sha256, frame.image)
    done = yard.store.retention.erase("yard", "gate", START_US + 45 * SECOND, START_US + 60 * SECOND, author="me")
    assert (done.bursts, done.frames, len(on_disk(pictures))) == (1, 0, 80)


def test_where_the_place_of_the_pictures_deletes_nothing_bursts_are_erased_and_the_pictures_go_later(
    yard: Yard, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = Refusing(pictures / next(pictures.iterdir()).name)
    monkeypatch.setitem(yard.store.frames.__dict__, "shelf", place)
    with pytest.raises(ConfigurationError, match="80 pictures cannot be deleted"):
        yard.store.retention.erase("yard", "gate", START_US - SECOND, START_US + 60 * SECOND, author="me")
    assert next(yard.store.observations("yard", "gate"), None) is None
    [note] = yard.store.retention.erasures()
    assert (note.finished_at_us, note.frames, len(on_disk(pictures))) == (None, 80, 80)
    place.refuses = False
    sweep(yard, ALL)
    assert yard.store.retention.erasures()[0].finished_at_us is not None
    assert (on_disk(pictures), noted(yard)) == (set(), set())
