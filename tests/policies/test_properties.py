"""Properties of the fold that hold for any history."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from policies.events import Event
from policies.fold import REMEMBERED, advance, decode_state, encode_state, initial_state, remembered
from policies.observation import Box, Observation
from tests.policies.drawn_histories import bounded, histories
from tests.policies.stories import (
    DETECTOR,
    SECOND,
    TWO_HALVES,
    events_of,
    fold,
    observation,
    person_at,
    policy,
)


@st.composite
def stuttering(draw: st.DrawFn) -> tuple[list[Observation], list[Observation]]:
    """A history, and the same with frames in between that came before, labelled as whatever frame."""
    frames = draw(histories())
    more: list[Observation] = []
    latest: tuple[str, ...] = ()
    for seen in frames:
        more.append(seen)
        latest, _ = remembered(latest, seen.frame_sha256)
        for again in range(draw(st.integers(0, 2))):
            latest, _ = remembered(latest, draw(st.sampled_from(latest)))
            answers = draw(st.sampled_from(frames)).answers
            more.append(replace(seen, at_us=seen.at_us + again + 1, frame_sha256=latest[-1], answers=answers))
    return frames, more


@bounded
@given(histories(), st.data())
def test_a_state_saved_and_read_back_between_any_two_frames_changes_nothing(frames, data):
    whole = events_of(policy(), frames)
    state, events = initial_state(), []
    for seen in frames:
        if data.draw(st.booleans()):
            state = decode_state(encode_state(state))
        state, new = advance(policy(), state, seen)
        events += new
    assert tuple(events) == whole


@bounded
@given(stuttering(), st.data())
def test_frames_that_came_before_change_no_event_wherever_a_state_is_saved_and_read_back(both, data):
    frames, more = both
    state, events = initial_state(), []
    for seen in more:
        if data.draw(st.booleans()):
            state = decode_state(encode_state(state))
        state, new = advance(policy(), state, seen)
        events += new
        assert len(state.frames) <= REMEMBERED
    assert tuple(events) == events_of(policy(), frames)


@given(st.lists(st.integers(0, 12), max_size=60), st.data())
def test_which_frames_are_known_follows_from_any_past_with_so_many_different_ones(shown, data):
    def memory(some: list[int]) -> tuple[str, ...]:
        frames: tuple[str, ...] = ()
        for number in some:
            frames, _ = remembered(frames, str(number))
        return frames

    since = data.draw(st.integers(0, len(shown)))
    if len(set(shown[since:])) >= REMEMBERED:
        assert memory(shown[since:]) == memory(shown)
    assert len(memory(shown)) == min(len(set(shown)), REMEMBERED)


@bounded
@given(histories(), st.integers(-(10**15), 10**15))
def test_shifting_all_times_shifts_all_events(frames, shift_us):
    moved = [replace(seen, at_us=seen.at_us + shift_us) for seen in frames]
    by = timedelta(microseconds=shift_us)
    # Events of one instant, kind and sector are in order of their ids, and instants are part of the ids.
    before = sorted((_facts(e, by) for e in events_of(policy(), frames)), key=repr)
    assert before == sorted((_facts(e) for e in events_of(policy(), moved)), key=repr)


OTHERS = (
    policy(),
    policy(TWO_HALVES.replace("sectors.west", "sectors.dusk")),
    policy(TWO_HALVES.replace('site = "yard"', 'site = "yard"\ntargets = ["vehicle"]')),
    policy(TWO_HALVES.replace("west]", 'west]\ntargets = ["vehicle", "person"]')),
    policy(extra="movement = {dwell_s = 5, sights = 4}\npresence = {confirm_s = 5}"),
)


@bounded
@given(histories(), st.data())
def test_all_that_was_told_to_begin_ends_once_however_often_the_policy_changes(frames, data):
    empty = [observation(100 + i, {}, [DETECTOR, SECOND]) for i in range(60)]
    state, rules, events = initial_state(), policy(), []
    for seen in frames + empty:
        if seen.at_us < empty[0].at_us and data.draw(st.integers(0, 4)) == 0:
            rules = OTHERS[data.draw(st.integers(0, len(OTHERS) - 1))]
        state, new = advance(rules, state, seen)
        events += new
    assert state.is_empty
    inside: Counter[tuple[str | None, ...]] = Counter()
    for event in events:
        if event.kind in ("entered", "presence_started"):
            inside[event.track, event.sector, event.label] += 1
        if event.kind in ("left", "presence_ended"):
            inside[event.track, event.sector, event.label] -= 1
        assert set(inside.values()) <= {0, 1}
    assert set(inside.values()) <= {0}


def _facts(event: Event, shift: timedelta = timedelta(0)) -> tuple[object, ...]:
    end = event.ended_at + shift if event.ended_at else None
    place = (event.sector, event.from_sector, event.to_sector, event.line, event.direction)
    return (
        event.kind,
        *place,
        event.started_at + shift,
        end,
        event.confirmed_at + shift,
        event.time_uncertainty_s,
    )


OPPOSITE = {
    "left": "right",
    "right": "left",
    "west": "east",
    "east": "west",
    "eastward": "westward",
    "westward": "eastward",
}


def _mirrored(seen: Observation) -> Observation:
    def flip(box: Box) -> Box:
        return (1 - box[2], box[1], 1 - box[0], box[3])

    answers = {
        model: tuple(replace(s, box=flip(s.box)) for s in predictions or () if s.box)
        for model, predictions in seen.answers.items()
    }
    return replace(seen, answers=answers)


@bounded
@given(histories())
def test_mirrored_frames_mirror_sectors_and_directions(frames):
    def facts(event: Event, turn: dict[str, str]) -> tuple[object, ...]:
        place = (event.sector, event.from_sector, event.to_sector, event.direction)
        return (event.kind, *(turn.get(name or "", name) for name in place), event.at)

    straight = Counter(facts(e, OPPOSITE) for e in events_of(policy(), frames))
    mirrored = Counter(facts(e, {}) for e in events_of(policy(), [_mirrored(seen) for seen in frames]))
    assert straight == mirrored


@bounded
@given(histories())
def test_a_renamed_model_renames_its_votes_and_changes_nothing_else(frames):
    def rename(seen: Observation) -> Observation:
        models = tuple(replace(model_info, model=model_info.model + ".v2") for model_info in seen.ensemble_info.models)
        answers = {model + ".v2": predictions for model, predictions in seen.answers.items()}
        return replace(seen, ensemble_info=replace(seen.ensemble_info, models=models), answers=answers)

    before, after = events_of(policy(), frames), events_of(policy(), [rename(seen) for seen in frames])
    assert [{f"{m}.v2": v for m, v in e.votes.items()} for e in before] == [e.votes for e in after]
    assert [e.id for e in before] == [e.id for e in after]


@bounded
@given(histories())
def test_every_presence_that_ended_had_started_and_every_left_had_entered(frames):
    open_presence: set[tuple[str, str | None]] = set()
    visits: Counter[tuple[str | None, str | None]] = Counter()
    for event in events_of(policy(), frames):
        if event.kind == "presence_started":
            assert (event.label, event.sector) not in open_presence
            open_presence.add((event.label, event.sector))
        elif event.kind == "presence_ended":
            open_presence.remove((event.label, event.sector))
        elif event.kind == "entered":
            visits[event.track, event.sector] += 1
        elif event.kind == "left":
            visits[event.track, event.sector] -= 1
            assert visits[event.track, event.sector] >= 0


@bounded
@given(histories())
def test_no_event_is_confirmed_before_it_began_and_no_two_share_an_id(frames):
    events = events_of(policy(), frames)
    assert all(event.started_at <= event.confirmed_at for event in events)
    assert len({event.id for event in events}) == len(events)


def test_folding_in_one_go_or_frame_by_frame_is_the_same():
    frames = [observation(i * 0.5, {"eye": [person_at(0.1 + 0.02 * i)]}) for i in range(30)]
    state, events = fold(policy(), initial_state(), frames[:11])
    rest_state, rest = fold(policy(), state, frames[11:])
    assert (rest_state, events + rest) == fold(policy(), initial_state(), frames)


@bounded
@given(histories())
def test_a_renamed_label_renames_the_label_of_its_events_and_changes_nothing_else(frames):
    def renamed(seen: Observation) -> Observation:
        models = tuple(replace(model_info, classes=frozenset({"wanderer"})) for model_info in seen.ensemble_info.models)
        answers = {
            model: tuple(replace(each, label="wanderer") for each in predictions or ())
            for model, predictions in seen.answers.items()
        }
        return replace(seen, ensemble_info=replace(seen.ensemble_info, models=models), answers=answers)

    other = policy(TWO_HALVES + '[target.rambler]\nclasses = ["wanderer"]\n', 'targets = ["rambler"]')
    before, after = events_of(policy(), frames), events_of(other, [renamed(seen) for seen in frames])
    assert [_facts(e) for e in before] == [_facts(e) for e in after]
    assert {e.label for e in before} <= {"person"}
    assert {e.label for e in after} <= {"rambler"}
