"""Stories: what is seen, and what is told of it."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from policies.fold import REMEMBERED, OutOfOrder, advance, decode_state, encode_state, fold, initial_state
from policies.observation import Seat, Sighting
from tests.policies.stories import (
    CLASSIFIER,
    DETECTOR,
    SECOND,
    TWO_HALVES,
    drawn,
    lines,
    observation,
    person_at,
    policy,
    told,
    walk,
)


def test_a_person_who_walks_across_enters_moves_crosses_and_leaves():
    across = walk(lambda t: 0.07 + 0.1 * t if t <= 9 else None, 14)
    assert lines(told(policy(), across)) == [
        "0 entered west left",
        "0 presence_started west",
        "4.32858 left west unknown",
        "4.32858 crossed middle eastward",
        "4.32858 entered east unknown",
        "4.32858 moved west->east right",
        "4.32858 presence_started east",
        "4.32858 presence_ended west",
        "9 left east right",
        "9 presence_ended east",
    ]


def test_who_walks_out_is_not_found_again_in_who_walks_in_there():
    def path(t: float) -> float | None:
        return 0.6 + 0.1 * t if t <= 3.5 else 0.93 - 0.1 * (t - 5.5) if t >= 5.5 else None

    first, second = (e.track for e in told(policy(), walk(path, 9)) if e.kind == "entered" and e.sector == "east")
    assert first != second


@pytest.mark.parametrize("every_s", [0.2, 0.5, 1, 2])
@pytest.mark.parametrize(
    "box", [(0.0, 0.5, 0.03, 0.75), (0.97, 0.5, 1.0, 0.75), (0.4, 0.0, 0.5, 0.08), (0.4, 0.93, 0.5, 1.0)]
)
def test_who_stands_half_in_the_frame_is_one_person_who_stays(box, every_s):
    frames = [observation(i * every_s, {"eye": [Sighting("person", 0.9, box)]}) for i in range(20)]
    kinds = [event.kind for event in told(policy(), frames) if event.sector == ("west" if box[0] < 0.5 else "east")]
    assert kinds == ["entered", "presence_started"]


@pytest.mark.parametrize(("every_s", "speed", "height"), [(0.5, 0.07, 0.15), (1, 0.05, 0.13), (2, 0.05, 0.13)])
def test_a_tall_and_a_small_person_who_meet_and_turn_back_are_told_apart(every_s, speed, height):
    frames = []
    for number in range(round(14 / every_s) + 1):
        apart = abs(number * every_s - 6) * speed + 0.02
        both = [person_at(0.5 - apart, height=0.2), person_at(0.5 + apart, height=height)]
        frames.append(observation(number * every_s, {"eye": both}))
    assert {event.kind for event in told(policy(), frames)} == {"entered", "presence_started"}


def test_who_turns_back_at_the_edge_has_not_left():
    frames = walk(lambda t: 0.6 + 0.1 * min(t, 3.6) - 0.1 * max(t - 4.4, 0), 7, every_s=0.2)
    assert {event.kind for event in told(policy(), frames)} == {"entered", "presence_started"}


@pytest.mark.parametrize("every_s", [0.2, 0.5, 1])
def test_who_runs_is_one_person_who_crosses(every_s):
    at_2_2_heights_a_second = walk(lambda t: 0.02 + 0.33 * (t - 1) if 1 <= t <= 3.9 else None, 9, every_s)
    events = told(policy(), at_2_2_heights_a_second)
    assert [e.direction for e in events if e.kind == "crossed"] == ["eastward"]
    assert [(e.sector, e.track) for e in events if e.kind == "entered"] == [
        ("west", events[0].track),
        ("east", events[0].track),
    ]
    assert [e.sector for e in events if e.kind == "presence_ended"] == ["west", "east"]


@pytest.mark.parametrize("every_s", [0.2, 0.5, 1])
def test_a_car_that_drives_through_at_many_times_a_walker_s_speed_is_one_car(every_s):
    def car(t: float) -> list[Sighting]:
        x = 0.3 * (t - 2)  # 4 heights/s
        left, right = round(max(x - 0.1, 0.0), 5), round(min(x + 0.1, 1.0), 5)
        return [Sighting("car", 0.9, (left, 0.7, right, 0.8))] if right - left > 0.05 else []

    rules = policy(extra='targets = ["vehicle"]')
    events = told(rules, [observation(i * every_s, {"eye": car(i * every_s)}) for i in range(round(10 / every_s))])
    assert [e.kind for e in events if e.kind in ("crossed", "moved")] == ["crossed", "moved"]
    assert len({e.track for e in events if e.track is not None}) == 1


def test_two_that_show_once_too_far_apart_for_anybody_are_nobody():
    assert told(policy(), walk(lambda t: {3.0: 0.1, 3.5: 0.6}.get(t), 9)) == ()


@pytest.mark.parametrize("every_s", [0.5, 1, 2])
def test_who_stands_still_and_is_often_overlooked_is_one_presence(every_s):
    overlooked = {1, 2, 3} if every_s == 2 else {2, 3, 4, 5, 6}
    frames = walk(lambda t: 0.3, 600, every_s)
    frames = [
        replace(frame, answers={"eye": ()}) if i > 10 and i % 9 in overlooked else frame
        for i, frame in enumerate(frames)
    ]
    assert [event.kind for event in told(policy(), frames)] == ["entered", "presence_started"]


def test_when_who_stood_still_is_gone_for_good_it_is_told_later_but_of_its_instant():
    events = told(policy(), walk(lambda t: 0.3 if t <= 30 else None, 60))
    ended = next(event for event in events if event.kind == "presence_ended")
    assert (ended.ended_at - events[0].started_at).total_seconds() == pytest.approx(30.25, abs=0.3)
    assert 10 < (ended.confirmed_at - ended.ended_at).total_seconds() < 15


def test_well_outside_is_outside_at_once():
    frames = walk(lambda t: 0.16 + 0.1 * t, 5, every_s=1)
    left = next(e for e in told(policy(), frames) if e.kind == "left")
    assert (left.confirmed_at - left.started_at).total_seconds() < 1


def test_nobody_is_no_event():
    assert told(policy(), walk(lambda t: None, 30)) == ()


def test_one_frame_is_not_presence():
    assert told(policy(), walk(lambda t: 0.2 if t == 3 else None, 10)) == ()


def test_a_jump_faster_than_anyone_runs_is_not_movement():
    frames = walk(lambda t: 0.9 if t == 5 else 0.1, 12)
    assert [line.split(" ", 1)[1] for line in lines(told(policy(), frames))] == [
        "entered west unknown",
        "presence_started west",
    ]


def test_a_stay_long_enough_for_presence_and_too_short_for_an_entry_ends_all_the_same():
    patient = policy(extra="movement = { dwell_s = 4.0 }")
    events = told(patient, walk(lambda t: 0.2 if t <= 2 else None, 20))
    assert [e.kind for e in events] == ["presence_started", "presence_ended"]


def test_how_fast_a_thing_may_go_depends_on_what_it_is():
    frames = walk(lambda t: 0.1 + 0.08 * t if t <= 10 else None, 16, every_s=2)
    slow_people = policy(extra="movement = { max_speed = { person = 0.1 } }")
    slow_cars = policy(extra="movement = { max_speed = { vehicle = 0.1 } }")
    assert told(slow_people, frames) == ()
    assert {len(told(slow_cars, frames)), len(told(policy(), frames))} == {10}


def test_a_person_hidden_for_two_seconds_keeps_the_track():
    frames = walk(lambda t: None if 4 < t <= 6 else 0.05 + 0.03 * t, 10)
    events = told(policy(), frames)
    assert [e.kind for e in events] == ["entered", "presence_started"]


def test_a_still_thing_across_blind_time_is_one_presence_and_never_a_new_event():
    frames = [observation(minute * 60 + i * 0.5, {"eye": [person_at(0.2)]}) for minute in range(10) for i in range(4)]
    assert [e.kind for e in told(policy(), frames)] == ["entered", "presence_started"]


def test_a_departure_in_blind_time_is_told_with_its_uncertainty():
    before = walk(lambda t: 0.2, 5)
    after = [observation(65 + i * 0.5, {"eye": []}) for i in range(10)]
    (ended,) = [e for e in told(policy(), [*before, *after]) if e.kind == "presence_ended"]
    assert lines([ended]) == ["35 presence_ended west"]
    assert ended.time_uncertainty_s == 30


def test_a_graze_is_no_entry():
    frames = walk(lambda t: 0.505 if 4 <= t < 4.5 else 0.47, 10)
    assert [e.sector for e in told(policy(), frames) if e.kind == "entered"] == ["west"]


def test_a_line_crossed_and_crossed_back_at_once_is_not_told():
    frames = walk(lambda t: 0.505 if 4 <= t < 4.5 else 0.47, 10)
    assert [e for e in told(policy(), frames) if e.kind == "crossed"] == []


def test_lingering_is_told_once():
    frames = walk(lambda t: 0.2, 60)
    events = [e for e in told(policy(extra="movement = {linger_s = 20}"), frames) if e.kind == "lingered"]
    assert len(events) == 1
    assert (events[0].confirmed_at - events[0].started_at).total_seconds() == 20


def test_a_direction_that_the_frames_do_not_show_is_unknown():
    events = told(policy(), walk(lambda t: 0.3, 5))
    assert {e.direction for e in events if e.kind == "entered"} == {"unknown"}


def test_a_weak_score_continues_a_track_and_never_begins_one():
    rules = policy(extra='min_score = {"*" = 0.5}')
    assert told(rules, walk(lambda t: 0.2, 10, score=0.3)) == ()
    fading = [observation(i * 0.5, {"eye": [person_at(0.2, score=0.9 if i < 6 else 0.3)]}) for i in range(20)]
    assert [e.kind for e in told(rules, fading)] == ["entered", "presence_started"]


def test_labels_alone_give_presence_with_hysteresis():
    assert lines(told(policy(), drawn("..PPPP.PP..........."))) == [
        "0.75 entered west unknown",
        "0.75 presence_started west",
        "4.25 left west unknown",
        "4.25 presence_ended west",
    ]


def test_labels_alone_show_a_movement_by_the_order_in_which_sectors_light_up():
    def frame(i: int, west: bool, east: bool):
        labels = [
            Sighting("person" if west else "road", 0.9, sector="west"),
            Sighting("person" if east else "road", 0.9, sector="east"),
        ]
        return observation(i * 0.5, {"namer": labels}, [CLASSIFIER])

    frames = [frame(i, 2 <= i < 8, 8 <= i < 14) for i in range(24)]
    moves = [line for line in lines(told(policy(), frames)) if "moved" in line]
    assert moves == ["3.75 moved west->east unknown"]


def test_a_model_that_stops_answering_does_not_end_a_presence_when_it_fails_open():
    rules = policy(extra='sensitivity = {missing = "fail_open"}')
    events = told(rules, drawn("..PPPP" + "?" * 30))
    assert "presence_ended" not in {e.kind for e in events}
    assert [e.kind for e in events if e.sector == "west"] == ["entered", "presence_started"]


def test_a_target_of_another_sector_is_none_of_this_ones_business():
    text = """site = "yard"
    [cameras.gate.sectors.west]
    polygon = [[0, 0], [0.5, 0], [0.5, 1], [0, 1]]
    targets = ["vehicle"]
    [cameras.gate.sectors.east]
    polygon = [[0.5, 0], [1, 0], [1, 1], [0.5, 1]]
    """
    frames = walk(lambda t: 0.3 if t < 6 else 0.7, 20)
    assert {e.sector for e in told(policy(text), frames) if e.kind == "presence_started"} == {"east"}


def test_two_detectors_make_one_track_of_one_person():
    both = [DETECTOR, SECOND]
    frames = [
        observation(i * 0.5, {"eye": [person_at(0.1 + i * 0.02)], "eye.2": [person_at(0.104 + i * 0.02)]}, both)
        for i in range(10)
    ]
    assert [e.kind for e in told(policy(), frames)] == ["entered", "presence_started"]


def test_an_event_names_its_evidence_and_who_decided():
    event = told(policy(), walk(lambda t: 0.2, 5))[0]
    assert event.votes == {"eye": "for"}
    assert event.margin == 0
    assert event.score == 0.9
    assert event.provenance.ensemble == "ensemble"
    assert event.provenance.policy == policy().digest
    assert event.provenance.frame_sha256 == ("sha-0", "sha-1000")


def test_the_same_facts_give_the_same_ids_and_other_facts_give_others():
    frames = walk(lambda t: 0.05 + 0.1 * t if t <= 9 else None, 14)
    ids = [e.id for e in told(policy(), frames)]
    assert ids == [e.id for e in told(policy(), frames)]
    assert len(set(ids)) == len(ids)


def test_an_observation_that_is_not_newer_is_refused():
    state, _ = fold(policy(), initial_state(), walk(lambda t: 0.2, 5))
    with pytest.raises(OutOfOrder):
        advance(policy(), state, observation(5, {"eye": []}))


def test_a_state_goes_to_text_and_back_without_loss():
    state, _ = fold(policy(), initial_state(), walk(lambda t: 0.05 + 0.1 * t, 6))
    assert state.tracks
    assert state.presences
    assert decode_state(encode_state(state)) == state


def test_the_evidence_of_an_event_is_a_frame_in_which_the_votes_were_enough():
    def seen(i: int):
        weak = replace(person_at(0.3 + 0.04 * i, score=0.8), score=0.8 if i < 4 else 0.3)
        other = person_at(0.3 + 0.04 * i, score=0.85)
        return observation(i * 0.5, {"eye": [weak], "eye.2": [other]}, [DETECTOR, SECOND])

    rules = policy(extra='min_score = { "*" = 0.4, "eye.2" = 0.9 }')
    events = told(rules, [*map(seen, range(14)), *[observation(7 + i, {"eye": []}) for i in range(20)]])
    assert {"entered", "moved", "crossed", "left", "presence_ended"} <= {e.kind for e in events}
    assert {e.votes["eye"] for e in events} == {"for"}
    assert all(e.margin is not None and e.margin >= 0 for e in events)


def test_a_frame_sent_again_and_again_by_a_stuck_camera_tells_nothing_new():
    walked = walk(lambda t: 0.2, 3)
    stuck = [replace(observation(3.5 + i, {"eye": []}), frame_sha256="stuck") for i in range(40)]
    state, events = fold(policy(), initial_state(), [*walked, *stuck])
    assert [e.kind for e in events] == ["entered", "presence_started"]
    assert state.seen_us == stuck[0].at_us
    assert state.last_at_us == stuck[-1].at_us


def test_a_camera_that_sends_a_few_stuck_frames_in_turn_tells_each_of_them_once():
    walked = walk(lambda t: 0.2, 3)
    turns = [replace(observation(3.5 + i, {"eye": []}), frame_sha256=f"stuck {i % REMEMBERED}") for i in range(60)]
    state, events = fold(policy(), initial_state(), [*walked, *turns])
    assert state.seen_us == turns[REMEMBERED - 1].at_us
    assert state.last_at_us == turns[-1].at_us
    two = [replace(seen, frame_sha256=f"stuck {i % 2}") for i, seen in enumerate(turns)]
    state, events = fold(policy(), initial_state(), [*walked, *two])
    assert [e.kind for e in events] == ["entered", "presence_started"]
    assert state.seen_us == turns[1].at_us


def test_a_frame_that_comes_between_living_ones_again_and_again_is_known_as_long_as_it_does():
    living = walk(lambda t: None, 40, every_s=1)
    ghost = [replace(observation(i + 0.5, {"eye": [person_at(0.2)]}), frame_sha256="ghost") for i in range(40)]
    state, events = fold(policy(), initial_state(), sorted([*living, *ghost], key=lambda seen: seen.at_us))
    assert not events
    assert len(state.frames) == REMEMBERED
    assert "ghost" in state.frames


def test_what_a_frame_showed_long_ago_may_be_seen_again():
    seen = [replace(seen, frame_sha256=f"{i % (REMEMBERED + 1)}") for i, seen in enumerate(walk(lambda t: 0.2, 20))]
    state, _ = fold(policy(), initial_state(), seen)
    assert state.seen_us == seen[-1].at_us


def test_frames_that_no_model_answered_for_never_clear_a_sector():
    silent = [observation(5.5 + i, {"eye": None}) for i in range(60)]
    state, events = fold(policy(), initial_state(), [*walk(lambda t: 0.2, 5), *silent])
    assert [e.kind for e in events] == ["entered", "presence_started"]
    assert state.seen_us == observation(5, {}).at_us


def test_a_target_that_no_model_answered_for_waits_while_another_one_goes_on():
    text = TWO_HALVES.replace('site = "yard"', 'site = "yard"\ntargets = ["person", "vehicle"]')
    cars = Seat("cars", frozenset({"car"}), boxes=True)
    people = Seat("people", frozenset({"person"}), boxes=True)

    def frame(i: int):
        car = [Sighting("car", 0.9, (0.6, 0.5, 0.8, 0.7))] if i < 8 else []
        return observation(i * 0.5, {"people": [person_at(0.2)] if i < 8 else None, "cars": car}, [people, cars])

    events = told(policy(text), [frame(i) for i in range(40)])
    assert {(e.label, e.kind) for e in events if "ended" in e.kind} == {("vehicle", "presence_ended")}


def test_a_quorum_over_frames_wants_enough_of_the_latest_ones():
    rules = policy(extra="movement = {sights = 3, of = 5, hidden_s = 60}")
    now_and_then = [observation(i * 0.5, {"eye": [person_at(0.2)] if i % 3 == 0 else []}) for i in range(40)]
    assert told(rules, now_and_then) == ()
    mostly = [observation(i * 0.5, {"eye": [person_at(0.2)] if i % 3 else []}) for i in range(40)]
    assert [e.kind for e in told(rules, mostly)] == ["entered", "presence_started"]


def test_two_lone_sights_with_many_frames_between_that_show_nothing_are_not_one_thing():
    ghosts = [observation(i * 0.2, {"eye": [person_at(0.2)] if i % 12 == 0 else []}) for i in range(40)]
    assert told(policy(), ghosts) == ()


def test_who_comes_where_something_was_seen_once_long_before_came_only_now():
    frames = [observation(i * 0.2, {"eye": [person_at(0.2)] if i == 0 or i >= 12 else []}) for i in range(40)]
    assert lines(told(policy(), frames)) == ["2.3 entered west unknown", "2.3 presence_started west"]


def test_who_is_seen_in_every_second_frame_is_there():
    frames = [observation(i * 0.2, {"eye": [person_at(0.2)] if i % 2 == 0 else []}) for i in range(40)]
    assert [e.kind for e in told(policy(), frames)] == ["entered", "presence_started"]


def test_a_sector_taken_out_of_the_policy_ends_its_presence_and_nothing_breaks():
    frames = walk(lambda t: 0.2, 10)
    state, _ = fold(policy(), initial_state(), frames[:10])
    text = TWO_HALVES.replace("sectors.west", "sectors.dusk")
    _, events = fold(policy(text), state, frames[10:])
    assert [(e.kind, e.sector) for e in events] == [
        ("presence_ended", "west"),
        ("entered", "dusk"),
        ("presence_started", "dusk"),
    ]


@pytest.mark.parametrize(
    ("start", "way"), [((0.2, 0.6), "down"), ((0.2, 0.95), "up")], ids=["away from the top", "towards the top"]
)
def test_a_movement_up_or_down_the_picture_is_told_so(start, way):
    text = """site = "yard"
    [cameras.gate.sectors.near]
    polygon = [[0, 0.75], [1, 0.75], [1, 1], [0, 1]]
    [cameras.gate.sectors.far]
    polygon = [[0, 0], [1, 0], [1, 0.75], [0, 0.75]]
    """
    speed = 0.06 if way == "down" else -0.06
    frames = [observation(i * 0.5, {"eye": [person_at(0.2, start[1] + speed * i * 0.5)]}) for i in range(12)]
    assert [e.direction for e in told(policy(text), frames) if e.kind == "moved"] == [way]


def test_a_step_over_the_line_and_straight_back_at_a_high_rate_is_no_crossing():
    frames = walk(lambda t: 0.47 + (0.08 if 4 <= t < 4.6 else 0), 10, every_s=0.1)
    assert [e.kind for e in told(policy(), frames) if e.kind == "crossed"] == []


def test_two_boxes_of_one_model_on_one_thing_are_one_track():
    frames = [observation(i * 0.5, {"eye": [person_at(0.2), person_at(0.215)]}) for i in range(10)]
    assert [e.kind for e in told(policy(), frames)] == ["entered", "presence_started"]


def test_a_visit_that_only_the_blind_time_after_it_makes_long_enough_is_told_when_it_is_over():
    frames = walk(lambda t: 0.2 if t <= 0.7 else None, 7, every_s=0.7)
    events = told(policy(), frames)
    assert [e.kind for e in events if e.track] == ["entered", "left"]
    assert len({e.confirmed_at for e in events if e.track}) == 1


def test_a_classifier_alone_shows_movement_by_the_order_in_which_sectors_light_up():
    def lit(sector: str | None) -> list[Sighting]:
        return [
            Sighting("person", 0.8, sector=name) if name == sector else Sighting("road", 0.9, sector=name)
            for name in ("west", "east")
        ]

    order = [None] * 4 + ["west"] * 6 + ["east"] * 6 + [None] * 10
    frames = [observation(i * 0.5, {"namer": lit(sector)}, [CLASSIFIER]) for i, sector in enumerate(order)]
    story = lines(told(policy(), frames))
    assert "4.75 moved west->east unknown" in story
    assert [line.split(" ", 1)[1] for line in story if "presence" in line] == [
        "presence_started west",
        "presence_started east",
        "presence_ended west",
        "presence_ended east",
    ]


def test_who_walked_out_of_the_view_is_another_one_when_somebody_comes_in_there():
    def path(t: float) -> float | None:
        return 0.5 + 0.12 * t if t <= 3.5 else 0.92 if t >= 5 else None

    events = told(policy(), walk(path, 12))
    assert len({e.track for e in events if e.kind == "entered"}) == 2


def test_somebody_who_hardly_stirs_over_a_border_moved_in_no_direction():
    events = told(policy(), walk(lambda t: 0.494 if t < 6 else 0.506, 16))
    assert [e.direction for e in events if e.kind == "moved"] == ["unknown"]
