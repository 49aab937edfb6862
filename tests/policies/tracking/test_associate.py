"""Who is the same thing as whom, from frame to frame: stories of what is followed."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from policies.observation import Prediction
from tests.policies.stories import (
    DETECTOR,
    SECOND,
    events_of,
    lines,
    observation,
    person_at,
    policy,
    walk,
)


def test_who_walks_out_is_not_found_again_in_who_walks_in_there():
    def path(t: float) -> float | None:
        return 0.6 + 0.1 * t if t <= 3.5 else 0.93 - 0.1 * (t - 5.5) if t >= 5.5 else None

    first, second = (e.track for e in events_of(policy(), walk(path, 9)) if e.kind == "entered" and e.sector == "east")
    assert first != second


@pytest.mark.parametrize("every_s", [0.2, 0.5, 1, 2])
@pytest.mark.parametrize(
    "box", [(0.0, 0.5, 0.03, 0.75), (0.97, 0.5, 1.0, 0.75), (0.4, 0.0, 0.5, 0.08), (0.4, 0.93, 0.5, 1.0)]
)
def test_who_stands_half_in_the_frame_is_one_person_who_stays(box, every_s):
    frames = [observation(i * every_s, {"eye": [Prediction("person", 0.9, box)]}) for i in range(20)]
    kinds = [
        event.kind for event in events_of(policy(), frames) if event.sector == ("west" if box[0] < 0.5 else "east")
    ]
    assert kinds == ["entered", "presence_started"]


@pytest.mark.parametrize(("every_s", "speed", "height"), [(0.5, 0.07, 0.15), (1, 0.05, 0.13), (2, 0.05, 0.13)])
def test_a_tall_and_a_small_person_who_meet_and_turn_back_are_told_apart(every_s, speed, height):
    frames = []
    for number in range(round(14 / every_s) + 1):
        apart = abs(number * every_s - 6) * speed + 0.02
        both = [person_at(0.5 - apart, height=0.2), person_at(0.5 + apart, height=height)]
        frames.append(observation(number * every_s, {"eye": both}))
    assert {event.kind for event in events_of(policy(), frames)} == {"entered", "presence_started"}


def test_who_turns_back_at_the_edge_has_not_left():
    frames = walk(lambda t: 0.6 + 0.1 * min(t, 3.6) - 0.1 * max(t - 4.4, 0), 7, every_s=0.2)
    assert {event.kind for event in events_of(policy(), frames)} == {"entered", "presence_started"}


@pytest.mark.parametrize("every_s", [0.2, 0.5, 1])
def test_who_runs_is_one_person_who_crosses(every_s):
    at_2_2_heights_a_second = walk(lambda t: 0.02 + 0.33 * (t - 1) if 1 <= t <= 3.9 else None, 9, every_s)
    events = events_of(policy(), at_2_2_heights_a_second)
    assert [e.direction for e in events if e.kind == "crossed"] == ["eastward"]
    assert [(e.sector, e.track) for e in events if e.kind == "entered"] == [
        ("west", events[0].track),
        ("east", events[0].track),
    ]
    assert [e.sector for e in events if e.kind == "presence_ended"] == ["west", "east"]


@pytest.mark.parametrize("every_s", [0.2, 0.5, 1])
def test_a_car_that_drives_through_at_many_times_a_walker_s_speed_is_one_car(every_s):
    def car(t: float) -> list[Prediction]:
        x = 0.3 * (t - 2)  # 4 heights/s
        left, right = round(max(x - 0.1, 0.0), 5), round(min(x + 0.1, 1.0), 5)
        return [Prediction("car", 0.9, (left, 0.7, right, 0.8))] if right - left > 0.05 else []

    rules = policy(extra='targets = ["vehicle"]')
    events = events_of(rules, [observation(i * every_s, {"eye": car(i * every_s)}) for i in range(round(10 / every_s))])
    assert [e.kind for e in events if e.kind in ("crossed", "moved")] == ["crossed", "moved"]
    assert len({e.track for e in events if e.track is not None}) == 1


def test_two_that_show_once_too_far_apart_for_anybody_are_nobody():
    assert events_of(policy(), walk(lambda t: {3.0: 0.1, 3.5: 0.6}.get(t), 9)) == ()


@pytest.mark.parametrize("every_s", [0.5, 1, 2])
def test_who_stands_still_and_is_often_overlooked_is_one_presence(every_s):
    overlooked = {1, 2, 3} if every_s == 2 else {2, 3, 4, 5, 6}
    frames = walk(lambda t: 0.3, 600, every_s)
    frames = [
        replace(frame, answers={"eye": ()}) if i > 10 and i % 9 in overlooked else frame
        for i, frame in enumerate(frames)
    ]
    assert [event.kind for event in events_of(policy(), frames)] == ["entered", "presence_started"]


def test_when_who_stood_still_is_gone_for_good_it_is_told_later_but_of_its_instant():
    events = events_of(policy(), walk(lambda t: 0.3 if t <= 30 else None, 60))
    ended = next(event for event in events if event.kind == "presence_ended")
    assert (ended.ended_at - events[0].started_at).total_seconds() == pytest.approx(30.25, abs=0.3)
    assert 10 < (ended.confirmed_at - ended.ended_at).total_seconds() < 15


def test_a_jump_faster_than_anyone_runs_is_not_movement():
    frames = walk(lambda t: 0.9 if t == 5 else 0.1, 12)
    assert [line.split(" ", 1)[1] for line in lines(events_of(policy(), frames))] == [
        "entered west unknown",
        "presence_started west",
    ]


def test_how_fast_a_thing_may_go_depends_on_what_it_is():
    frames = walk(lambda t: 0.1 + 0.08 * t if t <= 10 else None, 16, every_s=2)
    slow_people = policy(extra="movement = { max_speed = { person = 0.1 } }")
    slow_cars = policy(extra="movement = { max_speed = { vehicle = 0.1 } }")
    assert events_of(slow_people, frames) == ()
    assert {len(events_of(slow_cars, frames)), len(events_of(policy(), frames))} == {10}


def test_a_person_hidden_for_two_seconds_keeps_the_track():
    frames = walk(lambda t: None if 4 < t <= 6 else 0.05 + 0.03 * t, 10)
    events = events_of(policy(), frames)
    assert [e.kind for e in events] == ["entered", "presence_started"]


def test_a_weak_score_continues_a_track_and_never_begins_one():
    rules = policy(extra='min_score = {"*" = 0.5}')
    assert events_of(rules, walk(lambda t: 0.2, 10, score=0.3)) == ()
    fading = [observation(i * 0.5, {"eye": [person_at(0.2, score=0.9 if i < 6 else 0.3)]}) for i in range(20)]
    assert [e.kind for e in events_of(rules, fading)] == ["entered", "presence_started"]


def test_two_detectors_make_one_track_of_one_person():
    both = [DETECTOR, SECOND]
    frames = [
        observation(i * 0.5, {"eye": [person_at(0.1 + i * 0.02)], "eye.2": [person_at(0.104 + i * 0.02)]}, both)
        for i in range(10)
    ]
    assert [e.kind for e in events_of(policy(), frames)] == ["entered", "presence_started"]


def test_two_lone_sights_with_many_frames_between_that_show_nothing_are_not_one_thing():
    ghosts = [observation(i * 0.2, {"eye": [person_at(0.2)] if i % 12 == 0 else []}) for i in range(40)]
    assert events_of(policy(), ghosts) == ()


def test_who_comes_where_something_was_seen_once_long_before_came_only_now():
    frames = [observation(i * 0.2, {"eye": [person_at(0.2)] if i == 0 or i >= 12 else []}) for i in range(40)]
    assert lines(events_of(policy(), frames)) == ["2.3 entered west unknown", "2.3 presence_started west"]


def test_two_boxes_of_one_model_on_one_thing_are_one_track():
    frames = [observation(i * 0.5, {"eye": [person_at(0.2), person_at(0.215)]}) for i in range(10)]
    assert [e.kind for e in events_of(policy(), frames)] == ["entered", "presence_started"]


def test_who_walked_out_of_the_view_is_another_one_when_somebody_comes_in_there():
    def path(t: float) -> float | None:
        return 0.5 + 0.12 * t if t <= 3.5 else 0.92 if t >= 5 else None

    events = events_of(policy(), walk(path, 12))
    assert len({e.track for e in events if e.kind == "entered"}) == 2


def test_that_a_track_left_is_shown_by_its_best_sight_until_then():
    scores = (0.6, 0.95, 0.7, 0.7, 0.7, 0.7)
    frames = [observation(i * 0.5, {"eye": [person_at(0.3 + 0.08 * i, score=s)]}) for i, s in enumerate(scores)]
    left = [e for e in events_of(policy(), [*frames, *walk(lambda _: 0.7, 10)[7:]]) if e.kind == "left"]
    assert [(e.sector, e.score) for e in left] == [("west", 0.95)]
    assert "sha-500" in left[0].provenance.frame_sha256
