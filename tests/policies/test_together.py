"""Several policies side by side tell what each of them tells alone, to the last bit (also in `test_properties`)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec
import pytest
from msgspec.structs import replace

from policies.events import Event
from policies.fold import OutOfOrder, advance, initial_state
from policies.fusion.judge import relevant_judgement
from policies.observation import Observation, Prediction
from policies.site.site_policy import CameraPolicy
from policies.together import Judges, Together
from tests.policies.stories import CLASSIFIER, DETECTOR, SECOND, TWO_HALVES, observation, person_at, policy

GHOST = '[[cameras.gate.suppress]]\nname = "post"\nbox = [0.17, 0.6, 0.23, 0.8]\nmax_score = 0.95\n'
NIGHT = '[[schedule]]\nname = "night"\nbrighter_than = 0.5\nmin_score = { "*" = 0.2 }\npresence = { clear_s = 5 }'
POLICIES = [
    policy(),
    policy(extra='sensitivity = { rule = "any" }'),
    policy(extra='sensitivity = { rule = "all" }'),
    policy(extra='sensitivity = { rule = "at_least", k = 3, missing = "fail_open" }'),
    policy(extra='min_score = { "*" = 0.2 }'),
    policy(extra='min_score = { "*" = 0.5, "eye" = 0.95 }'),
    policy(extra="presence = { confirm_s = 0.0, clear_s = 6.0 }"),
    policy(extra="movement = { sights = 1, dwell_s = 0.0, linger_s = 3.0, hidden_s = 1.0 }"),
    policy(extra='targets = ["vehicle", "person"]'),
    policy(extra=NIGHT),
    policy(TWO_HALVES + GHOST),
    policy(TWO_HALVES + GHOST, 'sensitivity = { rule = "any" }'),
    policy(TWO_HALVES.replace("east", "right")),
]


def alone(one: CameraPolicy, frames: Iterable[Observation]) -> list[Event]:
    state, told = initial_state(), list[Event]()
    for seen in frames:
        state, events = advance(one, state, seen)
        told += events
    return told


def side_by_side(policies: Sequence[CameraPolicy], frames: Iterable[Observation]) -> list[list[Event]]:
    fold, told = Together(policies), [list[Event]() for _ in policies]
    for seen in frames:
        for place, events in fold.advance(seen):
            told[place] += events
    return told


def same(policies: Sequence[CameraPolicy], frames: Sequence[Observation]) -> bool:
    expected = [msgspec.json.encode(alone(one, frames)) for one in policies]
    return [msgspec.json.encode(events) for events in side_by_side(policies, frames)] == expected


def stay(until_s: int, **changes: object) -> list[Observation]:
    """Somebody stands in the west half from 3 s to 9 s, seen firmly by one detector and weakly by the other."""
    return [
        replace(
            observation(
                t,
                {"eye": [person_at(0.2)], "eye.2": [person_at(0.2, score=0.3)]} if 3 <= t <= 9 else {},
                [DETECTOR, SECOND],
            ),
            **changes,
        )
        for t in range(until_s)
    ]


def test_a_stay_is_told_by_each_policy_as_it_tells_it_alone():
    frames = stay(40)
    assert len({event.kind for event in alone(POLICIES[0], frames)}) > 3
    assert same(POLICIES, frames)


def test_a_schedule_puts_each_policy_under_its_own_rules():
    frames = stay(20, brightness=0.9) + [replace(one, brightness=0.1) for one in stay(40)[20:]]
    assert alone(POLICIES[9], frames) != alone(POLICIES[0], frames)
    assert same(POLICIES, frames)


def test_frames_that_repeat_or_that_no_model_answered_tell_no_policy_anything():
    frames = stay(40)
    frames[5] = replace(frames[5], frame_sha256=frames[4].frame_sha256)
    frames[12:20] = [replace(one, answers={"eye": None, "eye.2": None}) for one in frames[12:20]]
    frames[25:30] = [replace(one, answers={"eye": (), "eye.2": None}) for one in frames[25:30]]
    assert same(POLICIES, frames)


def test_what_a_classifier_names_is_shared_as_well():
    models = [DETECTOR, CLASSIFIER]
    named = {"namer": [Prediction("person", 0.8, sector="west"), Prediction("road", 0.2, sector="west")]}
    frames = [observation(t, named if 3 <= t <= 9 else {}, models) for t in range(30)]
    assert alone(POLICIES[0], frames)
    assert same(POLICIES, frames)


def test_a_box_too_weak_for_every_policy_begins_nothing_beside_a_classifier():
    weak = {"eye": [person_at(0.2, score=0.05)], "namer": [Prediction("road", 0.9)]}
    frames = [observation(t, weak, [DETECTOR, CLASSIFIER]) for t in range(5)]
    assert same(POLICIES, frames)


def test_another_ensemble_is_heard_by_its_own_scores():
    frames = stay(40)
    other = replace(frames[0].ensemble_info, models=(replace(DETECTOR, model="third"),))
    for place in range(5, 40):
        frames[place] = replace(frames[place], ensemble_info=other, answers={"third": frames[place].answers["eye"]})
    assert same(POLICIES, frames)


def test_policies_that_come_to_the_same_share_the_work():
    alike = [POLICIES[0], policy(extra='min_score = { "*" = 0.41 }'), policy(extra="presence = { blind_s = 9 }")]
    first, second, third = side_by_side(alike, stay(40))
    for a, b, c in zip(first, second, third, strict=True):
        assert len({a.id, b.id, c.id}) == 3, "each has its own policy's name"
        assert a.votes is b.votes, "one telling, under two names"
        assert a.votes is not c.votes, "another confirmation is followed on its own"


def test_frames_out_of_order_are_refused():
    fold = Together(POLICIES)
    for seen in (one := stay(3)):
        fold.advance(seen)
    with pytest.raises(OutOfOrder):
        fold.advance(one[1])


def test_judges_give_the_gist_under_each_policy():
    judges = Judges(POLICIES)
    for seen in [*stay(12), observation(12, {"eye": None}), *(replace(one, brightness=0.9) for one in stay(40)[13:])]:
        found = judges.gists(judges.in_force(seen), seen)
        assert found == [relevant_judgement(one, seen) for one in POLICIES]
