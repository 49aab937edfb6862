"""Stories: what the frames show, and the events that follow."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from policies.fold import REMEMBERED, OutOfOrder, advance, decode_state, encode_state, initial_state
from policies.observation import ModelInfo, Observation, Prediction
from policies.site.site_policy import CameraPolicy
from tests.policies.stories import (
    CLASSIFIER,
    DETECTOR,
    SECOND,
    TWO_HALVES,
    drawn,
    events_of,
    fold,
    lines,
    observation,
    person_at,
    policy,
    walk,
)


def test_a_person_who_walks_across_enters_moves_crosses_and_leaves():
    across = walk(lambda t: 0.07 + 0.1 * t if t <= 9 else None, 14)
    assert lines(events_of(policy(), across)) == [
        "0 entered west left",
        "0 presence_started west",
        "4.32858 left west right",
        "4.32858 crossed middle eastward",
        "4.32858 entered east left",
        "4.32858 moved west->east right",
        "4.32858 presence_started east",
        "4.32858 presence_ended west",
        "9 left east right",
        "9 presence_ended east",
    ]


def test_well_outside_is_outside_at_once():
    frames = walk(lambda t: 0.16 + 0.1 * t, 5, every_s=1)
    left = next(e for e in events_of(policy(), frames) if e.kind == "left")
    assert (left.confirmed_at - left.started_at).total_seconds() < 1


def test_nobody_is_no_event():
    assert events_of(policy(), walk(lambda t: None, 30)) == ()


def test_one_frame_is_not_presence():
    assert events_of(policy(), walk(lambda t: 0.2 if t == 3 else None, 10)) == ()


def test_a_stay_long_enough_for_presence_and_too_short_for_an_entry_ends_all_the_same():
    patient = policy(extra="movement = { dwell_s = 4.0 }")
    events = events_of(patient, walk(lambda t: 0.2 if t <= 2 else None, 20))
    assert [e.kind for e in events] == ["presence_started", "presence_ended"]


def test_a_still_thing_across_blind_time_is_one_presence_and_never_a_new_event():
    frames = [observation(minute * 60 + i * 0.5, {"eye": [person_at(0.2)]}) for minute in range(10) for i in range(4)]
    assert [e.kind for e in events_of(policy(), frames)] == ["entered", "presence_started"]


def test_a_departure_in_blind_time_is_told_with_its_uncertainty():
    before = walk(lambda t: 0.2, 5)
    after = [observation(65 + i * 0.5, {"eye": []}) for i in range(10)]
    (ended,) = [e for e in events_of(policy(), [*before, *after]) if e.kind == "presence_ended"]
    assert lines([ended]) == ["35 presence_ended west"]
    assert ended.time_uncertainty_s == 30


def test_a_graze_is_no_entry():
    frames = walk(lambda t: 0.505 if 4 <= t < 4.5 else 0.47, 10)
    assert [e.sector for e in events_of(policy(), frames) if e.kind == "entered"] == ["west"]


def test_a_line_crossed_and_crossed_back_at_once_is_not_told():
    frames = walk(lambda t: 0.505 if 4 <= t < 4.5 else 0.47, 10)
    assert [e for e in events_of(policy(), frames) if e.kind == "crossed"] == []


def test_lingering_is_told_once():
    frames = walk(lambda t: 0.2, 60)
    events = [e for e in events_of(policy(extra="movement = {linger_s = 20}"), frames) if e.kind == "lingered"]
    assert len(events) == 1
    assert (events[0].confirmed_at - events[0].started_at).total_seconds() == 20


def test_a_direction_that_the_frames_do_not_show_is_unknown():
    events = events_of(policy(), walk(lambda t: 0.3, 5))
    assert {e.direction for e in events if e.kind == "entered"} == {"unknown"}


def test_labels_alone_give_presence_with_hysteresis():
    assert lines(events_of(policy(), drawn("..PPPP.PP..........."))) == [
        "0.75 entered west unknown",
        "0.75 presence_started west",
        "4.25 left west unknown",
        "4.25 presence_ended west",
    ]


def test_labels_alone_show_a_movement_by_the_order_in_which_sectors_light_up():
    def frame(i: int, west: bool, east: bool):
        labels = [
            Prediction("person" if west else "road", 0.9, sector="west"),
            Prediction("person" if east else "road", 0.9, sector="east"),
        ]
        return observation(i * 0.5, {"namer": labels}, [CLASSIFIER])

    frames = [frame(i, 2 <= i < 8, 8 <= i < 14) for i in range(24)]
    moves = [line for line in lines(events_of(policy(), frames)) if "moved" in line]
    assert moves == ["3.75 moved west->east right"]


def test_labels_make_no_track_in_a_sector_that_holds_one_with_a_box():
    def frame(i: int, lit: str):
        labels = [Prediction("person" if name == lit else "road", 0.9, sector=name) for name in ("west", "east")]
        boxes = [person_at(0.2)] if i % 2 == 0 else []
        return observation(i * 0.5, {"eye": boxes, "namer": labels}, [DETECTOR, CLASSIFIER])

    beside_it, elsewhere = (events_of(policy(), [frame(i, lit) for i in range(12)]) for lit in ("west", "east"))
    assert [(e.sector, e.kind) for e in beside_it] == [("west", "entered"), ("west", "presence_started")]
    assert {(e.sector, e.track) for e in elsewhere if e.kind == "entered"} == {
        ("west", beside_it[0].track),
        ("east", next(e.track for e in elsewhere if e.sector == "east")),
    }


@pytest.mark.parametrize(("start", "step", "way"), [(0.6, 0.05, "down"), (0.95, -0.05, "up")])
def test_the_first_direction_of_a_line_is_to_the_right_of_one_drawn_downwards_and_up_over_one_drawn_to_the_right(
    start, step, way
):
    level = TWO_HALVES.replace("a = [0.5, 0]", "a = [0, 0.8]").replace("b = [0.5, 1]", "b = [1, 0.8]")
    level = level.replace('["eastward", "westward"]', '["up", "down"]')
    frames = [observation(i * 0.5, {"eye": [person_at(0.2, start + step * i * 0.5)]}) for i in range(16)]
    assert [e.direction for e in events_of(policy(level), frames) if e.kind == "crossed"] == [way]
    across = events_of(policy(), walk(lambda t: 0.2 + 0.1 * t, 6))
    assert [e.direction for e in across if e.kind == "crossed"] == ["eastward"]


def test_a_policy_that_asks_for_nothing_any_more_ends_everything():
    assert changed(policy(), policy(extra="targets = []"), walk(lambda t: 0.2, 10), 5)[2:] == [
        "4.5 left west unknown",
        "4.5 presence_ended west",
    ]


def test_a_model_that_stops_answering_does_not_end_a_presence_when_it_fails_open():
    rules = policy(extra='sensitivity = {missing = "fail_open"}')
    events = events_of(rules, drawn("..PPPP" + "?" * 30))
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
    assert {e.sector for e in events_of(policy(text), frames) if e.kind == "presence_started"} == {"east"}


def test_an_event_names_its_evidence_and_who_decided():
    event = events_of(policy(), walk(lambda t: 0.2, 5))[0]
    assert event.votes == {"eye": "for"}
    assert event.margin == 0
    assert event.score == 0.9
    assert event.provenance.ensemble == "ensemble"
    assert event.provenance.policy == policy().digest
    assert event.provenance.frame_sha256 == ("sha-0", "sha-1000")


def test_the_same_facts_give_the_same_ids_and_other_facts_give_others():
    frames = walk(lambda t: 0.05 + 0.1 * t if t <= 9 else None, 14)
    ids = [e.id for e in events_of(policy(), frames)]
    assert ids == [e.id for e in events_of(policy(), frames)]
    assert len(set(ids)) == len(ids)


def test_an_observation_that_is_not_newer_is_refused():
    state, _ = fold(policy(), initial_state(), walk(lambda t: 0.2, 5))
    with pytest.raises(OutOfOrder):
        advance(policy(), state, observation(5, {"eye": []}))


def test_frames_of_one_instant_follow_each_other_by_burst_and_index():
    first = observation(1, {"eye": []})
    second = replace(first, index=first.index + 1, frame_sha256="second")
    state, _ = fold(policy(), initial_state(), [first, second])
    assert (state.last_at_us, state.last_key) == (first.at_us, (second.burst_id, second.index))
    with pytest.raises(OutOfOrder):
        advance(policy(), state, first)


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
    events = events_of(rules, [*map(seen, range(14)), *[observation(7 + i, {"eye": []}) for i in range(20)]])
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
    cars = ModelInfo("cars", frozenset({"car"}), boxes=True)
    people = ModelInfo("people", frozenset({"person"}), boxes=True)

    def frame(i: int):
        car = [Prediction("car", 0.9, (0.6, 0.5, 0.8, 0.7))] if i < 8 else []
        return observation(i * 0.5, {"people": [person_at(0.2)] if i < 8 else None, "cars": car}, [people, cars])

    events = events_of(policy(text), [frame(i) for i in range(40)])
    assert {(e.label, e.kind) for e in events if "ended" in e.kind} == {("vehicle", "presence_ended")}


def test_a_quorum_over_frames_wants_enough_of_the_latest_ones():
    rules = policy(extra="movement = {sights = 3, of = 5, hidden_s = 60}")
    now_and_then = [observation(i * 0.5, {"eye": [person_at(0.2)] if i % 3 == 0 else []}) for i in range(40)]
    assert events_of(rules, now_and_then) == ()
    mostly = [observation(i * 0.5, {"eye": [person_at(0.2)] if i % 3 else []}) for i in range(40)]
    assert [e.kind for e in events_of(rules, mostly)] == ["entered", "presence_started"]


def test_who_is_seen_in_every_second_frame_is_there():
    frames = [observation(i * 0.2, {"eye": [person_at(0.2)] if i % 2 == 0 else []}) for i in range(40)]
    assert [e.kind for e in events_of(policy(), frames)] == ["entered", "presence_started"]


WITHOUT_WEST = TWO_HALVES.replace("sectors.west", "sectors.dusk")
ONLY_CARS = TWO_HALVES.replace('site = "yard"', 'site = "yard"\ntargets = ["vehicle"]')
WEST_FOR_CARS = TWO_HALVES.replace("west]", 'west]\ntargets = ["vehicle"]')


def changed(before: CameraPolicy, after: CameraPolicy, frames: list[Observation], at_s: float) -> list[str]:
    """The events of frames before whose `at_s`-th second one policy holds, and another one from then on."""
    count = sum(seen.at_us < observation(at_s, {}).at_us for seen in frames)
    state, first = fold(before, initial_state(), frames[:count])
    state, second = fold(after, decode_state(encode_state(state)), frames[count:])
    return lines([*first, *second])


def test_a_sector_taken_out_of_the_policy_ends_what_was_told_there_with_the_last_sight():
    assert changed(policy(), policy(WITHOUT_WEST), walk(lambda t: 0.2, 10), 5) == [
        "0 entered west unknown",
        "0 presence_started west",
        "4.5 left west unknown",
        "4.5 presence_ended west",
        "4.75 entered dusk unknown",
        "4.75 presence_started dusk",
    ]


@pytest.mark.parametrize("text", [ONLY_CARS, WEST_FOR_CARS], ids=["nowhere", "not there"])
def test_a_target_that_is_no_longer_asked_for_ends_with_its_last_sight(text):
    assert changed(policy(), policy(text), walk(lambda t: 0.2, 10), 5)[2:] == [
        "4.5 left west unknown",
        "4.5 presence_ended west",
    ]


def test_a_line_crossed_just_before_its_target_is_no_longer_asked_for_is_told():
    across = walk(lambda t: 0.4 + 0.05 * t, 10, every_s=0.25)
    told_of_it = changed(policy(), policy(ONLY_CARS), across, 2.5)
    assert [line for line in told_of_it if "crossed" in line] == ["2.02691 crossed middle eastward"]
    once = [observation(0, {"eye": [person_at(0.45)]}), observation(0.5, {"eye": [person_at(0.55)]})]
    hardly = policy(extra="movement = { sights = 5 }")
    assert changed(hardly, policy(ONLY_CARS), [*once, observation(1, {"eye": []})], 1) == []


def test_what_was_not_told_when_its_sector_is_taken_out_is_never_told():
    assert changed(policy(), policy(ONLY_CARS), walk(lambda t: 0.2, 10), 0.5) == []
    assert changed(policy(extra="movement = {dwell_s = 4}"), policy(ONLY_CARS), walk(lambda t: 0.2, 10), 3) == [
        "0 presence_started west",
        "2.5 presence_ended west",
    ]


def test_a_presence_that_was_ending_when_its_sector_is_taken_out_ended_when_it_did():
    gone = walk(lambda t: 0.2 if t <= 3 else None, 20)
    patient = policy(extra="presence = { clear_s = 60 }")
    assert changed(patient, policy(WITHOUT_WEST), gone, 18)[2:] == [
        "3.25 left west unknown",
        "3.25 presence_ended west",
    ]


def test_who_was_told_to_have_come_is_told_to_have_gone_under_rules_that_ask_for_a_longer_stay():
    stricter = policy(extra="movement = {dwell_s = 60}\npresence = {confirm_s = 60}")
    gone = walk(lambda t: 0.2 if t <= 5 else None, 20)
    whole = lines(events_of(policy(), gone))
    assert len(whole) == 4
    assert changed(policy(), stricter, gone, 3) == whole


def test_a_presence_under_rules_that_ask_for_a_longer_stay_ends_when_the_last_one_leaves():
    stricter = policy(extra="presence = {confirm_s = 60}")
    stays = ((0.1, range(10)), (0.4, range(4, 24)))
    frames = [observation(i * 0.5, {"eye": [person_at(x) for x, stay in stays if i in stay]}) for i in range(60)]
    presence = [line for line in changed(policy(), stricter, frames, 4) if "presence" in line]
    assert presence == ["0 presence_started west", "11.75 presence_ended west"]


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
    assert [e.direction for e in events_of(policy(text), frames) if e.kind == "moved"] == [way]


def test_a_step_over_the_line_and_straight_back_at_a_high_rate_is_no_crossing():
    frames = walk(lambda t: 0.47 + (0.08 if 4 <= t < 4.6 else 0), 10, every_s=0.1)
    assert [e.kind for e in events_of(policy(), frames) if e.kind == "crossed"] == []


def test_a_visit_that_only_the_blind_time_after_it_makes_long_enough_is_told_when_it_is_over():
    frames = walk(lambda t: 0.2 if t <= 0.7 else None, 7, every_s=0.7)
    events = events_of(policy(), frames)
    assert [e.kind for e in events if e.track] == ["entered", "left"]
    assert len({e.confirmed_at for e in events if e.track}) == 1


def test_a_classifier_alone_shows_movement_by_the_order_in_which_sectors_light_up():
    def lit(sector: str | None) -> list[Prediction]:
        return [
            Prediction("person", 0.8, sector=name) if name == sector else Prediction("road", 0.9, sector=name)
            for name in ("west", "east")
        ]

    order = [None] * 4 + ["west"] * 6 + ["east"] * 6 + [None] * 10
    frames = [observation(i * 0.5, {"namer": lit(sector)}, [CLASSIFIER]) for i, sector in enumerate(order)]
    story = lines(events_of(policy(), frames))
    assert "4.75 moved west->east right" in story
    assert [line.split(" ", 1)[1] for line in story if "presence" in line] == [
        "presence_started west",
        "presence_started east",
        "presence_ended west",
        "presence_ended east",
    ]


def test_somebody_who_hardly_stirs_over_a_border_did_not_move():
    events = events_of(policy(), walk(lambda t: 0.494 if t < 6 else 0.506, 16))
    assert [e.direction for e in events if e.kind == "moved"] == []
