"""What a camera's state remembers of its scene: a camera that was turned, what stopped, places of nuisance."""

from __future__ import annotations

import base64
import random
import re
from collections.abc import Callable, Sequence

import pytest
from msgspec import UNSET
from msgspec.structs import replace

from policies.events import Event
from policies.fold import State, advance, decode_state, encode_state, initial_state
from policies.observation import Observation, Prediction
from policies.occupancy import Occupancy, current_occupancy, timeline
from policies.scene.memory import GONE_US, Doubt, Scene, remembered_scene
from policies.scene.nuisances import MOST_PLACES, remembered_places, times_as_far, with_places
from policies.scene.signature import BYTES, PROFILES, agreement, move_of, profiles_of
from policies.site.site_policy import CameraPolicy, InvalidPolicy, parse_site_policy
from tests.policies.stories import CHANGE, DETECTOR, START_US, fold, observation, policy

MODELS = (CHANGE, DETECTOR)
BURST_S = 5.0
Bits = list[list[int]]


def a_scene(seed: int) -> Bits:
    """The signature of a scene, by profile, wider than the view by ten places on either side."""
    chance = random.Random(seed)
    return [[chance.randint(0, 1) for _ in range(size + 20)] for size in PROFILES]


def evidence(scene: Bits, across: int = 0, down: int = 0, flips: float = 0.05, seed: int = 0) -> str:
    """What a camera that is turned by so many places says of a scene, some bits being wrong."""
    chance = random.Random(f"{across} {down} {flips} {seed}")
    moves = (across, across, down, down)
    bits = [
        bit ^ (chance.random() < flips)
        for profile, move, size in zip(scene, moves, PROFILES, strict=True)
        for bit in profile[10 + move : 10 + move + size]
    ]
    raw = sum(bit << place for place, bit in enumerate(bits)).to_bytes(BYTES, "little")
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def rules(extra: str = "", camera: str = "") -> CameraPolicy:
    text = f'site = "yard"\ntargets = ["moving"]\n{extra}\n[cameras.gate]\n{camera}\n'
    return parse_site_policy(text).camera("gate")


def bursts(shown: Callable[[int], str | None], count: int, first: int = 0) -> list[Observation]:
    """Quiet bursts of three frames, the first of which has the evidence."""
    frames = []
    for number in range(first, first + count):
        for i in range(3):
            still = Prediction("still", 0.9, evidence=None if i else shown(number))
            frames.append(observation(number * BURST_S + i, {"frame-change": [still]}, MODELS))
    return frames


HOME = a_scene(1)


def home(number: int) -> str:
    return evidence(HOME, seed=number)


def turned(number: int) -> str:
    return evidence(HOME, across=5, seed=number)


def state_after(frames: Sequence[Observation], under: CameraPolicy | None = None) -> State:
    return fold(under or rules(), initial_state(), frames)[0]


def turned_us(state: State) -> int | None:
    return state.scene.turned_us if state.scene else None


BEFORE = bursts(home, 8)
AFTER = bursts(turned, 8, first=8)


@pytest.mark.parametrize(("across", "down"), [(5, 0), (-4, 0), (0, 4), (0, -5), (3, 3)])
def test_a_camera_that_is_turned_has_its_sectors_unobserved_since_then_with_the_cause(across: int, down: int) -> None:
    frames = BEFORE + bursts(lambda n: evidence(HOME, across, down, seed=n), 8, first=8)
    state = state_after(frames)
    assert turned_us(state) == AFTER[0].at_us
    [sector] = current_occupancy(rules(), state, frames[-1].at_us + 1)
    assert (sector.occupancy, sector.since_us) == (Occupancy.UNOBSERVED, AFTER[0].at_us)
    assert sector.cause == "the camera was turned or moved at 2026-09-21T14:14:00Z"


@pytest.mark.parametrize("flips", [0.0, 0.1, 0.25])
def test_light_that_changes_a_part_of_the_view_is_no_turn(flips: float) -> None:
    frames = BEFORE + bursts(lambda n: evidence(HOME, flips=flips, seed=7), 100, first=8)
    assert turned_us(state_after(frames)) is None


def test_a_view_that_lies_elsewhere_for_a_moment_is_no_turn() -> None:
    assert turned_us(state_after(BEFORE + bursts(turned, 2, first=8) + bursts(home, 8, first=10))) is None


def test_another_view_is_a_turn_once_it_has_stayed() -> None:
    other = a_scene(3)
    frames = BEFORE + bursts(lambda n: evidence(other, seed=n), 80, first=8)
    later = BEFORE[-1].at_us + GONE_US
    assert turned_us(state_after([seen for seen in frames if seen.at_us < later])) is None
    assert turned_us(state_after(frames)) == frames[len(BEFORE)].at_us


def test_views_that_change_all_the_time_are_no_turn() -> None:
    frames = BEFORE + bursts(lambda n: evidence(a_scene(n), seed=n), 200, first=8)
    assert turned_us(state_after(frames)) is None


def test_a_camera_that_is_turned_back_is_observed_again() -> None:
    frames = BEFORE + AFTER + bursts(home, 8, first=16)
    state = state_after(frames)
    assert turned_us(state) is None
    assert state.seen_us == frames[-1].at_us


def test_a_camera_that_is_turned_back_for_a_moment_is_not() -> None:
    frames = BEFORE + AFTER + bursts(home, 2, first=16) + bursts(turned, 2, first=18)
    assert turned_us(state_after(frames)) == AFTER[0].at_us


def test_a_view_of_which_it_is_not_known_where_it_lies_is_a_turn_after_five_minutes() -> None:
    scene = state_after(BEFORE).scene
    assert scene
    doubt = Doubt(AFTER[0].at_us, 1, turned(8), across=9)
    after = remembered_scene(Scene(scene.shown, doubt), AFTER[3], None)
    assert after is not None
    assert after.doubt == Doubt(AFTER[0].at_us, 2, turned(8))


def test_once_its_owner_has_looked_a_turned_camera_is_observed_again() -> None:
    looked = rules(camera='looked_at = "2026-09-21T14:15:00Z"')
    frames = BEFORE + bursts(turned, 40, first=8)
    before = [seen for seen in frames if seen.at_us < (looked.looked_us or 0)]
    assert turned_us(state_after(before, looked)) == AFTER[0].at_us
    state = state_after(frames, looked)
    assert turned_us(state) is None
    assert state.seen_us == frames[-1].at_us


@pytest.mark.parametrize(
    "given", ['"yesterday"', '"2026-09-21T14:15:00"', "7", "2026-09-21T14:15:00", "2026-09-21", "true"]
)
def test_a_look_is_an_instant(given: str) -> None:
    with pytest.raises(InvalidPolicy, match=r"line 5: cameras.gate.looked_at: write an instant with its offset"):
        rules(camera=f"looked_at = {given}")


def test_a_look_may_be_a_date_of_toml() -> None:
    assert rules(camera="looked_at = 1970-01-01T00:00:01+00:00").looked_us == 1_000_000


@pytest.mark.parametrize(("last", "is_told"), [(home, True), (turned, False), (lambda _: None, True)])
def test_in_a_view_that_looks_turned_nothing_that_moves_begins(
    last: Callable[[int], str | None], is_told: bool
) -> None:
    def crossing(i: int) -> Observation:
        x = 0.05 + i * 0.04
        region = Prediction("moving", 0.9, (x, 0.4, x + 0.1, 0.5), evidence=last(8) if i == 0 else None)
        return observation(8 * BURST_S + i * 0.2, {"frame-change": [region]}, MODELS)

    _, events = fold(rules(), initial_state(), BEFORE + [crossing(i) for i in range(20)])
    assert ("presence_started" in [event.kind for event in events]) is is_told


def test_while_a_camera_is_turned_no_event_is_settled_and_the_time_is_unobserved() -> None:
    def passing(frames: list[Observation]) -> list[Observation]:
        return [
            observation(
                (seen.at_us - START_US) / 1e6,
                {**seen.answers, "eye": [Prediction("car", 0.9, (0.4, 0.4, 0.6, 0.6))]},
                MODELS,
            )
            for seen in frames
        ]

    under = rules("presence = { blind_s = 10 }", 'targets = ["moving", "vehicle"]')
    frames = BEFORE + AFTER + passing(bursts(turned, 8, first=16))
    state, events = fold(under, initial_state(), frames)
    assert events == ()
    spans = list(timeline(under, initial_state(), [(under, seen) for seen in frames], frames[-1].at_us + 1))
    assert [s.occupancy for s in spans if s.target == "vehicle"] == [Occupancy.CLEAR, Occupancy.UNOBSERVED]
    assert [s.cause for s in spans if s.target == "vehicle"] == [
        None,
        "the camera was turned or moved at 2026-09-21T14:14:00Z",
    ]
    assert state.scene


def test_a_policy_that_does_not_ask_for_moving_remembers_nothing_of_a_scene() -> None:
    assert state_after(BEFORE + AFTER, policy()).scene is UNSET


def test_frames_without_evidence_leave_a_scene_unknown() -> None:
    assert state_after(bursts(lambda _: None, 20)).scene is UNSET


@pytest.mark.parametrize("given", ["", "AAAA", "é", "!", "A"])
def test_evidence_of_another_form_is_none(given: str) -> None:
    assert profiles_of(given) is None
    assert agreement((home(0),), given) is None
    assert move_of((home(0),), given) == (0, 0)
    assert state_after(bursts(lambda _: given, 20)).scene is UNSET


def test_scenes_that_have_nothing_in_common_are_not_compared() -> None:
    assert agreement(tuple(evidence(a_scene(n)) for n in range(8)), home(0)) is None
    frames = bursts(lambda n: evidence(a_scene(n)), 20)
    assert turned_us(state_after(frames)) is None


def test_what_is_remembered_takes_less_than_a_kilobyte() -> None:
    frames = bursts(home, 3000)[::3]
    frames += bursts(turned, 1, first=3000)
    state = state_after(frames)
    assert state.scene
    assert state.scene.doubt is not None
    places = with_places((), START_US, [(x / 16, y / 9) for x in range(16) for y in range(9)])
    assert len(places) == MOST_PLACES
    full = State(scene=Scene(state.scene.shown, state.scene.doubt, START_US, places))
    assert len(encode_state(full)) - len(encode_state(State())) < 1100
    assert decode_state(encode_state(full)) == full


def person(at_s: float) -> list[Prediction]:
    """Somebody who goes through the view from second 20 on, and comes back at 130."""
    into_s = at_s - (20 if at_s < 100 else 130)
    if not 0 <= into_s < 30:
        return []
    left = 0.02 + into_s * 0.03
    return [Prediction("person", 0.9, (round(left, 5), 0.4, round(left + 0.05, 5), 0.7))]


@pytest.mark.parametrize("shows", [home, turned, lambda n: evidence(a_scene(n))])
def test_evidence_changes_nothing_for_a_policy_that_does_not_ask_for_moving(shows: Callable[[int], str]) -> None:
    def told(shown: Callable[[int], str | None]) -> list[tuple[bytes, Sequence[Event]]]:
        state, steps = initial_state(), []
        for number in range(200):
            still = Prediction("still", 0.9, evidence=shown(number))
            answers = {"frame-change": [still], "eye": person(float(number))}
            state, events = fold(policy(), state, [observation(float(number), answers, MODELS)])
            steps.append((encode_state(state), events))
        return steps

    with_it = told(lambda n: home(n) if n < 10 else shows(n))
    assert with_it == told(lambda _: None)
    assert sum(len(events) for _, events in with_it) > 6
    for state, _ in with_it:
        assert set(re.findall(rb'"(scene|course|named)"', state)) == set()


def test_a_camera_is_not_turned_any_more_once_its_policy_does_not_ask_for_moving() -> None:
    state = state_after(BEFORE + AFTER)
    assert turned_us(state) == AFTER[0].at_us
    [west, _] = current_occupancy(policy(), state, AFTER[-1].at_us)
    assert west.cause != "the camera was turned or moved at 2026-09-21T14:14:00Z"
    again = replace(AFTER[-1], at_us=AFTER[-1].at_us + 1)  # as a camera sends it that is stuck
    assert advance(policy(), state, again)[0].scene is UNSET
    assert advance(rules(), state, again)[0].scene == state.scene


@pytest.mark.parametrize("covered_s", [300, 310, 3600, 8 * 3600])
@pytest.mark.parametrize("flips", [0.05, 0.2])
def test_a_camera_that_was_covered_for_a_while_is_observed_again(covered_s: int, flips: float) -> None:
    cover = a_scene(3)
    until = 8 + round(covered_s / BURST_S)
    frames = BEFORE + bursts(lambda n: evidence(cover, seed=n), until - 8, first=8)
    frames += bursts(lambda n: evidence(HOME, flips=flips, seed=n), 8, first=until)  # in another light, perhaps
    state = state_after(frames)
    assert turned_us(state) is None
    assert state.seen_us == frames[-1].at_us


def test_a_cover_that_shows_nothing_is_no_turn() -> None:
    frames = BEFORE + bursts(lambda _: None, 200, first=8) + bursts(home, 8, first=208)
    for count in range(len(BEFORE), len(frames), 30):
        assert turned_us(state_after(frames[:count])) is None


def test_a_burst_that_comes_late_changes_what_is_remembered_for_two_hours_at_most() -> None:
    frames = bursts(home, 1600)[::3]
    late = bursts(lambda n: evidence(HOME, seed=99), 1, first=2)[0]
    with_it, without = state_after(frames), state_after([seen for seen in frames if seen.at_us != late.at_us])
    assert with_it.scene == without.scene


def test_things_that_go_nowhere_make_a_place_a_nuisance_for_a_while() -> None:
    places = with_places((), START_US, [(0.5, 0.5)] * 4)
    assert times_as_far(places, START_US, 0.53, 0.6) == 2
    assert times_as_far(places, START_US, 0.9, 0.5) == 1
    assert times_as_far(with_places(places, START_US, [(0.5, 0.5)] * 90), START_US, 0.5, 0.5) == 4
    assert times_as_far(places, START_US + 1_900_000_000, 0.5, 0.5) == 1
    assert remembered_places(places, START_US + 1_900_000_000) == ()
    assert remembered_places(places, START_US) is places
