"""Pictures in a place that crashes, is away, is full, or is shared."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import pytest
from sqlalchemy import Engine, delete, insert

from server.analysis.verify import verify
from server.domain.errors import ConfigurationError
from server.domain.keeping import Keep, KeepFrames
from server.domain.pictures.kept_frames import Picture
from server.frames import FrameKeeper, folder, names, open_place
from server.store import open_store
from server.store.engine import _writers
from server.store.retention import frames
from server.store.schema import counters, frame_sites
from tests.server.scenes import START_US, Yard, across
from tests.server.store.frames.pictured import (
    ALL,
    DAY_S,
    SECOND,
    age_files,
    kept_s,
    offer,
    on_disk,
    sqlite_yard,
    sweep,
    take,
)
from tests.server.store.test_store import Interrupted, Interruption
from tests.stand_ins import ManualClock


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
