"""What holds for every history."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from policies.events import Event
from policies.fold import advance, decode_state, encode_state, fold, initial_state
from policies.judgement import judge
from policies.observation import Box, Observation, Sighting
from tests.policies.stories import DETECTOR, SECOND, TWO_HALVES, observation, person_at, policy, told

# Nobody stands on the very border of the two sectors: a point on it belongs to one of them, mirrored or not.
walkers = st.tuples(
    st.floats(0.02, 0.98).filter(lambda x: abs(x - 0.5) > 0.02),
    st.floats(-0.15, 0.15),
    st.floats(0.4, 0.95),
    st.floats(0, 10),
    st.floats(2, 20),
)


@st.composite
def histories(draw: st.DrawFn) -> list[Observation]:
    """Up to three people crossing at their own speeds, frames missing here and there, two detectors."""
    people = draw(st.lists(walkers, max_size=3))
    every_s = draw(st.sampled_from([0.2, 0.5, 1.0]))
    frames = []
    for i in range(draw(st.integers(1, 40))):
        at_s = i * every_s
        seen: dict[str, list[Sighting]] = {"eye": [], "eye.2": []}
        for x, speed, y, born_s, life_s in people:
            foot = x + speed * (at_s - born_s)
            if born_s <= at_s <= born_s + life_s and 0.04 < foot < 0.96:
                for model, answers in seen.items():
                    if draw(st.integers(0, 9)) < (8 if model == "eye" else 6):
                        answers.append(person_at(foot, y, score=draw(st.sampled_from([0.2, 0.45, 0.9]))))
        frames.append(observation(at_s, dict(seen), [DETECTOR, SECOND]))
    return frames


bounded = settings(max_examples=60)


@bounded
@given(histories(), st.data())
def test_a_state_saved_and_read_back_between_any_two_frames_changes_nothing(frames, data):
    whole = told(policy(), frames)
    state, events = initial_state(), []
    for seen in frames:
        if data.draw(st.booleans()):
            state = decode_state(encode_state(state))
        state, new = advance(policy(), state, seen)
        events += new
    assert tuple(events) == whole


@bounded
@given(histories(), st.integers(-(10**15), 10**15))
def test_shifting_all_times_shifts_all_events(frames, shift_us):
    moved = [replace(seen, at_us=seen.at_us + shift_us) for seen in frames]
    by = timedelta(microseconds=shift_us)
    assert [_facts(e, by) for e in told(policy(), frames)] == [_facts(e) for e in told(policy(), moved)]


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
        model: tuple(replace(s, box=flip(s.box)) for s in sightings or () if s.box)
        for model, sightings in seen.answers.items()
    }
    return replace(seen, answers=answers)


@bounded
@given(histories())
def test_mirrored_frames_mirror_sectors_and_directions(frames):
    def facts(event: Event, turn: dict[str, str]) -> tuple[object, ...]:
        place = (event.sector, event.from_sector, event.to_sector, event.direction)
        return (event.kind, *(turn.get(name or "", name) for name in place), event.at)

    straight = Counter(facts(e, OPPOSITE) for e in told(policy(), frames))
    mirrored = Counter(facts(e, {}) for e in told(policy(), [_mirrored(seen) for seen in frames]))
    assert straight == mirrored


@bounded
@given(histories())
def test_a_renamed_model_renames_its_votes_and_changes_nothing_else(frames):
    def rename(seen: Observation) -> Observation:
        seats = tuple(replace(seat, model=seat.model + ".v2") for seat in seen.panel.seats)
        answers = {model + ".v2": sightings for model, sightings in seen.answers.items()}
        return replace(seen, panel=replace(seen.panel, seats=seats), answers=answers)

    before, after = told(policy(), frames), told(policy(), [rename(seen) for seen in frames])
    assert [{f"{m}.v2": v for m, v in e.votes.items()} for e in before] == [e.votes for e in after]
    assert [e.id for e in before] == [e.id for e in after]


@bounded
@given(histories())
def test_every_presence_that_ended_had_started_and_every_left_had_entered(frames):
    open_presence: set[tuple[str, str | None]] = set()
    visits: Counter[tuple[str | None, str | None]] = Counter()
    for event in told(policy(), frames):
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
    events = told(policy(), frames)
    assert all(event.started_at <= event.confirmed_at for event in events)
    assert len({event.id for event in events}) == len(events)


@bounded
@given(histories())
def test_any_never_sees_less_presence_in_a_frame_than_all(frames):
    loose = policy(extra='sensitivity = {rule = "any"}')
    strict = policy(extra='sensitivity = {rule = "all"}')
    for seen in frames:
        present = [{(c.target, c.sectors) for c in judge(p, seen).candidates if c.present} for p in (strict, loose)]
        assert present[0] <= present[1]


def test_folding_in_one_go_or_frame_by_frame_is_the_same():
    frames = [observation(i * 0.5, {"eye": [person_at(0.1 + 0.02 * i)]}) for i in range(30)]
    state, events = fold(policy(), initial_state(), frames[:11])
    rest_state, rest = fold(policy(), state, frames[11:])
    assert (rest_state, events + rest) == fold(policy(), initial_state(), frames)


@bounded
@given(histories())
def test_a_renamed_label_renames_the_label_of_its_events_and_changes_nothing_else(frames):
    def renamed(seen: Observation) -> Observation:
        seats = tuple(replace(seat, classes=frozenset({"wanderer"})) for seat in seen.panel.seats)
        answers = {
            model: tuple(replace(one, label="wanderer") for one in sightings or ())
            for model, sightings in seen.answers.items()
        }
        return replace(seen, panel=replace(seen.panel, seats=seats), answers=answers)

    other = policy(TWO_HALVES + '[target.rambler]\nclasses = ["wanderer"]\n', 'targets = ["rambler"]')
    before, after = told(policy(), frames), told(other, [renamed(seen) for seen in frames])
    assert [_facts(e) for e in before] == [_facts(e) for e in after]
    assert {e.label for e in before} <= {"person"}
    assert {e.label for e in after} <= {"rambler"}


@bounded
@given(histories(), st.data())
def test_one_more_vote_in_a_frame_never_removes_what_was_present_in_it(frames, data):
    rule = data.draw(st.sampled_from(["any", "all", "majority", "weighted"]))
    rules = policy(extra=f'sensitivity = {{rule = "{rule}"}}')
    for seen in frames:
        first = seen.answers["eye"] or ()
        votes = [(), tuple(replace(one, score=0.95) for one in first)]
        said = [judge(rules, replace(seen, answers={"eye": first, "eye.2": vote})) for vote in votes]
        before, after = ({c.box for c in judged.candidates if c.present} for judged in said)
        assert before <= after
