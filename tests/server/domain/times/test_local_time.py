"""A site's local time is its `timezone`, else the machine's; what a person types is read in it."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from policies.events import microseconds
from server.domain.records import CameraHead
from server.domain.times.local_time import LocalTime, read_when, site_time, texts_in_folder, zone_of

OSLO = LocalTime(ZoneInfo("Europe/Oslo"))


def us(text: str) -> int:
    return microseconds(datetime.fromisoformat(text).replace(tzinfo=UTC))


NOW_US = us("2026-11-22T17:30")
"""18:30 in Oslo."""


@pytest.fixture(params=["America/New_York", "Asia/Kolkata"])
def machine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[ZoneInfo]:
    """A machine of another zone."""
    monkeypatch.setenv("TZ", request.param)
    time.tzset()
    yield ZoneInfo(request.param)
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize("utc", ["2026-10-25T00:30", "2026-10-25T01:30", "2026-07-01T10:00:00.250"])
def test_what_is_written_is_read_back_as_the_same_instant_in_the_hour_that_comes_twice_too(utc: str) -> None:
    written = OSLO.written(us(utc))
    assert written.startswith(OSLO.dated(us(utc)).replace(" ", "T"))
    assert read_when(written).us(OSLO, NOW_US) == us(utc)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("18:12", "2026-11-22T17:12"),
        ("18:12:05", "2026-11-22T17:12:05"),
        ("18:31", "2026-11-21T17:31"),
        ("today", "2026-11-21T23:00"),
        ("today 18:31", "2026-11-22T17:31"),
        ("yesterday", "2026-11-20T23:00"),
        ("yesterday 18:00", "2026-11-21T17:00"),
        ("2026-07-01", "2026-06-30T22:00"),
        ("2026-11-22T18:00", "2026-11-22T17:00"),
        ("2026-11-22 18:00:01", "2026-11-22T17:00:01"),
        ("2026-11-22T18:00Z", "2026-11-22T18:00"),
        ("2026-11-22T18:00-05:00", "2026-11-22T23:00"),
        ("90m", "2026-11-22T16:00"),
        ("1.5 h", "2026-11-22T16:00"),
    ],
)
def test_a_time_is_read_in_the_sites_zone_and_a_clock_alone_is_the_last_such_time(text: str, meant: str) -> None:
    assert read_when(text).us(OSLO, NOW_US) == us(meant)


@pytest.mark.parametrize(
    ("since", "until", "meant"),
    [
        ("17:00", "19:00", "2026-11-22T18:00"),
        ("22:00", "06:00", "2026-11-22T05:00"),
        ("yesterday 18:00", "18:20", "2026-11-21T17:20"),
        ("18:00", "today 19:00", "2026-11-22T18:00"),
    ],
)
def test_an_end_is_the_first_such_time_after_the_begin(since: str, until: str, meant: str) -> None:
    since_us = read_when(since).us(OSLO, NOW_US)
    assert read_when(until).us(OSLO, NOW_US, since_us) == us(meant)


@pytest.mark.parametrize(
    "text", ["", "teatime", "25:00", "18:61", "tomorrow", "18", "today 18", "1h ago", "2026-13-01"]
)
def test_what_is_no_time_is_answered_with_what_can_be_written(text: str) -> None:
    with pytest.raises(ValueError, match=r"is none of 90s, .* yesterday 18:00"):
        read_when(text)


def test_without_a_zone_times_are_those_of_the_machine_summer_and_winter(machine: ZoneInfo) -> None:
    here, there = LocalTime(), LocalTime(machine)
    for at_us in (us("2026-07-01T12:00"), us("2026-11-22T03:00")):
        assert here.dated(at_us) == there.dated(at_us)
    for text in ("18:12", "yesterday 06:00", "2026-07-01T10:00"):
        assert read_when(text).us(here, NOW_US) == read_when(text).us(there, NOW_US)


def test_a_site_that_says_utc_is_shown_in_utc_and_one_that_says_nothing_in_the_machines_zone(
    machine: ZoneInfo,
) -> None:
    assert zone_of('site = "yard"\ntimezone = "UTC"\n') == ZoneInfo("UTC")
    assert zone_of('site = "yard"\n') is None
    assert zone_of('site = "yard"\ntimezone = "Europe/Atlantis"\n') is None
    assert zone_of("site = ") is None
    noon_us = us("2026-11-22T12:00")
    assert LocalTime(zone_of('timezone = "UTC"')).clock(noon_us) == "12:00:00"
    assert LocalTime(zone_of("")).clock(noon_us) == LocalTime(machine).clock(noon_us)


class Sites:
    """A store of cameras whose policies have these time zones, in the order in which their turns ended."""

    def __init__(self, *zones: tuple[str, str | None]) -> None:
        self.past = self
        self._texts = {str(i): f'timezone = "{zone}"' if zone else "" for i, (_, zone) in enumerate(zones)}
        self._heads = [CameraHead(site, f"c{i}", 0, "", str(i), i) for i, (site, _) in enumerate(zones)]

    def cameras(self) -> list[CameraHead]:
        return self._heads[::-1]

    def policy_text(self, digest: str) -> str | None:
        return self._texts.get(digest)


def test_a_sites_zone_is_that_of_its_newest_policy_and_several_sites_share_only_an_equal_one() -> None:
    oslo, lima = ZoneInfo("Europe/Oslo"), ZoneInfo("America/Lima")
    store = Sites(("yard", "America/Lima"), ("dock", "America/Lima"), ("yard", "Europe/Oslo"))
    assert site_time(store, "yard").zone == oslo
    assert site_time(store, "dock").zone == lima
    assert site_time(store).zone is None
    assert site_time(Sites(("yard", "Europe/Oslo"), ("dock", "Europe/Oslo"))).zone == oslo
    assert site_time(Sites()).zone is None


def test_the_file_of_a_site_says_more_than_the_policy_that_judged_it(tmp_path: Path) -> None:
    store = Sites(("yard", None))
    (tmp_path / ".yard.toml").write_text('site = "yard"\ntimezone = "Asia/Tokyo"\n')
    (tmp_path / "broken.toml").write_text("site = ")
    os.mkfifo(tmp_path / "pipe.toml")  # a reader of a pipe waits for a writer
    assert site_time(store, "yard", texts_in_folder(tmp_path)).zone is None
    (tmp_path / "yard.toml").write_text('site = "yard"\ntimezone = "UTC"\n')
    assert site_time(store, "yard", texts_in_folder(tmp_path)).zone == ZoneInfo("UTC")
    assert site_time(store, "yard", texts_in_folder(tmp_path / "none")).zone is None
    (tmp_path / "yard.toml").write_text('site = "yard"\r\ntimezone = "Asia/Tokyo"\r\n', encoding="utf-16")
    assert site_time(store, "yard", texts_in_folder(tmp_path)).zone == ZoneInfo("Asia/Tokyo")


@pytest.mark.parametrize(
    "text",
    [
        'targets = [\n  "person",\n]\ntimezone = "Europe/Oslo"\n[cameras.gate]\n',
        'note = """\n[cameras.gate]\n"""\ntimezone = "Europe/Oslo"\n  [cameras.gate]\n',
        'lists = [\n[1],\n[2]]\ntimezone = "Europe/Oslo"\n',
        '"time\\u007aone" = "Europe/Oslo"\n[cameras.gate]\ntimezone = "UTC"\n',
    ],
)
def test_a_policys_zone_is_found_before_its_first_table_whatever_looks_like_one(text: str) -> None:
    assert zone_of(text) == ZoneInfo("Europe/Oslo")


def test_the_tables_of_a_policy_are_not_parsed_for_its_zone() -> None:
    assert zone_of('timezone = "Europe/Oslo"\n[cameras.gate]\n= this is no TOML\n') == ZoneInfo("Europe/Oslo")
