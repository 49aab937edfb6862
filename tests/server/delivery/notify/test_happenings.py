"""One happening gives one message, its end another, and what turns out otherwise is taken back."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from server.domain.errors import ConfigurationError
from tests.server.delivery.notify.house import House, announcement, event
from tests.server.delivery.notify.receivers import HttpReceiver

Make = Callable[..., House]


def test_a_visit_is_told_when_it_begins_and_when_it_ends(house: Make, receiver: HttpReceiver) -> None:
    h = house()
    h.say(h.came())
    h.pass_(240)
    h.say(h.left(0))
    h.pass_(5)
    assert receiver.lines == [
        "18:12 person at gate/table (north-yard)",
        "person left gate/table after 4 min (north-yard)",
    ]
    assert {post.json["title"] for post in receiver.posts} == {"Sectorwatch north-yard"}


def test_a_begin_in_a_stretch_without_frames_is_told_as_such(house: Make, receiver: HttpReceiver) -> None:
    h = house()
    h.say(h.came(-60, uncertainty_s=120))
    h.pass_(2)
    assert receiver.lines == [
        "~18:11 person at gate/table, came between 18:09:00 and 18:13:00, not watched (north-yard)"
    ]
    h.say(h.left(-60, 240, uncertainty_s=120))
    h.pass_(2)
    assert receiver.lines[1] == "person left gate/table, between 18:14:00 and 18:18:00, not watched (north-yard)"


def test_an_end_is_not_told_where_nobody_wants_it_or_the_begin_was_not_told(
    house: Make, receiver: HttpReceiver
) -> None:
    h = house(ends=False)
    h.say(h.came())
    h.say(h.left(0, 60))
    h.pass_(3)
    assert len(receiver.posts) == 1
    h = house()
    h.say(h.left(0, 60))
    h.pass_(3)
    assert len(receiver.posts) == 1


def test_entered_and_left_of_a_visit_give_no_further_message(house: Make, receiver: HttpReceiver) -> None:
    h = house(what=["visits", "movements"])
    h.say(event("entered", 0, track="t1", direction="left"))
    h.say(h.came())
    h.say(event("left", 20, track="t1", direction="right"))
    h.say(h.left(0, 20))
    h.pass_(5)
    assert len(receiver.posts) == 2


def test_movements_are_told_on_request_alone(house: Make, receiver: HttpReceiver) -> None:
    crossed = event("crossed", 0, sector=None, line="door", direction="inwards", track="t1")
    moved = event("moved", 0, sector=None, from_sector="west", to_sector="east", direction="unknown", track="t1")
    h = house()
    h.say(crossed)
    h.pass_(2)
    assert receiver.lines == []
    h = house(what=["movements"])
    for each in (crossed, moved, event("entered", 0, direction="left"), h.came()):
        h.say(each)
    h.pass_(6)
    assert receiver.lines == [
        "18:12 person crossed gate/door, inwards (north-yard)",
        "18:12 person moved gate/west > east (north-yard)",
        "18:12 person at gate/table, came from the left (north-yard)",
    ]


def test_after_a_visit_the_next_ones_of_its_sector_and_target_are_counted_for_the_cooldown(
    house: Make, receiver: HttpReceiver
) -> None:
    h = house(cooldown_s=300)
    h.say(h.came())
    h.say(h.left(0, 30))
    for at_s in (60, 120, 329):
        h.say(h.came(at_s))
        h.say(h.left(at_s, at_s + 5))
    h.say(h.came(100, label="vehicle"))
    h.say(h.came(100, sector="door"))
    h.say(h.came(331))
    h.pass_(10)
    assert receiver.lines == [
        "18:12 person at gate/table (north-yard)",
        "person left gate/table after 30 s (north-yard)",
        "18:13 vehicle at gate/table (north-yard)",
        "18:13 person at gate/door (north-yard)",
        "18:17 person at gate/table (north-yard); 3 more since 18:12",
    ]


def test_a_clock_that_was_a_day_ahead_silences_nobody_for_a_day(house: Make, receiver: HttpReceiver) -> None:
    h = house()
    h.say(h.came(86_400))
    h.say(h.came())
    h.pass_(3)
    assert receiver.lines == [
        "23 Nov 18:12 person at gate/table (north-yard)",
        "18:12 person at gate/table (north-yard)",
    ]


def test_events_that_the_table_never_tells_are_refused(house: Make) -> None:
    with pytest.raises(ConfigurationError, match="channel `phones`: `events` has none of what `what` asks for"):
        house(events=["crossed"])
    house(events=["crossed"], what=["movements"])
    house(events=["crossed"], what=["server"])


@pytest.mark.parametrize(
    ("pattern", "told"),
    [
        ("north-yard/gate/table/person", ["18:12 vehicle at gate/table (north-yard)"]),
        ("*/gate/t*/*", []),
        ("*/*/*/veh*", ["18:12 person at gate/table (north-yard)"]),
        ("south/*/*/*", ["18:12 person at gate/table (north-yard)", "18:12 vehicle at gate/table (north-yard)"]),
    ],
)
def test_what_a_pattern_names_is_muted(house: Make, receiver: HttpReceiver, pattern: str, told: list[str]) -> None:
    h = house(mute=[pattern])
    h.say(h.came())
    h.say(h.came(label="vehicle"))
    h.pass_(4)
    assert receiver.lines == told


def test_events_of_other_sites_targets_and_kinds_are_not_told(house: Make, receiver: HttpReceiver) -> None:
    h = house(sites=["north-yard"], targets=["person"], events=["presence_started"])
    h.say(h.came(site="south"))
    h.say(h.came(label="vehicle"))
    h.say(h.came())
    h.say(h.left(0, 10))
    h.pass_(5)
    assert receiver.lines == ["18:12 person at gate/table (north-yard)"]


def test_what_was_told_and_does_not_hold_is_taken_back_by_one_line(house: Make, receiver: HttpReceiver) -> None:
    h = house()
    came, left = h.say(h.came()), h.say(h.left(0, 20))
    h.pass_(5)
    h.say(came, "withdrawn")
    h.say(left, "withdrawn")
    h.pass_(20)
    assert receiver.lines[2:] == ["taken back: 18:12 person at gate/table (north-yard)"]


def test_an_event_that_was_never_told_is_not_taken_back(house: Make, receiver: HttpReceiver) -> None:
    h = house(quiet=["18:00-18:15"])
    came = h.say(h.came())
    h.say(came, "withdrawn")
    h.say(h.came(label="vehicle"))
    h.pass_(300, 10)
    assert receiver.lines == ["1 in quiet hours at 18:12: gate/table vehicle 1 (north-yard)"]


def test_an_end_that_is_taken_back_lets_the_visit_go_on(house: Make, receiver: HttpReceiver) -> None:
    h = house()
    h.say(h.came())
    left = h.say(h.left(0, 20))
    h.pass_(5)
    h.say(left, "withdrawn")
    h.pass_(15)
    h.say(h.left(0, 600))
    h.pass_(5)
    assert receiver.lines[2:] == [
        "taken back: person left gate/table after 20 s (north-yard)",
        "person left gate/table after 10 min (north-yard)",
    ]


@pytest.mark.parametrize("order", ["old first", "new first"])
@pytest.mark.parametrize(("by_s", "told"), [(-10, []), (-600, ["corrected: 18:02 person at gate/table (north-yard)"])])
def test_a_time_that_is_corrected_is_told_if_it_differs_by_minutes(
    house: Make, receiver: HttpReceiver, order: str, by_s: float, told: list[str]
) -> None:
    h = house()
    old, new = h.say(h.came()), h.came(by_s)
    h.pass_(5)
    if order == "old first":
        h.say(old, "withdrawn")
    h.say(new, "corrected", [old.id])
    if order == "new first":
        h.say(old, "withdrawn")
    h.pass_(30)
    h.say(h.left(by_s, 60))
    h.pass_(5)
    assert receiver.lines[1:-1] == told
    assert receiver.lines[-1].startswith("person left gate/table after")


def test_an_event_that_is_announced_again_as_corrected_gives_no_message(house: Make, receiver: HttpReceiver) -> None:
    h = house()
    came = h.say(h.came())
    h.say(came, "corrected", [came.id])
    h.pass_(20)
    assert len(receiver.posts) == 1


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"most_an_hour": 1, "cooldown_s": 0}, "1 more at 18:12: gate/table person 1 (north-yard)"),
        ({"cooldown_s": 3600}, "19:12 person at gate/table (north-yard); 1 more since 18:12"),
    ],
)
def test_a_correction_of_what_was_only_counted_is_counted_once(
    house: Make, receiver: HttpReceiver, settings: dict[str, float], told: str
) -> None:
    h = house(ends=False, **settings)
    h.say(h.came())
    counted = h.say(h.came(10))
    h.say(counted, "corrected", [counted.id])
    h.say(h.came(11), "corrected", [counted.id])
    h.say(counted, "withdrawn")
    h.pass_(3600, 20)
    h.say(h.came())
    h.pass_(2)
    assert told in receiver.lines
    assert len([line for line in receiver.lines if "more" in line]) == 1


def test_an_event_that_is_withdrawn_before_it_is_told_is_not_told(house: Make, receiver: HttpReceiver) -> None:
    h = house()
    came = h.came()
    h.channel.send(announcement(1, came, "event", withdrawn=True))
    h.channel.send(announcement(2, came, "withdrawn"))
    h.pass_(20)
    assert receiver.lines == []


def test_an_event_that_holds_again_is_told_again(house: Make, receiver: HttpReceiver) -> None:
    h = house(cooldown_s=0)
    came = h.say(h.came())
    h.pass_(2)
    h.say(came, "withdrawn")
    h.pass_(20)
    h.say(came)
    h.pass_(2)
    line = "18:12 person at gate/table (north-yard)"
    assert receiver.lines == [line, f"taken back: {line}", line]


def test_a_message_that_nobody_got_yet_is_taken_out_instead_of_taken_back(house: Make, receiver: HttpReceiver) -> None:
    h = house()
    came = h.say(h.came())
    h.say(came, "withdrawn")
    h.pass_(20)
    assert receiver.lines == []


def test_old_events_are_counted_in_one_digest(house: Make, receiver: HttpReceiver) -> None:
    h = house(max_age_s=1800)
    for n in range(40):
        h.say(h.came(-3 * 86_400 + n * 600, label="person" if n % 4 else "vehicle"))
    h.say(h.came(-1700, sector="door"))
    h.pass_(400, 10)
    assert receiver.lines == [
        "17:43 person at gate/door (north-yard)",
        "40 known late from 19 Nov 18:12 to 20 Nov 00:42: gate/table person 30, gate/table vehicle 10 (north-yard)",
    ]


def test_a_failed_ensemble_is_told_and_that_it_is_well_again(house: Make, receiver: HttpReceiver) -> None:
    h = house()
    for what in ("serves", "approved", "unapproved", "approved", "approved", "refused"):
        h.notice(what)
    h.pass_(6)
    at = h.channel._post.local(None).minute(h.clock())
    assert [line.removeprefix(at) for line in receiver.lines] == [
        " server: ensemble not approved: says cat",
        " server: ensemble approved again: says cat",
        " server: ensemble refused: says cat",
    ]
    h = house(what=["visits"])
    h.notice("refused")
    h.pass_(3)
    assert len(receiver.posts) == 3
