"""The target `moving`: whatever moves, from the regions in which frames differ."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from msgspec.structs import replace

from policies.fold import decode_state, encode_state, initial_state
from policies.fusion.judge import judge
from policies.fusion.model_check import misfits
from policies.observation import Box, EnsembleInfo, ModelInfo, Observation, Prediction
from policies.site.site_policy import CameraPolicy, parse_site_policy
from tests.policies.stories import CHANGE, DETECTOR, events_of, fold, observation, person_at, policy

MODELS = (CHANGE, DETECTOR)
STILL = Prediction("still", 0.9)


def rules(targets: str = '["moving"]', extra: str = "") -> CameraPolicy:
    return policy(extra=f"targets = {targets}\n{extra}")


def region(left: float, top: float, right: float, bottom: float, score: float = 0.8) -> Prediction:
    return Prediction("moving", score, (round(left, 5), round(top, 5), round(right, 5), round(bottom, 5)))


def at(x: float, wide: float = 0.1, y: float = 0.7) -> Prediction:
    """The region of a vehicle whose middle is at x."""
    return region(max(x - wide / 2, 0.0), y, min(x + wide / 2, 1.0), y + 0.08)


def story(
    shown: Callable[[float], Sequence[Prediction]],
    until_s: float = 8.0,
    every_s: float = 0.2,
    seen: Callable[[float], Sequence[Prediction]] = lambda _: (),
) -> list[Observation]:
    """What frame-change (`shown`) and a detector (`seen`) give as time goes by."""
    frames = []
    for i in range(round(until_s / every_s) + 1):
        at_s = round(i * every_s, 3)
        regions = list(shown(at_s)) or [STILL]
        frames.append(observation(at_s, {"frame-change": regions, "eye": seen(at_s)}, MODELS))
    return frames


def going(at_s: float) -> list[Prediction]:
    """A vehicle from left to right in six seconds, in sight after one."""
    return [at(0.05 + (at_s - 1) * 0.16)] if 1 <= at_s <= 6.4 else []


def kinds(frames: Sequence[Observation], under: CameraPolicy | None = None) -> list[str]:
    return [event.kind for event in events_of(under or rules(), frames)]


def test_what_goes_through_the_view_is_one_track_with_presence_and_movement() -> None:
    told = events_of(rules(), story(going, 12))
    assert {event.kind for event in told} == {
        *("entered", "left", "moved", "crossed", "presence_started", "presence_ended")
    }
    assert len({event.track for event in told if event.track}) == 1
    assert {event.label for event in told} == {"moving"}


def test_the_pieces_of_a_thing_are_one_thing() -> None:
    def in_two(at_s: float) -> list[Prediction]:
        return [p for one in going(at_s) if one.box for p in (_part(one.box, 0.0, 0.3), _part(one.box, 0.6, 1.0))]

    told = events_of(rules(), story(in_two, 12))
    assert [event.kind for event in told].count("moved") == 1
    assert len({event.track for event in told if event.track}) == 1


def _part(box: Box, first: float, last: float) -> Prediction:
    wide = box[2] - box[0]
    return region(box[0] + first * wide, box[1], box[0] + last * wide, box[3])


def test_a_thing_of_which_only_the_front_is_seen_keeps_its_size() -> None:
    def front(at_s: float) -> list[Prediction]:
        [whole] = going(at_s) or [None]
        return [] if whole is None or whole.box is None else [_part(whole.box, 0.7 if 3 < at_s < 4 else 0.0, 1.0)]

    state, _ = fold(rules(), initial_state(), story(front, 3.6))
    [track] = state.tracks
    assert track.box is not None
    assert track.box[2] - track.box[0] > 0.08


def test_a_region_that_holds_two_known_things_is_parted() -> None:
    def meeting(at_s: float) -> list[Prediction]:
        one, other = at(0.1 + at_s * 0.1, y=0.66), at(0.9 - at_s * 0.1, y=0.74)
        assert one.box is not None
        assert other.box is not None
        if abs(at_s - 4) > 0.3:
            return [one, other]
        return [region(min(one.box[0], other.box[0]), 0.66, max(one.box[2], other.box[2]), 0.82)]

    told = events_of(rules(), story(meeting, 7))
    assert len({event.track for event in told if event.track}) == 2


def test_things_that_pass_each_other_as_one_region_are_where_it_ends() -> None:
    """They do not keep their speed meanwhile, and each is the same track afterwards."""

    def passing(at_s: float) -> list[Prediction]:
        hurried = at_s if at_s < 3 else at_s + min(0.5 * (at_s - 3), 0.8)
        left, right = at(0.92 - hurried * 0.11, y=0.5), at(0.08 + hurried * 0.11, y=0.62)
        assert left.box is not None
        assert right.box is not None
        if abs(at_s - 3.6) > 0.7:
            return [left, right]
        return [region(min(left.box[0], right.box[0]), 0.5, max(left.box[2], right.box[2]), 0.7)]

    under = rules()
    for until_s in (4.2, 5.2):
        state, _ = fold(under, initial_state(), story(passing, until_s))
        found = sorted((track.box, track.born_us) for track in state.tracks if track.box and not track.misses)
        assert len(found) == 2
        boxes = [each.box for each in passing(until_s) if each.box is not None]
        ends = (boxes[0][0], boxes[-1][2])
        assert (found[0][0][0], found[1][0][2]) == pytest.approx(ends, abs=0.03)


def test_two_things_that_came_as_one_region_are_two_once_they_part() -> None:
    def overtaking(at_s: float) -> list[Prediction]:
        slow, fast = at(0.1 + 0.05 * at_s, y=0.5), at(0.1 + 0.12 * at_s, y=0.62)
        assert slow.box is not None
        assert fast.box is not None
        return [slow, fast] if at_s > 2 else [region(slow.box[0], 0.5, fast.box[2], 0.7)]

    state, _ = fold(rules(), initial_state(), story(overtaking, 6))
    boxes = [track.box for track in state.tracks if track.box is not None and not track.misses]
    assert len(boxes) == 2
    assert all(box[3] - box[1] < 0.12 for box in boxes)


def test_a_splinter_beside_a_thing_is_no_other_thing() -> None:
    def splintered(at_s: float) -> list[Prediction]:
        x = 0.1 + 0.1 * at_s
        return [region(x, 0.5, x + 0.1, 0.6), region(x + 0.101, 0.601, x + 0.12, 0.615)]

    state, _ = fold(rules(), initial_state(), story(splintered, 6))
    assert len([track for track in state.tracks if not track.misses]) == 1


def test_the_front_that_was_seen_before_its_thing_is_no_other_thing() -> None:
    seen = [
        (627, 170, 640, 187),
        (603, 170, 617, 187),
        (580, 153, 640, 183),
        (570, 153, 630, 187),
        (553, 153, 613, 183),
    ]
    seen += [(533 - 20 * step, 153, 593 - 20 * step, 185) for step in range(6)]

    def front_first(at_s: float) -> list[Prediction]:
        step = round(at_s / 0.2) - 5
        if not 0 <= step < len(seen):
            return []
        left, top, right, bottom = seen[step]
        return [region(left / 640, top / 360, right / 640, bottom / 360)]

    frames = [replace(frame, size=(640, 360)) for frame in story(front_first, 3)]
    [track] = fold(rules(), initial_state(), frames)[0].tracks
    assert track.confirmed
    assert track.box is not None
    assert track.box[2] - track.box[0] == pytest.approx(60 / 640, abs=0.01)


def test_where_a_thing_was_before_it_counted_is_told_once_it_counts() -> None:
    def slowly(at_s: float) -> list[Prediction]:
        return [at(0.4 + 0.03 * at_s, 0.2)] if at_s < 16 else []

    told = events_of(rules(), story(slowly, 20))
    started = {event.sector: event for event in told if event.kind == "presence_started"}
    assert set(started) == {"west", "east"}
    assert started["west"].started_at < started["east"].started_at
    assert started["west"].confirmed_at == started["east"].confirmed_at
    assert [event.kind for event in told].count("moved") == 1


def test_what_begins_in_view_and_goes_straight_for_a_while_is_no_thing_yet() -> None:
    def crawling(far: float) -> list[Observation]:
        return story(lambda at_s: [region(x := min(0.4 + 0.03 * at_s, 0.4 + far), 0.4, x + 0.02, 0.43)], 15)

    assert kinds(crawling(0.12)) == []
    assert "presence_started" in kinds(crawling(0.3))


def test_what_sways_in_one_place_is_no_thing() -> None:
    assert kinds(story(lambda at_s: [at(0.5 + 0.04 * (round(at_s * 5) % 3 - 1))], 60)) == []


def test_an_insect_that_turns_again_and_again_is_no_thing() -> None:
    square = [(0.4, 0.4), (0.45, 0.4), (0.45, 0.45), (0.4, 0.45)]

    def crawling(at_s: float) -> list[Prediction]:
        x, y = square[round(at_s * 5) % 4]
        return [region(x, y, x + 0.03, y + 0.05)]

    assert kinds(story(crawling, 30)) == []


@pytest.mark.parametrize(("legs", "expected"), [(3, False), (13, False), (18, True)])
def test_what_turns_before_it_has_gone_far_is_no_thing_yet(legs: int, expected: bool) -> None:
    def crawling(at_s: float) -> list[Prediction]:
        leg, part = divmod(round(at_s * 5), 3)
        if leg >= legs:
            return []
        x, y = 0.2 + (leg + part / 3) * 0.025, 0.4 + 0.02 * (part / 3 if leg % 2 == 0 else 1 - part / 3)
        return [region(x, y, x + 0.03, y + 0.05)]

    assert bool(kinds(story(crawling, 12))) == expected


def wheels(at_s: float) -> list[Prediction]:
    """Of a vehicle, its wheels alone."""
    [*whole] = going(at_s)
    return [p for one in whole if one.box for p in (_part(one.box, 0.0, 0.25), _part(one.box, 0.9, 1.15))]


def test_a_thing_that_goes_along_with_another_one_beside_it_is_a_piece_of_it() -> None:
    told = events_of(rules(), story(wheels, 12))
    assert [event.kind for event in told].count("moved") == 1
    assert len({event.track for event in told if event.track}) == 1


def test_what_went_along_with_another_thing_counts_once_that_one_has_gone() -> None:
    told = events_of(rules(), story(lambda at_s: wheels(at_s) if at_s < 3.6 else wheels(at_s)[:1], 12))
    assert len({event.track for event in told if event.track}) == 2


def test_what_is_weak_is_noise() -> None:
    assert kinds(story(lambda at_s: [replace(p, score=0.5) for p in going(at_s)])) == []


def test_two_things_far_apart_stay_two() -> None:
    def two(at_s: float) -> list[Prediction]:
        return [at(0.1 + at_s * 0.1), at(0.5 + at_s * 0.05, y=0.3)]

    told = events_of(rules(), story(two, 6))
    assert len({event.track for event in told if event.track}) == 2


@pytest.mark.parametrize("targets", ['["moving"]', '["person", "moving"]'])
def test_a_thing_takes_the_label_of_a_detectors_box_that_covers_it_ever_after(targets: str) -> None:
    def car(at_s: float) -> list[Prediction]:
        return [Prediction("car", 0.7, p.box) for p in going(at_s)] if 3 <= at_s < 3.4 else []

    told = events_of(rules(targets), story(going, 12, seen=car))
    of_track = [(event.kind, event.label) for event in told if event.track]
    assert of_track[0] == ("entered", "moving")
    assert of_track[-1] == ("left", "vehicle")
    assert {event.label for event in told if not event.track} == {"moving"}


def test_a_detectors_box_gives_a_thing_its_shape() -> None:
    shape = (0.2, 0.3, 0.3, 0.8)
    seen = observation(
        0,
        {
            "frame-change": [region(0.2, 0.35, 0.28, 0.5), region(0.22, 0.6, 0.3, 0.78)],
            "eye": [Prediction("person", 0.9, shape), Prediction("car", 0.9, (0.6, 0.1, 0.9, 0.4))],
        },
        MODELS,
    )
    [moving] = judge(rules(), seen).candidates
    assert moving.box == shape


def test_a_little_movement_before_a_large_thing_does_not_make_it_move() -> None:
    parked = Prediction("car", 0.9, (0.1, 0.3, 0.6, 0.8))
    leaf = region(0.3, 0.4, 0.34, 0.45)
    [moving] = judge(rules(), observation(0, {"frame-change": [leaf], "eye": [parked]}, MODELS)).candidates
    assert moving.box == leaf.box


SHAPE: Box = (0.2, 0.3, 0.3, 0.8)


@pytest.mark.parametrize(
    "other", [Prediction("chair", 0.9, SHAPE), Prediction("car", 0.1, SHAPE), Prediction("car", 0.9)]
)
def test_a_box_of_no_target_or_of_a_weak_score_gives_no_shape(other: Prediction) -> None:
    mover = region(0.2, 0.35, 0.28, 0.75)
    [moving] = judge(rules(), observation(0, {"frame-change": [mover], "eye": [other]}, MODELS)).candidates
    assert moving.box == mover.box


def test_a_region_much_larger_than_a_detectors_box_is_not_of_its_thing() -> None:
    wide = region(0.1, 0.2, 0.9, 0.9)
    small = Prediction("person", 0.9, (0.4, 0.4, 0.45, 0.5))
    [moving] = judge(rules(), observation(0, {"frame-change": [wide], "eye": [small]}, MODELS)).candidates
    assert moving.box == wide.box


def test_nothing_is_known_while_frame_change_does_not_answer() -> None:
    frames = [observation(i / 5, {"frame-change": None}, MODELS) for i in range(5)]
    state, told = fold(rules(), initial_state(), frames)
    assert (state.seen_us, told) == (None, ())


def test_a_state_with_something_that_moves_survives_json() -> None:
    state, _ = fold(rules(), initial_state(), story(going, 4))
    assert state.tracks
    assert decode_state(encode_state(state)) == state


def test_moving_without_frame_change_is_never_decided() -> None:
    site = parse_site_policy('site = "yard"\ntargets = ["moving"]')
    assert misfits(site, EnsembleInfo("eyes", (DETECTOR,))) == (
        "every camera/view: `moving` is never decided: no model that votes can see it",
    )
    assert misfits(site, EnsembleInfo("eyes", MODELS)) == ()


def test_frame_change_votes_on_no_other_target() -> None:
    assert kinds(story(going), rules('["person"]')) == []


@pytest.mark.parametrize("label", ["person", "moving"])
def test_a_users_own_group_or_class_called_moving_is_decided_by_the_models_that_know_it(label: str) -> None:
    group = "" if label == "moving" else '[target.moving]\nclasses = ["person"]'
    site = parse_site_policy(f'site = "yard"\ntargets = ["moving"]\n{group}')
    own = ModelInfo("eye", frozenset({label}), boxes=True)
    assert misfits(site, EnsembleInfo("own", (own,))) == ()
    walk = [replace(person_at(0.2 + 0.03 * i), label=label) for i in range(20)]
    told = events_of(site.camera("gate"), [observation(i / 2, {"eye": [each]}, [own]) for i, each in enumerate(walk)])
    assert {(event.kind, event.label) for event in told} == {("entered", "moving"), ("presence_started", "moving")}
    assert site.camera("gate").asks_for_moving == (not group)


def test_of_a_frame_full_of_regions_the_best_32_are_looked_at() -> None:
    rain = [
        Prediction(
            "moving", round(0.5 + n / 1000, 3), (n % 20 / 20, n // 20 / 20, n % 20 / 20 + 0.01, n // 20 / 20 + 0.01)
        )
        for n in range(200)
    ]
    found = judge(rules(), observation(0, {"frame-change": rain}, MODELS)).candidates
    assert sorted(each.score for each in found) == [each.score for each in rain[-32:]]
