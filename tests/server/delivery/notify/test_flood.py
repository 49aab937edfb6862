"""Never a flood: quiet hours, a limit of an hour, and digests of what is not told."""

from __future__ import annotations

from collections.abc import Callable
from zoneinfo import ZoneInfo

import pytest

from policies.events import microseconds
from server.delivery.notify.quiet import is_quiet, read_hours
from server.domain.times.local_time import LocalTime
from tests.server.delivery.notify.house import NOON, OSLO, House
from tests.server.delivery.notify.receivers import HttpReceiver

Make = Callable[..., House]


@pytest.mark.parametrize(
    ("hours", "at_s", "quiet"),
    [
        ("18:00-18:12", 0, False),
        ("18:12-18:13", 0, True),
        ("18:12-18:13", 59, True),
        ("18:12-18:13", 60, False),
        ("22:00-06:00", 0, False),
        ("22:00-06:00", 4 * 3600, True),
        ("22:00-06:00", 11 * 3600, True),
        ("22:00-06:00", 12 * 3600, False),
        ("sun 22:00-06:00", 11 * 3600, True),  # Monday morning belongs to Sunday's night
        ("mon 22:00-06:00", 11 * 3600, False),
        ("sat,sun 00:00-23:59", 0, True),
        ("mon,tue 00:00-23:59", 0, False),
        ("00:00-00:00", 0, True),
    ],
)
def test_quiet_hours_go_by_the_clock_and_the_day_on_which_they_begin(hours: str, at_s: float, quiet: bool) -> None:
    assert is_quiet([read_hours(hours)], OSLO, microseconds(NOON) + round(at_s * 1e6)) is quiet


def test_quiet_hours_keep_to_the_wall_clock_when_it_is_set_back_in_autumn() -> None:
    hours = [read_hours("02:30-03:00")]
    first_us = microseconds(NOON.replace(month=10, day=25, hour=0, minute=30))
    assert [is_quiet(hours, OSLO, first_us + h * 3_600_000_000) for h in range(3)] == [True, True, False]


def test_what_happens_in_quiet_hours_comes_as_one_digest_at_their_end(house: Make, receiver: HttpReceiver) -> None:
    h = house(quiet=["18:14-18:30"], cooldown_s=0)
    h.say(h.came())
    h.pass_(130, 5)
    h.say(h.left(0))
    for n in range(3):
        h.say(h.came(130 + n * 60))
    h.say(h.came(200, label="vehicle", sector="road"))
    h.pass_(900, 5)
    assert len(receiver.posts) == 1
    h.pass_(60, 5)
    assert receiver.lines[1:] == [
        "4 in quiet hours from 18:14 to 18:16: gate/table person 3, gate/road vehicle 1 (north-yard); "
        "person left gate/table after 2 min (north-yard)"
    ]


def test_what_happens_in_quiet_hours_can_be_dropped(house: Make, receiver: HttpReceiver) -> None:
    h = house(quiet=["18:00-18:30"], quiet_digest=False)
    h.say(h.came())
    h.say(h.left(0, 60))
    h.pass_(1800, 10)
    assert receiver.lines == []


def test_quiet_hours_are_those_of_each_site(house: Make, receiver: HttpReceiver) -> None:
    h = house(quiet=["18:00-19:00"])
    h.zone["south"] = LocalTime(ZoneInfo("America/New_York"))
    h.say(h.came())
    h.say(h.came(site="south"))
    h.pass_(5)
    assert receiver.lines == ["12:12 person at gate/table (south)"]


def test_a_message_that_waits_when_quiet_hours_begin_goes_into_their_digest(
    house: Make, receiver: HttpReceiver
) -> None:
    h = house(quiet=["18:13-18:20"], picture=True)  # it waits for its picture
    h.clock.advance(58)
    h.say(h.came())
    h.pass_(500, 1)
    assert receiver.lines == ["1 in quiet hours at 18:12: gate/table person 1 (north-yard)"]


def test_500_events_of_an_hour_give_the_most_of_an_hour_and_a_digest(house: Make, receiver: HttpReceiver) -> None:
    h = house(most_an_hour=10, cooldown_s=0, ends=False)
    for n in range(500):
        h.say(h.came(sector=("table", "door", "road")[n % 3]))
        h.pass_(7.2, 7.2)
    within_the_hour = list(receiver.lines)
    assert len(within_the_hour) <= 10 + 1
    assert len(h.channel.memory) < 50_000
    h.pass_(3600 + 60, 20)
    digests = [line for line in receiver.lines if " more " in line]
    told = [line for line in receiver.lines if line not in digests]
    assert sum(int(line.split()[0]) for line in digests) + len(told) == 500
    assert len(digests) <= 2
    assert digests[0].startswith("490 more from 18:13 to 19:11: gate/") or len(digests) == 2


def test_a_digest_names_the_places_with_the_most_first(house: Make, receiver: HttpReceiver) -> None:
    h = house(most_an_hour=1, cooldown_s=0, ends=False)
    h.say(h.came())
    for n in range(12):
        h.say(h.came(camera=f"c{n:02}"))
    h.say(h.came(camera="c11"))
    h.pass_(320, 10)
    assert receiver.lines[1] == (
        "13 more at 18:12: c11/table person 2, c00/table person 1, c01/table person 1, c02/table person 1, "
        "c03/table person 1, c04/table person 1, c05/table person 1, c06/table person 1, elsewhere 4 (north-yard)"
    )


def test_what_is_counted_and_withdrawn_is_not_in_the_digest(house: Make, receiver: HttpReceiver) -> None:
    h = house(most_an_hour=1, cooldown_s=0, ends=False)
    h.say(h.came())
    false, true = h.say(h.came(1)), h.say(h.came(2))
    h.say(false, "withdrawn")
    h.pass_(320, 10)
    assert receiver.lines[1] == "1 more at 18:12: gate/table person 1 (north-yard)"
    h.say(true, "withdrawn")
    h.pass_(30)
    assert len(receiver.posts) == 2


def test_there_is_no_digest_of_what_was_all_withdrawn(house: Make, receiver: HttpReceiver) -> None:
    h = house(most_an_hour=1, cooldown_s=0, ends=False)
    h.say(h.came())
    h.say(h.say(h.came(1)), "withdrawn")
    h.pass_(4000, 20)
    assert len(receiver.posts) == 1


def test_the_limit_is_free_again_after_an_hour(house: Make, receiver: HttpReceiver) -> None:
    h = house(most_an_hour=2, cooldown_s=0, ends=False)
    for n in range(2):
        h.say(h.came(n))
    h.pass_(3600, 20)
    h.say(h.came())
    h.pass_(5)
    assert len(receiver.posts) == 3
