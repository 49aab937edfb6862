"""Other rules for part of the time: by the site's clock, the day and the sun."""

from __future__ import annotations

from datetime import UTC, datetime, time

import pytest
from msgspec.structs import replace

from policies.events import microseconds
from policies.site.schedule import Place, When, sun_elevation_deg
from policies.site.site_policy import InvalidPolicy, parse_site_policy
from tests.policies.stories import events_of, observation, person_at, policy

NIGHT = """site = "yard"
timezone = "Europe/Oslo"
latitude = 59.9
longitude = 10.7
[[schedule]]
name = "night"
between = ["22:00", "06:00"]
sensitivity = { rule = "any" }
[[schedule]]
name = "weekend"
days = ["sat", "sun"]
presence = { confirm_s = 9 }
[[schedule]]
name = "dark"
sun = "down"
min_score = { "*" = 0.2 }
[cameras.gate]
sensitivity = { rule = "all" }
"""


def at(text: str) -> int:
    return microseconds(datetime.fromisoformat(text))


def in_force(text: str) -> tuple[str, float, float]:
    rules = parse_site_policy(NIGHT).camera("gate").in_force(at(text)).rules
    return rules.sensitivity.rule, rules.presence.confirm_s, rules.least("eye")


@pytest.mark.parametrize(
    ("instant", "expected"),
    [
        ("2026-06-17T12:00:00+02:00", ("all", 1.0, 0.4)),
        ("2026-06-17T21:59:59+02:00", ("all", 1.0, 0.4)),
        ("2026-06-17T22:00:00+02:00", ("any", 1.0, 0.4)),
        ("2026-06-18T05:59:59+02:00", ("any", 1.0, 0.4)),
        ("2026-06-18T06:00:00+02:00", ("all", 1.0, 0.4)),
        ("2026-06-20T12:00:00+02:00", ("all", 9.0, 0.4)),
        ("2026-12-16T19:00:00+01:00", ("all", 1.0, 0.2)),
        ("2026-06-17T19:00:00+02:00", ("all", 1.0, 0.4)),
    ],
)
def test_the_first_schedule_that_holds_the_instant_is_in_force(instant, expected):
    assert in_force(instant) == expected


def test_the_clock_is_the_sites_and_knows_summer_time():
    evening = When(time(22), time(23))
    oslo = Place("Europe/Oslo")
    assert evening.holds(oslo, at("2026-01-15T21:30:00+00:00"))
    assert evening.holds(oslo, at("2026-07-15T20:30:00+00:00"))
    assert not evening.holds(oslo, at("2026-07-15T21:30:00+00:00"))


@pytest.mark.parametrize(
    ("evening", "hours"),
    [("2026-03-28T21:00:00+00:00", 7), ("2026-10-24T20:00:00+00:00", 9)],
    ids=["to summer", "back"],
)
def test_a_night_in_which_the_clocks_are_changed_ends_when_they_say(evening, hours):
    night, berlin = When(time(22), time(6), ("sat",)), Place("Europe/Berlin")
    begin_us, hour_us = at(evening), 3_600_000_000
    held = [night.holds(berlin, begin_us + hour * hour_us) for hour in range(-1, 25)]
    assert held == [False, *[True] * hours, *[False] * (25 - hours)]


@pytest.mark.parametrize(("day", "is_up"), [("2026-06-21", True), ("2026-12-21", False)])
def test_at_the_pole_the_sun_is_up_or_down_for_the_whole_day_and_either_side_of_the_date_line_is_one(day, is_up):
    for hour in range(24):
        then = at(f"{day}T{hour:02}:30:00+00:00")
        assert When(sun="up").holds(Place("UTC", 90, 0), then) is is_up
        lit = [When(sun="up").holds(Place("UTC", -17.7, longitude), then) for longitude in (-180, 180)]
        assert lit[0] is lit[1]


def test_a_night_belongs_to_the_day_on_which_it_began():
    friday_night = When(time(22), time(6), ("fri",))
    assert friday_night.holds(Place(), at("2026-11-27T23:00:00+00:00"))
    assert friday_night.holds(Place(), at("2026-11-28T05:00:00+00:00"))
    assert not friday_night.holds(Place(), at("2026-11-28T23:00:00+00:00"))
    assert not friday_night.holds(Place(), at("2026-11-27T05:00:00+00:00"))


@pytest.mark.parametrize(
    ("instant", "latitude", "longitude", "expected"),
    [
        (datetime(2026, 3, 20, 12, 7, tzinfo=UTC), 0.0, 0.0, 90.0),  # noon at the equator at the equinox
        (datetime(2026, 6, 21, 12, 2, tzinfo=UTC), 51.5, 0.0, 61.9),  # 90 - latitude + obliquity
        (datetime(2026, 12, 21, 10, 42, tzinfo=UTC), 69.6, 18.9, -3.0),  # noon in the polar night
    ],
)
def test_the_sun_stands_where_the_almanac_has_it(instant, latitude, longitude, expected):
    assert sun_elevation_deg(microseconds(instant), latitude, longitude) == pytest.approx(expected, abs=0.6)


def test_a_schedule_changes_what_is_told_from_the_moment_it_holds():
    switch = """site = "yard"
    [[schedule]]
    name = "quiet hours"
    between = ["13:20", "13:25"]
    min_score = { "*" = 0.95 }
    """
    places = {0: [person_at(0.2)], 2: [person_at(0.8)]}
    frames = [observation(i * 0.5, {"eye": places.get(i // 20, [])}) for i in range(80)]
    everything = events_of(parse_site_policy('site = "yard"').camera("gate"), frames)
    assert [e.kind for e in everything].count("entered") == 2
    start = frames[0].at_us
    assert datetime.fromtimestamp(start / 1e6, UTC).strftime("%H:%M") == "14:13"
    shifted = switch.replace("13:20", "14:13:20").replace("13:25", "14:13:40")
    quiet = events_of(parse_site_policy(shifted).camera("gate"), frames)
    assert [e.kind for e in quiet].count("entered") == 1


def test_a_sectors_own_rules_stand_over_the_schedules():
    text = (
        NIGHT + '[cameras.gate.sectors.door]\npolygon = [[0, 0], [1, 0], [1, 1]]\nsensitivity = {rule = "majority"}\n'
    )
    camera = parse_site_policy(text).camera("gate").in_force(at("2026-06-17T23:00:00+02:00"))
    assert camera.rules.sensitivity.rule == "any"
    assert camera.sectors[0].rules.sensitivity.rule == "majority"


def test_a_camera_that_is_not_described_keeps_the_sites_schedule():
    camera = parse_site_policy(NIGHT).camera("new")
    assert camera.in_force(at("2026-06-17T23:00:00+02:00")).rules.sensitivity.rule == "any"
    assert camera.in_force(at("2026-06-17T23:00:00+02:00")).camera == "new"
    assert {camera.digest} == {entry.policy.digest for entry in camera.scheduled}


@pytest.mark.parametrize(
    ("brightness", "rule"),
    [(0.0, "any"), (0.199, "any"), (0.2, "agreement"), (0.8, "agreement"), (0.801, "all"), (None, "agreement")],
)
def test_a_schedule_may_hold_by_how_bright_the_frame_is_and_never_where_that_is_not_known(brightness, rule):
    text = """site = "yard"
    [[schedule]]
    name = "lamps off"
    darker_than = 0.2
    sensitivity = { rule = "any" }
    [[schedule]]
    name = "glare"
    brighter_than = 0.8
    sensitivity = { rule = "all" }
    """
    assert parse_site_policy(text).camera("gate").in_force(0, brightness).rules.sensitivity.rule == rule


def test_all_conditions_of_a_schedule_must_hold_brightness_among_them():
    dim = When(days=("mon",), darker_than=0.5, brighter_than=0.1)
    monday, tuesday = at("2026-11-23T12:00:00+00:00"), at("2026-11-24T12:00:00+00:00")
    assert dim.holds(Place(), monday, 0.3)
    assert not dim.holds(Place(), tuesday, 0.3)
    assert not dim.holds(Place(), monday, 0.05)


def test_frames_are_judged_and_followed_by_the_rules_of_their_brightness():
    text = 'site = "yard"\n[[schedule]]\nname = "dark"\ndarker_than = 0.2\nmin_score = { "*" = 0.95 }\n'
    rules = parse_site_policy(text).camera("gate")
    frames = [observation(i * 0.5, {"eye": [person_at(0.2)]}) for i in range(10)]
    assert events_of(rules, [replace(frame, brightness=0.1) for frame in frames]) == ()
    assert events_of(rules, [replace(frame, brightness=0.3) for frame in frames]) != ()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('site = "a"\ntimezone = "Europe/Olso"', "line 2: timezone: no such time zone 'Europe/Olso'"),
        ('site = "a"\n[[schedule]]\nname = "x"\nsun = "down"', "line 4: schedule.sun: needs the site's latitude"),
        ('site = "a"\n[[schedule]]\nname = "x"', "line 2: schedule: `x` names no time"),
        ('site = "a"\n[[schedule]]\nname = "x"\nbetween = ["22", "6h"]', "line 4: schedule.between: write two times"),
        ('site = "a"\n[[schedule]]\nname = "x"\nbetwen = ["22:00", "06:00"]', "did you mean `between`?"),
        ('site = "a"\n[schedule]\nname = "x"', "line 2: schedule: write [[schedule]] tables"),
    ],
)
def test_a_mistake_in_a_schedule_is_shown_with_its_line(text, message):
    with pytest.raises(InvalidPolicy) as error:
        parse_site_policy(text)
    assert message in str(error.value)


def test_a_policy_without_a_schedule_is_always_itself():
    rules = policy()
    assert rules.in_force(0) is rules


def test_midnight_may_be_written_as_the_end_of_the_day():
    digests = {
        parse_site_policy(f'site = "a"\n[[schedule]]\nname = "x"\nbetween = ["22:00", "{end}"]').digest
        for end in ("24:00", "00:00")
    }
    assert len(digests) == 1
