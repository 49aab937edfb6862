"""Annotations: kept for ever, the newest counts."""

from __future__ import annotations

import re
from collections.abc import Callable

import msgspec
import pytest
from click.testing import Result

from policies.events import instant
from server.analysis.annotations import MissedFact, annotation_of, fact_of, missed_annotation
from server.domain.errors import Unknown, Unprocessable
from server.domain.matching import fact_of as fact_of_event
from server.domain.matching import matched
from server.domain.records import Annotation
from server.store import Store
from tests.server.analysis.annotated import ids
from tests.server.scenes import START_US, YARD, Yard, burst
from tests.stand_ins import ManualClock

START = instant(START_US)


def test_the_later_annotation_of_an_event_counts_and_the_earlier_one_stays(yard: Yard, clock: ManualClock) -> None:
    first, second, *_ = ids(yard)
    kept = yard.store.annotations
    kept.add([annotation_of(yard.store, first, "true", "ann"), annotation_of(yard.store, second, "true", "ann")])
    clock.advance(5)
    kept.add([annotation_of(yard.store, first, "false", "bob", "a shadow")])
    assert [(a.number, a.truth, a.author) for a in kept.all()] == [
        (1, "true", "ann"),
        (2, "true", "ann"),
        (3, "false", "bob"),
    ]
    current = {a.subject: (a.truth, a.author, a.note, a.made_at_us) for a in kept.current("yard")}
    assert current[first] == ("false", "bob", "a shadow", clock.now_us)
    assert (len(current), kept.current("dock")) == (2, [])


def test_an_annotation_repeats_the_fact_so_that_it_outlives_the_event(yard: Yard) -> None:
    for logged in yard.store.events():
        annotation = annotation_of(yard.store, logged.event.id, "true", "ann")
        assert matched([fact_of(annotation)], [fact_of_event(logged.event)]) == [(0, 0)]


def test_something_missed_can_be_added_and_taken_back(yard: Yard) -> None:
    seen = MissedFact("yard", "gate", "entered", instant(START_US + 1_000_000), sector="west")
    [added] = yard.store.annotations.add([missed_annotation(yard.store, seen, "ann")])
    assert (added.truth, added.is_told, added.within_s) == ("missed", False, 2.0)
    yard.store.annotations.add([annotation_of(yard.store, added.subject[:12], "false", "ann")])
    assert [a.truth for a in yard.store.annotations.current()] == ["false"]
    yard.store.annotations.add([annotation_of(yard.store, added.subject, "true", "ann")])
    assert [(a.truth, a.is_told) for a in yard.store.annotations.current()] == [("missed", False)]


@pytest.mark.parametrize(
    ("fact", "error"),
    [
        (MissedFact("yard", "gaet", "entered", START, sector="west"), "did you mean `gate`"),
        (MissedFact("yard", "gate", "entered", START, sector="wets"), "did you mean `west`"),
        (MissedFact("yard", "gate", "entered", START), "`entered` needs sector"),
        (MissedFact("yard", "gate", "crossed", START, sector="west", line="middle"), "`crossed` has no sector"),
        (MissedFact("yard", "gate", "crossed", START, line="midle"), "did you mean `middle`"),
        (MissedFact("yard", "gate", "moved", START, from_sector="west"), "`moved` needs to_sector"),
        (MissedFact("yard", "gate", "left", START, sector="west", label="persn"), "did you mean `person`"),
        (MissedFact("yard", "gate", "arrived", START, sector="west"), "no kind of event"),  # type: ignore[arg-type]
    ],
)
def test_a_fact_that_cannot_be_is_refused_with_what_could(yard: Yard, fact: MissedFact, error: str) -> None:
    with pytest.raises((Unknown, Unprocessable), match=error):
        missed_annotation(yard.store, fact, "ann")


def test_an_event_that_is_not_there_or_not_the_only_one_cannot_be_annotated(yard: Yard) -> None:
    with pytest.raises(Unknown, match="no event zzz"):
        annotation_of(yard.store, "zzz", "true", "ann")
    with pytest.raises(Unknown, match="several facts"):
        annotation_of(yard.store, "", "true", "ann")


def test_annotations_are_the_same_on_both_databases(store: Store) -> None:
    place = {"sector": None, "from_sector": "a", "to_sector": "b", "line": None}
    when = {"at_us": 5, "within_s": 2.0, "made_at_us": 0}
    made_by = {"is_told": False, "author": "ann", "note": None}
    made = Annotation(0, "s", "missed", "yard", "gate", "moved", "person", **place, **when, **made_by)
    [kept] = store.annotations.add([made])
    assert store.annotations.all() == store.annotations.current("yard") == store.annotations.about("s") == [kept]
    assert store.annotations.all(after=1) == store.annotations.about("t") == store.annotations.add([]) == []


def test_annotate_takes_events_and_a_word(ask: Callable[..., Result], yard: Yard) -> None:
    first, second, third, *_ = ids(yard)
    result = ask("annotate", first[:12], second, "false", "--author", "ann", "--note", "a cat")
    assert result.exit_code == 0, result.output
    assert [line.split()[0] for line in result.stdout.splitlines()] == ["false", "false"]
    assert result.stdout.splitlines()[0].endswith(f'author=ann note="a cat" event={first[:8]}')
    ask("annotate", third, "true")
    ask("annotate", first, "unsure", "--author", "bob")
    shown = ask("annotate", "list").stdout.splitlines()
    words = {line.rpartition("=")[2]: line.split()[0] for line in shown}
    assert words == {first[:8]: "unsure", second[:8]: "false", third[:8]: "true"}


def test_an_author_s_name_is_one_word_of_one_line_whatever_it_holds(ask: Callable[..., Result], yard: Yard) -> None:
    first, *_ = ids(yard)
    shown = ask("annotate", first, "false", "--author", "ann\ntrue \x1b[2J", "--note", "a\nb").stdout
    assert shown.endswith(f'author="ann\\ntrue \\u001b[2J" note="a\\nb" event={first[:8]}\n')
    assert shown.count("\n") == 1


def test_annotate_missed_needs_no_camera_where_there_is_one(ask: Callable[..., Result]) -> None:
    at = "2026-11-22T07:00:05Z"
    result = ask("annotate", "--missed", "--kind", "entered", "--sector", "east", "--at", at, "--within", "1")
    assert result.stdout.startswith("missed 2026-11-22 07:00:05 entered yard/gate person east author=")
    moved = ("--missed", "--kind", "moved", "--from", "west", "--to", "east", "--at", at)
    assert "person west>east" in ask("annotate", *moved).stdout


def test_a_user_without_a_name_is_asked_who_says_so(
    ask: Callable[..., Result], yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nobody() -> str:
        raise KeyError("getpwuid(): uid not found: 1234")

    monkeypatch.setattr("getpass.getuser", nobody)
    result = ask("annotate", ids(yard)[0], "true")
    assert (result.exit_code, "--author" in result.output) == (2, True)
    assert ask("annotate", ids(yard)[0], "true", "--author", "ann").exit_code == 0


def test_export_writes_all_that_was_ever_said_as_json_lines(ask: Callable[..., Result], yard: Yard) -> None:
    first = ids(yard)[0]
    ask("annotate", first, "true", "--author", "ann")
    ask("annotate", first, "false", "--author", "bob")
    lines = [msgspec.json.decode(line) for line in ask("annotate", "export").stdout.splitlines()]
    assert [(a["number"], a["subject"], a["truth"], a["author"]) for a in lines] == [
        (1, first, "true", "ann"),
        (2, first, "false", "bob"),
    ]
    assert lines[0]["made_at"] <= lines[1]["made_at"]
    assert lines[0]["at"] == msgspec.to_builtins(yard.store.events()[0].event.at)


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["true"],
        ["abc"],
        ["abc", "maybe"],
        ["--missed"],
        ["--missed", "--kind", "left"],
        ["abc", "true", "--missed"],
    ],
)
def test_an_annotation_that_says_too_little_is_a_usage_error(ask: Callable[..., Result], words: list[str]) -> None:
    result = ask("annotate", *words)
    assert result.exit_code == 2
    assert "annotate of" not in result.stderr, "a name that nobody typed"


@pytest.mark.parametrize("options", [("--kind", "entered"), ("--within", "3"), ("--camera", "gate")])
def test_options_of_what_was_missed_do_not_go_with_an_event(
    ask: Callable[..., Result], yard: Yard, options: tuple[str, str]
) -> None:
    event = yard.store.events()[0].event.id
    result = ask("annotate", event, "false", *options)
    assert result.exit_code == 2
    assert "go with --missed" in result.stderr
    assert yard.store.annotations.all() == []


def test_an_event_that_is_named_twice_is_annotated_once(ask: Callable[..., Result], yard: Yard) -> None:
    event = yard.store.events()[0].event.id
    assert len(ask("annotate", event, event[:16], "false").stdout.splitlines()) == 1
    assert len(yard.store.annotations.all()) == 1


def told(result: Result) -> list[str]:
    assert result.exit_code == 0, result.output
    return [" ".join(line.split(" author=")[0].split()[2:]) for line in result.stdout.splitlines()]


def test_a_range_of_the_sites_time_stands_for_its_events_and_a_sector_narrows_it(
    ask: Callable[..., Result], yard: Yard
) -> None:
    yard.write(YARD.replace('site = "yard"', 'site = "yard"\ntimezone = "Europe/Oslo"'))
    yard.pipeline.process(yard.walk(90, lambda _: None, 30))
    west = ask("annotate", "2026-11-22T08:00..08:01", "false", "--sector", "west", "--kind", "entered")
    assert told(west) == ["08:00:01 entered yard/gate person west"]
    some = told(ask("annotate", "2026-11-22T08:00:05..08:00:15", "true"))
    kinds = [line.split()[1] for line in some]
    assert kinds == ["crossed", "left", "entered", "moved", "presence_started", "presence_ended"]
    assert len(told(ask("annotate", "2026-11-22T08:00..08:01", "unsure"))) == len(yard.store.events())
    assert {a.truth for a in yard.store.annotations.current()} == {"unsure"}


def test_a_range_says_what_was_said_before(ask: Callable[..., Result], yard: Yard) -> None:
    at = ("annotate", "2026-11-22T07:00..07:00:05")
    ask(*at, "true", "--kind", "entered")
    [line] = ask(*at, "false", "--kind", "entered").stdout.splitlines()
    assert line.startswith("false  2026-11-22 07:00:01 entered yard/gate person west ")
    assert " was=true event=" in line


def test_a_range_that_means_nothing_or_more_than_one_camera_is_refused_with_what_there_is(
    ask: Callable[..., Result], yard: Yard
) -> None:
    at = ("annotate", "2026-11-22T07:00..07:01", "false")
    wrong = ask(*at, "--sector", "wets")
    assert wrong.exit_code == 1
    assert "; there are: person at east, person at middle, person at west" in wrong.stderr
    nothing = ask("annotate", "2026-11-20T07:00..07:10", "false").stderr
    assert "yard/gate has no such event between 2026-11-20 07:00:00 and 2026-11-20 07:10:00\n" in nothing
    yard.pipeline.process(burst(900, [yard.picture(0.3)], 0, camera="door", burst_id="burst-door-1"))
    both = ask(*at)
    assert (both.exit_code, "several cameras match; name one with --site and --camera" in both.stderr) == (1, True)
    assert ask(*at, "--camera", "gate").exit_code == 0


@pytest.mark.parametrize(
    "words",
    [
        ("18:00..", "false"),
        ("18:00..teatime", "false"),
        ("18:20..2026-01-01", "false"),
        ("18:00..18:10", "abc", "false"),
        ("18:00..18:10", "false", "--at", "18:00"),
        ("18:00..18:10", "false", "--visit"),
        ("18:00..18:10", "maybe"),
        ("1..2..3", "false"),
    ],
)
def test_what_is_no_range_is_a_usage_error(ask: Callable[..., Result], words: tuple[str, ...]) -> None:
    assert ask("annotate", *words).exit_code == 2


def test_a_visit_is_annotated_as_a_whole_by_any_of_its_events(ask: Callable[..., Result], yard: Yard) -> None:
    events = [logged.event for logged in yard.store.begun() if logged.event.sector == "west"]
    assert sorted(e.kind for e in events) == ["entered", "left", "presence_ended", "presence_started"]
    for event in events:
        made = ask("annotate", event.id[:8], "false", "--visit").stdout.splitlines()
        assert sorted(line.rpartition("=")[2] for line in made) == sorted(e.id[:8] for e in events)
    moved = next(logged.event for logged in yard.store.begun() if logged.event.kind == "moved")
    assert len(ask("annotate", moved.id, "true", "--visit").stdout.splitlines()) == 1


def test_a_beginning_of_several_ids_is_refused_with_the_candidates(ask: Callable[..., Result], yard: Yard) -> None:
    for command in (("annotate", "", "true"), ("verify", "")):
        wrong = ask(*command).stderr
        first = min(ids(yard))
        assert re.search(rf"among them {first[:8]} \(2026-11-22 07:00:\d\d [a-z_]+ [a-z> ]+\); ", wrong), wrong


@pytest.mark.parametrize("verb", [("annotate", "list"), ("annotate", "export"), ("events",)])
def test_a_site_that_never_sent_is_told_and_is_no_empty_answer(
    ask: Callable[..., Result], verb: tuple[str, ...]
) -> None:
    result = ask(*verb, "--site", "yrad")
    assert result.exit_code == 1
    assert "nothing is stored of yrad/*; cameras with data: yard/gate" in result.stderr
    assert ask(*verb, "--site", "yard").exit_code == 0


def test_what_came_before_the_first_frame_cannot_have_been_missed(ask: Callable[..., Result]) -> None:
    missed = ("annotate", "--missed", "--kind", "entered", "--sector", "west", "--at")
    assert "sent its first frame at 2026-11-22T07:00:00Z" in ask(*missed, "2026-11-22T06:59:59Z").stderr
    assert ask(*missed, "2026-11-22T07:00:00Z").exit_code == 0
    assert ask(*missed, "2026-11-22T07:00:00Z", "--within", "-1").exit_code == 2


def test_what_was_missed_is_held_against_the_policy_of_the_newest_burst(ask: Callable[..., Result], yard: Yard) -> None:
    yard.write(YARD.replace("sectors.west", "sectors.far"))
    yard.pipeline.process(yard.walk(90, lambda _: None, 30))
    yard.write(YARD)
    yard.pipeline.process(yard.walk(91, lambda _: None, 40))
    missed = ("annotate", "--missed", "--kind", "entered", "--at", "2026-11-22T07:00:20Z", "--sector")
    assert ask(*missed, "west").exit_code == 0
    assert "has no sector `far`" in ask(*missed, "far").stderr


def test_what_came_long_after_the_newest_frame_cannot_have_been_missed(ask: Callable[..., Result]) -> None:
    result = ask("annotate", "--missed", "--kind", "entered", "--sector", "east", "--at", "2026-11-22T09:00Z")
    assert result.exit_code == 1
    assert "camera `gate` sent its newest frame at 2026-11-22T07:00:25Z" in result.stderr
