"""`sectorwatch events` as a person reads it: one line for a visit, in local time, in the order of the times shown."""

from __future__ import annotations

import io
import re
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from msgspec.structs import replace as changed
from sqlalchemy import update

from policies.events import Event, microseconds
from server.__main__ import command
from server.commands import events
from server.commands.events import VisitPrinter
from server.commands.options import Window
from server.delivery import visit_log
from server.delivery import visits as visits_module
from server.delivery.event_text import EventText, duration, plain
from server.delivery.visit_log import Stretch
from server.delivery.visits import Visit, visits
from server.domain.records import LoggedEvent
from server.domain.times.local_time import LocalTime, read_when
from server.store import Store, open_store
from server.store.schema import events as events_table
from tests.server.delivery.test_lines import LOGGED
from tests.server.scenes import START_US, YARD, Yard, across, burst, there_and_back
from tests.stand_ins import ManualClock

OSLO = YARD.replace('site = "yard"', 'site = "yard"\ntimezone = "Europe/Oslo"')
EAST = "08:00:10-08:00:18 person at east, 8 s, came from the left, left to the right; 1 of 1 model  "


@pytest.fixture
def yard(tmp_path: Path, store: Store, clock: ManualClock) -> Yard:
    """A yard in Oslo that someone walks across, on each database."""
    return Yard(tmp_path / "sites", store, clock, OSLO)


@pytest.fixture
def walked(yard: Yard) -> Yard:
    for each in yard.walked(across, 26):
        yard.pipeline.process(each)
    return yard


@pytest.fixture
def show(yard: Yard, database_url: str) -> Callable[..., list[str]]:
    """Runs `sectorwatch events` on the yard."""

    def invoke(*arguments: str) -> list[str]:
        result: Result = CliRunner().invoke(command, ["events", *arguments, "--database", database_url])
        assert result.exit_code == 0, result.output
        return result.stdout.splitlines()

    return invoke


def without_ids(lines: list[str]) -> list[str]:
    return [re.sub(r"  [0-9a-f]{8,}$", "", line) for line in lines]


def test_a_visit_is_one_line_in_the_sites_local_time_under_its_day(
    walked: Yard, show: Callable[..., list[str]]
) -> None:
    assert without_ids(show()) == [
        "Sunday 22 November 2026, Europe/Oslo",
        "08:00:01-08:00:10 person at west, 9 s, came from the left, left to the right; 1 of 1 model",
        "08:00:10 person crossed middle, eastward; 1 of 1 model",
        "08:00:10-08:00:18 person at east, 8 s, came from the left, left to the right; 1 of 1 model",
        "08:00:10 person moved west > east, to the right; 1 of 1 model",
    ]


def test_a_heading_stands_where_the_local_day_changes(yard: Yard, show: Callable[..., list[str]]) -> None:
    yard.write(YARD.replace('site = "yard"', 'site = "yard"\ntimezone = "Pacific/Auckland"'))
    yard.clock.advance(86_400)
    stay(yard, 1, 3 * 3600, 20)
    yard.pipeline.process(burst(2, [yard.picture(at_s=4 * 3600 - 11)], 4 * 3600 - 11))
    stay(yard, 3, 4 * 3600 - 10, 20)  # over midnight there
    shown = without_ids(show())
    assert [line for line in shown if line[:3] in ("Sun", "Mon")] == ["Sunday 22 November 2026, Pacific/Auckland"]
    assert shown[-1].startswith("23:59:49-23 Nov 00:00:0")
    stay(yard, 4, 4 * 3600 + 60, 20)
    assert "Monday 23 November 2026, Pacific/Auckland" in without_ids(show())


def stay(yard: Yard, number: int, at_s: float, length_s: int, x: float = 0.2) -> None:
    """Somebody stands in the yard for some seconds, and then nobody for twenty."""
    count = length_s + 20
    pictures = [yard.picture(*([x] if i < length_s else []), at_s=at_s + i) for i in range(count)]
    for first in range(0, count, 20):
        some = pictures[first : first + 20]
        yard.pipeline.process(burst(number * 1000 + first, some, at_s + first, 1.0))


def test_a_time_in_which_nobody_watched_is_said_in_words(yard: Yard, show: Callable[..., list[str]]) -> None:
    yard.clock.advance(86_400)
    pictures = [yard.picture(0.2, at_s=i) for i in range(6)]
    yard.pipeline.process(burst(1, pictures, 0, 1.0))
    yard.pipeline.process(burst(2, [yard.picture(at_s=43_000 + i) for i in range(6)], 43_000, 1.0))
    [line] = without_ids(show())[1:]
    assert re.fullmatch(
        r"08:00:00-~13:58:\d\d person at west, left between 08:00 and 19:56, not watched; 1 of 1 model", line
    ), line


def test_a_visit_that_goes_on_says_since_when_and_whether_it_is_still_watched(
    yard: Yard, show: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    yard.pipeline.process(burst(1, [yard.picture(0.2, at_s=i) for i in range(10)], 0, 1.0))
    monkeypatch.setattr(events, "now_us", lambda: START_US + 12_000_000)
    assert without_ids(show())[1:] == ["since 08:00:00 person at west; 1 of 1 model"]
    monkeypatch.setattr(events, "now_us", lambda: START_US + 300_000_000)
    assert without_ids(show())[1:] == ["since 08:00:00 person at west, not watched since 08:00:09; 1 of 1 model"]


def test_lines_never_run_backwards_and_each_begins_in_the_stretch_or_reaches_into_it(
    yard: Yard, show: Callable[..., list[str]]
) -> None:
    for number, at_s in enumerate((0, 50, 100, 150)):
        stay(yard, number, at_s, 24 if number % 2 else 12, x=0.2 + 0.5 * (number % 2))
    for number, each in enumerate(yard.walked(there_and_back, 40)):
        yard.pipeline.process(replace(each, camera="door", burst_id=f"door-{number}", digest=f"door {number}"))
    for form in ((), ("--full",), ("--kind", "presence_ended"), ("--camera", "gate")):
        times = [re.sub("^since ", "", line).split("-")[0][:8] for line in show(*form) if line[0] in "s0123456789"]
        stamps = [line.split()[0] for line in show(*form)] if form == ("--full",) else times
        assert stamps == sorted(stamps)
        assert len(stamps) > 1
    whole = show()[1:]
    for since in ("2026-11-22T08:00:06", "2026-11-22T08:01:00", "2026-11-22T08:02:40"):
        clock = since[11:]
        wanted = [line for line in whole if max(re.findall(r"\d\d:\d\d:\d\d", line.split(" person")[0])) >= clock]
        assert show("--since", since)[1:] == wanted
        earlier = [line for line in whole if line[:8] < clock]
        assert show("--until", since)[1:] == earlier


def test_somebody_who_came_before_the_stretch_and_left_after_it_is_shown(
    yard: Yard, show: Callable[..., list[str]]
) -> None:
    stay(yard, 1, 0, 194)
    for window in (("08:01:00", "08:02:00"), ("08:00:30", "08:00:31"), ("08:03:00", "08:04:00")):
        since, until = (f"2026-11-22T{clock}" for clock in window)
        shown = show("--since", since, "--until", until)
        assert without_ids(shown)[1:] == ["08:00:00-08:03:13 person at west, 3 min; 1 of 1 model"], window
    assert show("--since", "2026-11-22T08:03:30") == []


@pytest.mark.parametrize(("page", "held"), [(1, 1), (2, 3), (500, 1), (3, 2000)])
def test_visits_are_read_page_by_page_and_wait_for_the_end_of_an_earlier_one_only_so_long(
    walked: Yard, monkeypatch: pytest.MonkeyPatch, page: int, held: int
) -> None:
    stay(walked, 1, 30, 110)
    for number, each in enumerate(walked.walked(across, 130)):
        walked.pipeline.process(replace(each, camera="door", burst_id=f"door-{number}", digest=f"door {number}"))
    whole = [[e.event.id for e in visit.events] for visit in visits(walked.store, Stretch())]
    ends = [visit.end_us for visit in visits(walked.store, Stretch())]
    monkeypatch.setattr(visit_log, "PAGE", page)
    monkeypatch.setattr(visits_module, "HELD", held)
    assert [[e.event.id for e in visit.events] for visit in visits(walked.store, Stretch())] == whole
    assert [visit.end_us for visit in visits(walked.store, Stretch())] == ends
    assert sum(map(len, whole)) == len(walked.store.events())


def test_a_camera_that_is_off_does_not_make_others_be_read_from_then_on(
    walked: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, each in enumerate(walked.walked(across, 16)):  # the last frame of this one has somebody in view
        walked.pipeline.process(replace(each, camera="door", burst_id=f"door-{number}", digest=f"door {number}"))
    for number in range(13, 60):
        walked.pipeline.process(walked.walk(number, lambda t: across(t % 30), number * 2.0))
    asked: list[tuple[object, ...]] = []
    begun = walked.store.begun

    def watched(*arguments: Any, **more: Any) -> list[LoggedEvent]:
        if more.get("names") is None:
            asked.append(arguments)
        return begun(*arguments, **more)

    since_us = START_US + 100_000_000
    near = [[e.event.id for e in visit.events] for visit in visits(walked.store, Stretch(since_us))]
    monkeypatch.setattr(visit_log, "NEAR_US", 10_000_000)
    monkeypatch.setattr(walked.store, "begun", watched)
    assert [[e.event.id for e in visit.events] for visit in visits(walked.store, Stretch(since_us))] == near
    every = [visit for visit in visits(walked.store, Stretch()) if visit.end_us is None or visit.end_us >= since_us]
    assert [[e.event.id for e in visit.events] for visit in every] == near
    assert {visit.first.camera for visit in every} == {"gate", "door"}
    of_all = [arguments[0] for arguments in asked if arguments[2:4] == (None, None)]
    assert of_all[0] is not None
    assert of_all[0] >= since_us - 10_000_000, "the log of all cameras is read from shortly before the stretch"


def test_memory_is_flat_however_many_lines_wait_for_a_long_visit(walked: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    stay(walked, 1, 30, 110)
    for number in range(8):
        for each in walked.walked(lambda t: across(t % 26), 130):
            camera = f"door-{number}"
            key = f"{camera} {each.burst_id}"
            walked.pipeline.process(replace(each, camera=camera, burst_id=key, digest=key))
    most = 0

    class Watched(visits_module.Joiner):
        def _ready(self, now_us: int) -> Iterator[Visit]:
            nonlocal most
            yield from super()._ready(now_us)
            most = max(most, len(self._waiting))

    monkeypatch.setattr(visits_module, "Joiner", Watched)
    monkeypatch.setattr(visits_module, "HELD", 10)
    assert len(list(visits(walked.store, Stretch()))) > 40
    assert most <= 20, "a group of one instant, and those that it may still change"


def test_a_withdrawn_event_is_shown_and_says_which_late_burst_superseded_it(
    yard: Yard, show: Callable[..., list[str]]
) -> None:
    bursts = yard.walked(across, 26)
    for each in [*bursts[:5], *bursts[7:], *bursts[5:7]]:
        yard.pipeline.process(each)
    assert not any("superseded" in line for line in show("--no-withdrawn"))
    marked = [line for line in show() if "superseded" in line]
    assert marked
    why = r"08:00:\d\d superseded by a late burst of 2026-11-22 08:00:1[02]: person "
    assert all(re.match(why, line) for line in marked), marked
    assert [line for line in show() if line not in marked] == show("--no-withdrawn")
    assert show("--withdrawn") == show()


def test_no_line_is_longer_than_120_characters_and_the_id_and_what_was_not_watched_stay() -> None:
    long = "a" * 63
    event = changed(LOGGED.event, site=long, camera=long, sector=long, label="person", time_uncertainty_s=21_000.0)
    left = changed(event, kind="left", direction="right")
    text = EventText(LocalTime(), "site")
    for visit in (Visit([replace(LOGGED, event=event), replace(LOGGED, event=left)]), Visit([LOGGED])):
        line = plain(text.visit(visit, "0123456789"))
        assert len(line) <= 120, line
        assert line.endswith("  0123456789")
    line = plain(text.visit(Visit([replace(LOGGED, event=changed(left, label="b" * 63))]), "01234567"))
    assert (len(line) <= 120, line.endswith("  01234567")) == (True, True)
    one = changed(LOGGED.event, sector=long, time_uncertainty_s=21_000.0)
    assert "not watched  01234567" in plain(text.visit(Visit([replace(LOGGED, event=one)]), "01234567"))


def test_a_short_id_is_longer_where_another_id_begins_alike(walked: Yard, show: Callable[..., list[str]]) -> None:
    first, second, *_ = (visit.first for visit in visits(walked.store, Stretch()))
    twin = f"{first.id[:11]}{'0' if first.id[11] != '0' else '1'}{second.id[12:]}"
    with walked.store._engine.begin() as connection:
        connection.execute(update(events_table).where(events_table.c.id == second.id).values(id=twin))
    ids = [line.split()[-1] for line in show()[1:]]
    assert {first.id[:12], twin[:12]} < set(ids)
    assert sorted(map(len, ids)) == [8, 8, 12, 12]
    assert walked.store.past.short_ids(["f" * 32]) == {}


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("environment", "is_coloured"), [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)]
)
def test_a_terminal_gets_colour_unless_it_says_no(
    walked: Yard, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], is_coloured: bool
) -> None:
    for name in ("NO_COLOR", "TERM"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    terminal, pipe = Terminal(), io.StringIO()
    for stream in (terminal, pipe):
        monkeypatch.setattr(sys, "stdout", stream)
        VisitPrinter(walked.store, LocalTime()).show(visits(walked.store, Stretch()))
    assert ("\x1b[" in terminal.getvalue()) == is_coloured
    assert re.sub(r"\x1b\[\d*m", "", terminal.getvalue()) == pipe.getvalue()


def test_following_tells_a_visit_when_it_begins_and_again_when_it_is_over(
    yard: Yard, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(events, "now_us", lambda: START_US)
    for each in yard.walked(across, 26):
        yard.pipeline.process(each)
    stop = threading.Event()
    printer = VisitPrinter(yard.store, LocalTime())

    def show(page: Sequence[LoggedEvent]) -> None:
        printer.announced(page)
        if page[-1].seq == yard.store.last_seq():
            stop.set()

    events.following(yard.store, show, 0, Window(None, None, None, None), None, stop)
    assert without_ids(capsys.readouterr().out.splitlines())[1:] == [
        "since 07:00:01 person at west, came from the left; 1 of 1 model",
        "07:00:01-07:00:10 person at west, 9 s, came from the left, left to the right; 1 of 1 model",
        "07:00:10 person crossed middle, eastward; 1 of 1 model",
        "since 07:00:10 person at east, came from the left; 1 of 1 model",
        "07:00:10 person moved west > east, to the right; 1 of 1 model",
        "07:00:10-07:00:18 person at east, 8 s, came from the left, left to the right; 1 of 1 model",
    ]


def test_a_kind_alone_gives_its_events_each_with_its_verb(walked: Yard, show: Callable[..., list[str]]) -> None:
    assert without_ids(show("--kind", "left"))[1:] == [
        "08:00:10 person left west, to the right; 1 of 1 model",
        "08:00:18 person left east, to the right; 1 of 1 model",
    ]
    assert without_ids(show("--kind", "presence_ended"))[1:] == [
        "08:00:10 person gone from west; 1 of 1 model",
        "08:00:18 person gone from east; 1 of 1 model",
    ]
    assert without_ids(show("--kind", "entered"))[1].startswith("08:00:01 person entered west, came from the left")


def test_a_place_is_named_as_far_as_it_takes(walked: Yard, show: Callable[..., list[str]]) -> None:
    stranger = walked.walk(90, across, 0)
    for number, each in enumerate(walked.walked(across, 26)):
        walked.pipeline.process(replace(each, camera="door", burst_id=f"door-{number}", digest=f"door {number}"))
    assert stranger.camera == "gate"
    assert any("person in door/view, " in line or "person at door/view, " in line for line in show())
    assert any(line.startswith("08:00:01-08:00:10 person at gate/west, 9 s") for line in show())
    assert any("person at west, 9 s" in line for line in show("--camera", "gate"))
    assert any("person in view, " in line for line in show("--camera", "door"))


def test_a_presence_whose_visit_counts_for_nothing_has_a_line_of_its_own(
    yard: Yard, show: Callable[..., list[str]]
) -> None:
    yard.write(f"{OSLO}\n[movement]\ndwell_s = 60\n")
    stay(yard, 1, 0, 12)
    assert without_ids(show())[1:] == ["08:00:00-08:00:11 person at west, 12 s; 1 of 1 model"]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.4, "0 s"),
        (11, "11 s"),
        (99.4, "99 s"),
        (100, "2 min"),
        (3600, "60 min"),
        (7500, "2 h 5 min"),
        (432_000, "5 days"),
    ],
)
def test_a_length_is_told_in_the_unit_that_fits_it(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_times_are_typed_as_they_are_shown(
    walked: Yard, show: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.commands.options.now_us", lambda: START_US + 86_400_000_000)
    whole = show()
    assert show("--since", "yesterday 08:00") == show("--since", "yesterday", "--until", "08:01") == whole
    assert show("--since", "yesterday 08:00:12")[1:] == [line for line in whole if line.startswith(EAST)]
    assert show("--since", "today") == []
    assert show("--since", "08:00") == []
    assert read_when("08:00").us(LocalTime(), START_US) <= START_US


def test_the_help_says_what_a_time_without_a_zone_means() -> None:
    shown = " ".join(CliRunner().invoke(command, ["events", "--help"]).output.split())
    assert "A time without a zone is in the site's local time" in shown
    assert "yesterday 18:00" in shown


def test_the_newest_lines_are_shown_and_it_says_so(
    walked: Yard, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def shown(*arguments: str) -> tuple[list[str], str]:
        result = CliRunner().invoke(command, ["events", *arguments, "--database", database_url])
        assert result.exit_code == 0, result.output
        return result.stdout.splitlines(), result.stderr

    (heading, *whole), note = shown()
    assert len(whole) == 4
    assert note == ""
    for last in (1, 3):
        lines, note = shown("--last", str(last))
        assert lines == [heading, *whole[-last:]]
        assert note == f"the newest {last} lines; --since or --last shows more\n"
    assert shown("--last", "4") == ([heading, *whole], "")
    full, note = shown("--full", "--last", "2")
    assert full == shown("--full")[0][-2:]
    assert note
    moved, note = shown("--kind", "entered", "--last", "1")
    assert [line[:8] for line in moved[1:]] == ["08:00:10"]
    assert note
    monkeypatch.setattr(events, "NEWEST", 2)
    assert shown()[0] == [heading, *whole[-2:]]
    assert shown("--since", "2026-11-22") == ([heading, *whole], "")
    every = [logged for logged in walked.store.begun() if not logged.is_withdrawn]
    assert len(shown("--json")[0]) == len(every) > 2


@pytest.mark.parametrize("other", ["--json", "--follow"])
def test_last_goes_with_lines_of_the_past_alone(walked: Yard, database_url: str, other: str) -> None:
    result = CliRunner().invoke(command, ["events", "--last", "3", other, "--database", database_url])
    assert result.exit_code == 2
    assert "--last counts lines of the past" in result.output


def microsecond_order(events: list[Event]) -> bool:
    return all(microseconds(a.started_at) <= microseconds(b.started_at) for a, b in pairwise(events))


def test_the_store_gives_events_in_the_order_in_which_they_began_page_by_page(walked: Yard) -> None:
    every = walked.store.begun()
    assert microsecond_order([each.event for each in every])
    assert walked.store.begun(backwards=True) == every[::-1]
    page, read = walked.store.begun(limit=3), []
    while page:
        read += page
        page = walked.store.begun(limit=3, beyond=page[-1])
    assert read == every
    lefts = walked.store.begun(None, None, "yard", "gate", "left", backwards=True, limit=1, beyond=every[-1])
    assert [each.event.kind for each in lefts] == ["left"]
    assert open_store(walked.store.name) is not walked.store
