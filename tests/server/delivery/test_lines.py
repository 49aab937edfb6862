"""One line per event: readable, with stable names, the same schema everywhere."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import get_args

import msgspec
import pytest

from policies.events import Event, Kind, Provenance, instant
from server.delivery.lines import json_line, notice_line, text_line
from server.delivery.log_channel import LogChannel
from server.domain.announcements import Announcement, Notice, Noticed, NoticeGiven
from server.domain.records import LoggedEvent
from tests.server.scenes import START_US

EVENT = Event(
    id="0123456789abcdef0123456789abcdef",
    kind="entered",
    site="north-yard",
    camera="gate",
    label="person",
    sector="grass",
    direction="left",
    started_at=instant(START_US + 3_100_000),
    confirmed_at=instant(START_US + 4_000_000),
    time_uncertainty_s=0.25,
    track="3f00aa11bb22",
    score=0.834,
    votes={"a": "for", "b": "for", "c": "against", "d": "abstain", "e": "missing"},
    margin=1.0,
    provenance=Provenance(("burst-00001",), ("0" * 64,), "ensemble-1", "policy-1", None),
)
LOGGED = LoggedEvent(7, EVENT, False, None, "burst-00001")
NOTICE = Notice(3, 9, START_US + 5_000_000, "unapproved", "e" * 64, ("a", "b"), "a says `cat` instead of `person`")


def test_the_text_line_says_when_what_where_and_why() -> None:
    assert text_line(LOGGED) == (
        "2026-11-22T07:00:03.100Z entered north-yard/gate person grass direction=left track=3f00aa11bb22 "
        "score=0.83 votes=2/3 margin=1 uncertainty_s=0.25 confirmed_at=2026-11-22T07:00:04.000Z "
        "event=0123456789abcdef0123456789abcdef"
    )


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"kind": "moved", "sector": None, "from_sector": "grass", "to_sector": "road"}, "grass>road"),
        ({"kind": "crossed", "sector": None, "line": "kerb"}, "kerb"),
    ],
)
def test_a_movement_is_placed_by_its_sectors_or_its_line(change: dict[str, str | None], place: str) -> None:
    moved = replace(LOGGED, event=msgspec.structs.replace(EVENT, **change))
    assert text_line(moved).split()[4] == place


def test_what_an_event_does_not_have_is_left_out() -> None:
    bare = msgspec.structs.replace(EVENT, track=None, direction=None, score=None, votes={}, margin=None)
    line = text_line(replace(LOGGED, event=bare))
    assert [field.split("=")[0] for field in line.split()[5:]] == ["uncertainty_s", "confirmed_at", "event"]


def test_late_corrected_and_withdrawn_events_say_so() -> None:
    assert " late=true event=" in text_line(replace(LOGGED, late=True))
    assert " said=corrected event=" in text_line(LOGGED, "corrected")
    assert " said=withdrawn event=" in text_line(replace(LOGGED, withdrawn_at_us=START_US))
    assert " said=corrected supersedes=a,b event=" in text_line(replace(LOGGED, supersedes=("a", "b")), "corrected")


def test_the_json_line_is_the_schema_of_the_design() -> None:
    wire = msgspec.json.decode(json_line(LOGGED))
    assert set(wire) == {
        *("id", "kind", "site", "camera", "sector", "from_sector", "to_sector", "line", "direction", "label"),
        *("started_at", "ended_at", "confirmed_at", "time_uncertainty_s", "track", "score", "votes", "margin"),
        *("late", "withdrawn", "supersedes", "provenance"),
    }
    assert wire["started_at"] == "2026-11-22T07:00:03.100000Z"
    assert wire["late"] is False
    assert set(wire["provenance"]) == {"burst_ids", "ensemble", "policy", "mask_digest", "frame_sha256"}
    assert msgspec.convert(wire, Event) == EVENT


def test_the_log_channel_writes_and_flushes_one_line_per_announcement() -> None:
    for style, line in (("text", text_line(LOGGED)), ("json", json_line(LOGGED))):
        stream = io.StringIO()
        channel = LogChannel("json" if style == "json" else "text", stream)
        channel.send(Announcement(7, "event", LOGGED))
        channel.send(Announcement(8, "withdrawn", replace(LOGGED, withdrawn_at_us=START_US)))
        lines = stream.getvalue().splitlines()
        assert lines[0] == line
        assert len(lines) == 2
        assert "withdrawn" in lines[1]


def test_a_notice_says_when_what_and_of_which_models() -> None:
    assert notice_line(NOTICE) == (
        f"2026-11-22T07:00:05.000Z unapproved ensemble={'e' * 64} models=a,b "
        f'detail="a says `cat` instead of `person`" notice={NOTICE.id}'
    )
    assert msgspec.json.decode(json_line(NOTICE)) == {
        "id": NOTICE.id,
        "kind": "unapproved",
        "at": "2026-11-22T07:00:05Z",
        "ensemble": "e" * 64,
        "models": ["a", "b"],
        "detail": "a says `cat` instead of `person`",
        "instance": None,
    }
    assert "unapproved instance=north ensemble=" in notice_line(replace(NOTICE, instance="north"))


def test_notices_of_other_facts_have_other_ids_and_no_kind_of_an_event() -> None:
    others = [replace(NOTICE, **{field: value}) for field, value in (("number", 4), ("at_us", 1), ("ensemble", "f"))]
    assert len({outgoing.id for outgoing in (NOTICE, *others)}) == 4
    assert set(get_args(Noticed)).isdisjoint(get_args(Kind))


def test_the_log_channel_tells_notices_in_the_style_of_its_events() -> None:
    for style, line in (("text", notice_line(NOTICE)), ("json", json_line(NOTICE))):
        stream = io.StringIO()
        LogChannel("json" if style == "json" else "text", stream).send(NoticeGiven(9, NOTICE))
        assert stream.getvalue() == line + "\n"
