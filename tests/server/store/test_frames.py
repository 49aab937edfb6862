"""Pictures are kept once, as long as their site wants them, and go from the disk with the last frame that has them."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NoReturn

import pytest
from sqlalchemy import Engine, delete, insert, select

from policies.events import instant
from server.analysis.annotations import MissedFact, annotation_of, missed_annotation
from server.analysis.verify import verify
from server.domain.burst import Burst
from server.domain.errors import ConfigurationError, DatabaseUnavailable
from server.domain.keeping import Keep, KeepFrames
from server.domain.pictures.kept_frames import Picture
from server.frames import FrameKeeper, folder, names, open_place
from server.store import Store, open_store
from server.store.engine import _writers
from server.store.retention import Place, frame_limits, frames
from server.store.schema import counters, frame_sites, leaving_frames
from tests.server import new_sqlite, pasts
from tests.server.pasts import Past
from tests.server.scenes import START_US, Yard, across, burst
from tests.server.store.test_store import Interrupted, Interruption
from tests.stand_ins import ManualClock

SECOND = 1_000_000
DAY_S = 86_400.0
EVENTS = Keep(frames=KeepFrames("events"))
ALL = Keep(frames=KeepFrames("all"))


@pytest.fixture
def past() -> Past:
    return Past("pictured", _walk)


def _walk(url: str, folder: Path) -> None:
    clock = ManualClock(START_US + 3600 * SECOND)
    with closing(open_store(url, clock, open_place(str(folder / "frames")))) as store:
        yard = Yard(folder / "sites", store, clock)
        for one in yard.walked(across, 40):
            take(yard, one)


@pytest.fixture
def pictures(tmp_path: Path, database_url: str, past: Past) -> Path:
    """The folder of the pictures that the past has left."""
    shutil.copytree(pasts.files_of(past, pasts.engine_of(database_url)) / "frames", tmp_path / "frames")
    return tmp_path / "frames"


@pytest.fixture
def place(pictures: Path) -> Place:
    return open_place(str(pictures))


@pytest.fixture
def yard(tmp_path: Path, store: Store, clock: ManualClock) -> Yard:
    """A yard in which somebody walked across from 2 to 18 s; the server keeps its pictures in a folder."""
    yard = Yard(tmp_path / "sites", store, clock)
    yard.walked(across, 40)  # its ensemble knows the pictures
    store.frames.own()  # as one does with a copy
    return yard


def keeper(store: Store) -> FrameKeeper:
    return FrameKeeper(store.frames, lambda _site, _older: KeepFrames("events"), 10**9)


def take(yard: Yard, one: Burst, brightness: float | None = None) -> None:
    yard.pipeline.process(one)
    offer(yard.store, one, brightness)


def offer(store: Store, one: Burst, brightness: float | None = None) -> None:
    keeps = keeper(store)
    keeps.offer(one, [brightness] * len(one.frames))
    keeps.drain()


def on_disk(pictures: Path) -> set[str]:
    """The names of all pictures in their place."""
    return {file.name for file in pictures.rglob("*") if file.is_file() and file.name != "owner"}


def kept_s(yard: Yard, camera: str = "gate") -> list[float]:
    """The instants of the kept frames, in seconds."""
    return [(each.at_us - START_US) / SECOND for each in yard.store.frames.find("yard", camera, None, None, 1000)]


def later(yard: Yard, days: float) -> None:
    """Another burst comes so many days later, in which nobody is seen."""
    yard.clock.advance(days * DAY_S)
    at_s = (yard.clock() - START_US) / SECOND - 60
    take(yard, yard.walk(round(at_s), lambda _t: None, at_s))


def sweep(yard: Yard, keep: Keep) -> int:
    return yard.store.retention.sweep(lambda _site: keep).frames


def test_a_picture_is_stored_once_for_its_user_alone_under_its_sha256(yard: Yard, pictures: Path) -> None:
    image = yard.picture(0.3, at_s=7.25)
    for number, camera in enumerate(("gate", "shed", "gate")):
        take(yard, burst(500 + number, [image, yard.picture(at_s=900 + number)], 50 + 10 * number, camera=camera))
    sha256 = hashlib.sha256(image).hexdigest()
    [file] = [file for file in pictures.rglob("*") if file.name == sha256]
    assert (file.read_bytes(), file.parent.name) == (image, sha256[:2])
    assert {stat.S_IMODE(file.stat().st_mode) for file in pictures.rglob("*") if file.is_file()} == {0o600}
    assert {stat.S_IMODE(each.stat().st_mode) for each in [pictures, *pictures.rglob("*")] if each.is_dir()} == {0o700}
    assert yard.store.frames.image(sha256) == image


def test_every_frame_is_kept_for_a_day_and_then_those_of_visits_and_one_of_the_day(yard: Yard, pictures: Path) -> None:
    everything = kept_s(yard)
    assert len(everything) == 80
    assert sweep(yard, EVENTS) == 0
    later(yard, 0.9)
    assert sweep(yard, EVENTS) == 0, "a missed person can be found for a day"
    later(yard, 0.2)
    assert sweep(yard, EVENTS) > 30
    assert [at for at in everything if 2 <= at <= 18] == [at for at in kept_s(yard) if 2 <= at <= 18]
    assert max(at for at in kept_s(yard) if at < 40) < 30
    named = {sha256 for logged in yard.store.events() for sha256 in logged.event.provenance.frame_sha256}
    assert named <= on_disk(pictures)
    assert len(on_disk(pictures)) == len(kept_s(yard))


def test_a_frame_that_came_late_waits_for_a_day_too(yard: Yard) -> None:
    later(yard, 3)
    sweep(yard, EVENTS)
    take(yard, yard.walk(700, lambda _t: None, 3600))
    sweep(yard, EVENTS)
    assert 3600.0 in kept_s(yard)
    later(yard, 1.1)
    sweep(yard, EVENTS)
    assert 3600.0 not in kept_s(yard)


def test_the_brightest_frame_of_a_day_stays_to_draw_on(yard: Yard) -> None:
    for number, (at_s, brightness) in enumerate([(3600, 0.2), (7200, 0.7), (10800, 0.5)]):
        take(yard, yard.walk(600 + number, lambda _t: None, at_s, frames=1), brightness)
    later(yard, 2)
    sweep(yard, EVENTS)
    assert [at for at in kept_s(yard) if 3000 < at < 20000] == [7200.0]


def test_the_frames_around_an_annotation_stay(yard: Yard) -> None:
    missed = MissedFact(site="yard", camera="gate", kind="entered", sector="west", at=instant(START_US + 3600 * SECOND))
    take(yard, yard.walk(600, lambda _t: None, 3590))
    take(yard, yard.walk(601, lambda _t: None, 4000))
    yard.store.annotations.add([missed_annotation(yard.store, missed, "me", None)])
    later(yard, 2)
    sweep(yard, EVENTS)
    assert [at for at in kept_s(yard) if 3000 < at < 20000] == [3590.0, 3590.5, 3591.0, 3591.5]


def test_of_a_long_visit_its_beginning_and_its_end_stay(yard: Yard) -> None:
    [first, last] = frame_limits.visit_stretches(0, 3600 * SECOND)
    assert (first[1], last[0]) == (600 * SECOND, 3540 * SECOND)
    assert len(frame_limits.visit_stretches(0, 600 * SECOND)) == 1


@pytest.mark.parametrize("seconds", [599, 601, 630, 660, 661])
def test_the_stretches_of_a_visit_never_overlap(seconds: int) -> None:
    borders = [at for stretch in frame_limits.visit_stretches(0, seconds * SECOND) for at in stretch]
    assert borders == sorted(borders)


def test_a_sweep_with_nothing_to_decide_does_not_look_for_the_brightest_frame(
    yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    later(yard, 1.0001)
    assert sweep(yard, EVENTS) > 0
    monkeypatch.setattr(frame_limits.FrameSweep, "_brightest", lambda *_: pytest.fail("it looks"))
    assert sweep(yard, EVENTS) == 0


@pytest.mark.parametrize("which", ["events", "all"])
def test_when_their_days_are_over_pictures_go_from_the_disk(yard: Yard, pictures: Path, which: str) -> None:
    keep = Keep(frames=KeepFrames(which, days=3))  # type: ignore[arg-type]
    later(yard, 2)
    sweep(yard, keep)
    assert 10.0 in kept_s(yard)
    later(yard, 1.5)
    sweep(yard, keep)
    assert min(kept_s(yard)) > DAY_S
    assert len(on_disk(pictures)) == len(kept_s(yard)) <= 8


def test_a_site_that_keeps_all_keeps_what_nothing_wants(yard: Yard) -> None:
    later(yard, 5)
    assert sweep(yard, ALL) == 0


def test_a_site_that_keeps_none_any_more_loses_all(yard: Yard, pictures: Path) -> None:
    assert sweep(yard, Keep(frames=KeepFrames("none"))) == 80
    assert on_disk(pictures) == set()


def test_pictures_of_a_time_of_which_no_burst_is_kept_go(yard: Yard, pictures: Path) -> None:
    yard.store.retention.sweep(lambda _site: Keep(observations_days=20 / DAY_S, frames=KeepFrames("all")))
    first_s = (next(iter(yard.store.observations("yard", "gate"))).at_us - START_US) / SECOND
    assert 15 < first_s == min(kept_s(yard))
    assert len(on_disk(pictures)) == len(kept_s(yard))


@pytest.mark.parametrize("annotated", [True, False])
def test_beyond_its_bytes_a_site_loses_what_nothing_wants_then_the_oldest_and_annotated_ones_last_by_choice(
    yard: Yard, pictures: Path, annotated: bool
) -> None:
    def bound(count: int) -> Keep:
        return Keep(annotated=annotated, frames=KeepFrames("events", max_bytes=count * size))

    size = round(sum(each.bytes for each in yard.store.frames.totals()) / 80)
    visit = [at for at in kept_s(yard) if at <= 25]
    sweep(yard, bound(60))
    assert 50 < len(kept_s(yard)) <= 60
    assert {at for at in visit if 2 <= at <= 18} <= {*kept_s(yard)}, "those of the visit stay longest"
    sweep(yard, bound(20))
    assert 15 < len(kept_s(yard)) <= 20
    assert min(kept_s(yard)) > 8
    for number in range(13):
        take(yard, yard.walk(600 + number, lambda t: across(t - 1000), 1000 + 2 * number))
    missed = MissedFact(site="yard", camera="gate", kind="entered", sector="west", at=instant(START_US + 9 * SECOND))
    yard.store.annotations.add([missed_annotation(yard.store, missed, "me", None)])
    sweep(yard, bound(15))
    assert (min(kept_s(yard)) < 20) is annotated
    assert len(on_disk(pictures)) == len(kept_s(yard)) <= 15
    sweep(yard, Keep(annotated=annotated, frames=KeepFrames("events", max_bytes=1)))
    assert on_disk(pictures) == set()


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


def noted(yard: Yard) -> set[str]:
    """The pictures that are to be deleted."""
    with yard.store._engine.begin() as connection:
        return {each.hex() for each in connection.execute(select(leaving_frames.c.sha256)).scalars()}


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


@contextmanager
def without_writes(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Another process writes to the database for long."""

    def busy(_engine: object, lock: str) -> NoReturn:
        raise DatabaseUnavailable(f"{lock}: the database does not answer")

    with monkeypatch.context() as patched:
        patched.setattr(frames, "writing", busy)
        yield


def test_an_erasure_deletes_pictures_that_a_crash_left_without_rows(yard: Yard, pictures: Path) -> None:
    one = yard.walk(500, lambda _t: None, 50)
    yard.pipeline.process(one)
    for frame in one.frames:
        yard.store.frames.shelf.put(frame.sha256, frame.image)
    done = yard.store.retention.erase("yard", "gate", START_US + 45 * SECOND, START_US + 60 * SECOND, author="me")
    assert (done.bursts, done.frames, len(on_disk(pictures))) == (1, 0, 80)


class Refusing(folder.Folder):
    """A place that deletes nothing while `refuses`."""

    refuses = True

    def remove(self, digests: Sequence[str]) -> None:
        if self.refuses:
            raise OSError("read-only")
        super().remove(digests)


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


class Watching(folder.Folder):
    """A place that is asked outside of transactions only."""

    engine: Engine

    def _path(self, sha256: str) -> Path:
        assert not (self.engine in _writers and _writers[self.engine].locked())
        return super()._path(sha256)


def test_no_transaction_waits_for_the_place_of_the_pictures(
    yard: Yard, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = Watching(pictures / next(pictures.iterdir()).name)
    place.engine = yard.store._engine
    monkeypatch.setitem(yard.store.frames.__dict__, "shelf", place)
    one = yard.walk(500, lambda _t: None, 50)
    take(yard, one)
    yard.store.retention.erase("yard", "gate", START_US + 45 * SECOND, START_US + 60 * SECOND, author="me")
    sweep(yard, Keep(frames=KeepFrames("events", max_bytes=1200)))
    age_files(pictures)
    yard.store.frames.tidy()
    assert sweep(yard, Keep(frames=KeepFrames("none"))) > 0
    assert on_disk(pictures) == set()


def test_a_crash_while_pictures_are_kept_leaves_whole_ones_which_go_or_are_kept_again(
    yard: Yard, pictures: Path
) -> None:
    one = yard.walk(500, lambda _t: None, 50)
    yard.pipeline.process(one)
    some = [Picture("yard", "gate", each.at_us, each.sha256, each.image, None) for each in one.frames]
    for statement in range(1, 8):
        with pytest.raises(Interrupted), Interruption(yard.store, statement):
            yard.store.frames.keep(some)
        assert max(kept_s(yard)) < 40
        for file in pictures.rglob("*"):
            assert not file.is_file() or file.name in (hashlib.sha256(file.read_bytes()).hexdigest(), "owner")
    age_files(pictures)
    assert yard.store.frames.tidy() == 4
    assert len(on_disk(pictures)) == 80
    offer(yard.store, one)
    assert len(on_disk(pictures)) == 84 == len(kept_s(yard))


def age_files(pictures: Path) -> None:
    for file in pictures.rglob("*"):
        os.utime(file, (0, 0))


def test_what_nothing_names_is_deleted_once_it_is_old_and_what_is_lost_counts_as_no_longer_kept(
    yard: Yard, pictures: Path
) -> None:
    shard = next(each for each in pictures.rglob("*") if each.is_dir() and len(each.name) == 2)
    for name in ("f" * 64, "e" * 64 + names.SMALL, ".half-written"):
        (shard / name).write_bytes(b"left")
    assert yard.store.frames.tidy() == 0
    age_files(pictures)
    assert yard.store.frames.tidy() == 3
    assert len(on_disk(pictures)) == 80
    lost = next(file for file in pictures.rglob("*") if len(file.name) == 64)
    lost.unlink()
    yard.store.frames.tidy()
    assert yard.store.frames.fate(lost.name, "yard") == "no_longer_kept"
    assert len(kept_s(yard)) == 79


def test_while_the_disk_of_the_pictures_is_away_no_frame_is_forgotten_and_the_log_says_so_once(
    yard: Yard, pictures: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pictures.rename(tmp_path / "away")
    for _ in range(2):
        yard.store.frames.tidy()
    pictures.mkdir()  # the mount point
    yard.store.frames.tidy()
    pictures.rmdir()
    (tmp_path / "away").rename(pictures)
    age_files(pictures)
    yard.store.frames.tidy()
    assert len(on_disk(pictures)) == 80 == len(kept_s(yard))
    assert [record.levelname for record in caplog.records if "no kept picture" in record.message] == ["ERROR"]


def test_what_became_of_a_picture_is_known_to_readers_of_its_site_alone(yard: Yard) -> None:
    known = yard.store.frames
    sha256 = known.find("yard", "gate", None, None, 1)[0].sha256
    assert [known.fate(sha256, site) for site in ("yard", None, "other")] == ["kept", "kept", "unknown"]
    assert known.fate("0" * 64, "yard") == "unknown"
    wanted = {"gate": [sha256, "0" * 64], "door": [sha256]}
    assert [known.kept_of(site, wanted) for site in ("yard", "other")] == [{("gate", sha256)}, set()]
    sweep(yard, Keep(frames=KeepFrames("none")))
    assert [known.fate(sha256, site) for site in ("yard", None, "other")] == ["no_longer_kept"] * 2 + ["unknown"]
    assert known.kept_of("yard", wanted) == set()
    assert known.fates("yard", "gate", [sha256, "0" * 64]) == {sha256: "no_longer_kept", "0" * 64: "unknown"}
    yard.clock.advance(DAY_S * (frames.REMEMBERED_DAYS + 2))
    known.tidy()
    assert known.fate(sha256, "yard") == "unknown"


def test_two_servers_share_one_place(yard: Yard, database_url: str, pictures: Path) -> None:
    other = open_store(database_url, yard.clock, open_place(str(pictures)))
    one = yard.walk(500, lambda _t: None, 50)
    yard.pipeline.process(one)
    offer(other, one)
    offer(yard.store, one)
    assert len(on_disk(pictures)) == 84 == len(kept_s(yard))
    assert other.frames.image(one.frames[0].sha256) == one.frames[0].image
    other.close()


def test_two_databases_never_delete_each_others_pictures(
    yard: Yard, tmp_path: Path, pictures: Path, clock: ManualClock
) -> None:
    other = open_store(f"sqlite:///{tmp_path}/other.sqlite", clock, open_place(str(pictures)))
    other.upgrade()
    age_files(pictures)
    assert other.frames.tidy() == 0
    assert len(on_disk(pictures)) == 80
    other.close()


def test_a_copy_of_a_database_neither_keeps_nor_deletes_the_pictures_of_the_original(
    tmp_path: Path, clock: ManualClock
) -> None:
    pictures = tmp_path / "frames"
    original, elsewhere = tmp_path / "original.sqlite", tmp_path / "copy.sqlite"
    first = sqlite_yard(original, clock, pictures)
    for one in first.walked(across, 4):
        take(first, one)
    first.store.close()
    shutil.copy(original, elsewhere)
    copy = sqlite_yard(elsewhere, clock, pictures)
    assert copy.store.frames.image(next(iter(on_disk(pictures)))) is not None
    take(copy, copy.walk(500, lambda _t: None, 50))
    with pytest.raises(ConfigurationError, match=r"original\.sqlite.*frames own"):
        copy.store.frames.tidy()
    with pytest.raises(ConfigurationError, match="copy"):
        copy.store.retention.erase("yard", "gate", START_US, START_US + SECOND, author="me")
    sweep(copy, Keep(frames=KeepFrames("none")))
    assert len(on_disk(pictures)) == 8
    copy.store.frames.own()
    sweep(copy, Keep(frames=KeepFrames("none")))
    assert on_disk(pictures) == set()
    copy.store.close()


def sqlite_yard(file: Path, clock: ManualClock, pictures: Path) -> Yard:
    new_sqlite.provide(file)
    return Yard(file.with_suffix(".sites"), open_store(f"sqlite:///{file}", clock, open_place(str(pictures))), clock)


def test_a_backup_in_the_place_of_its_database_keeps_its_pictures_and_a_lost_number_is_noticed(
    tmp_path: Path, clock: ManualClock
) -> None:
    pictures = tmp_path / "frames"
    yard = sqlite_yard(tmp_path / "one.sqlite", clock, pictures)
    for one in yard.walked(across, 4):
        take(yard, one)
    yard.store.backup(tmp_path / "backup.sqlite")
    yard.store.restore(tmp_path / "backup.sqlite")
    yard.store.close()
    again = sqlite_yard(tmp_path / "one.sqlite", clock, pictures)
    again.store.frames.check_owner()
    assert again.store.frames.abandoned() == []
    assert sweep(again, Keep(frames=KeepFrames("none"))) == 8
    [number] = pictures.iterdir()
    with again.store._engine.begin() as connection:
        connection.execute(delete(counters).where(counters.c.name == "frames"))
    again.store.close()
    recovered = sqlite_yard(tmp_path / "one.sqlite", clock, pictures)
    assert recovered.store.frames.abandoned() == [str(number)]
    recovered.store.close()


def test_a_site_that_is_older_than_pictures_keeps_none_until_it_says_so(yard: Yard) -> None:
    with yard.store._engine.begin() as connection:
        connection.execute(insert(frame_sites), {"site": "yard"})
    chosen = yard.store.frames.chosen
    assert (chosen("yard", KeepFrames()).which, chosen("barn", KeepFrames()).which) == ("none", "events")
    assert chosen("yard", KeepFrames("all")).which == "all"
    assert yard.store.frames.tell_once(["yard", "barn"]) == ["yard"]
    assert yard.store.frames.tell_once(["yard"]) == [], "it is said once"


def test_a_full_disk_keeps_no_picture_and_says_so_and_bursts_are_taken(
    yard: Yard, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder, "RESERVE_BYTES", 2**62)
    lost: list[tuple[int, str]] = []
    keeps = FrameKeeper(
        yard.store.frames, lambda *_: ALL.frames, 10**9, on_not_kept=lambda count, cause: lost.append((count, cause))
    )
    one = yard.walk(500, lambda _t: None, 50)
    assert not yard.pipeline.process(one).known
    keeps.offer(one, [None] * 4)
    keeps.drain()
    assert lost == [(4, "place")]
    assert len(on_disk(pictures)) == 80 == len(kept_s(yard))


def test_verify_checks_the_bytes_of_kept_pictures(yard: Yard, pictures: Path) -> None:
    record = yard.store.past.events_like("")[0]
    name = record.logged.event.provenance.frame_sha256[0]
    checks = {check.what: check for check in verify(yard.store, record)}
    assert checks["pictures"].holds
    file = next(pictures.rglob(name))
    file.write_bytes(b"forged")
    checks = {check.what: check for check in verify(yard.store, record)}
    assert (checks["pictures"].holds, checks["pictures"].is_gone) == (False, False)
    sweep(yard, Keep(frames=KeepFrames("none")))
    assert "pictures" not in {check.what for check in verify(yard.store, record)}
