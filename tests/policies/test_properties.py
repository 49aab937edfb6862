"""What holds for every history."""

from __future__ import annotations

import itertools
from collections import Counter
from datetime import timedelta

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from policies.events import Event
from policies.fold import REMEMBERED, advance, decode_state, encode_state, initial_state, remembered
from policies.fusion.judge import judge, relevant_judgement
from policies.observation import Box, ModelInfo, Observation, Prediction
from policies.occupancy import Occupancy, timeline
from policies.site.site_policy import CameraPolicy
from tests.policies.stories import (
    CLASSIFIER,
    DETECTOR,
    SECOND,
    TWO_HALVES,
    events_of,
    fold,
    observation,
    person_at,
    policy,
)

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
        seen: dict[str, list[Prediction]] = {"eye": [], "eye.2": []}
        for x, speed, y, born_s, life_s in people:
            foot = x + speed * (at_s - born_s)
            if born_s <= at_s <= born_s + life_s and 0.04 < foot < 0.96:
                for model, answers in seen.items():
                    if draw(st.integers(0, 9)) < (8 if model == "eye" else 6):
                        answers.append(person_at(foot, y, score=draw(st.sampled_from([0.2, 0.45, 0.9]))))
        frames.append(observation(at_s, dict(seen), [DETECTOR, SECOND]))
    return frames


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


bounded = settings(max_examples=80)


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


@st.composite
def sensitivities(draw: st.DrawFn, missing: str | None = None) -> str:
    """A sensitivity as a site policy has it: every rule, over as many models as `crowds` has, and beyond."""
    rule = draw(st.sampled_from(["any", "majority", "all", "at_least", "weighted", "evidence", "agreement"]))
    settings = {"rule": f'"{rule}"', "missing": f'"{missing or draw(missings)}"'}
    if rule == "at_least":
        settings["k"] = str(draw(st.integers(1, 4)))
    if rule in ("weighted", "evidence"):
        weights = [draw(st.sampled_from([0, 0.3, 0.5, 1])) for _ in range(3)]
        settings["weights"] = '{{eye = {}, "eye.2" = {}, namer = {}}}'.format(*weights)
    if rule == "evidence":
        settings["right"] = str(draw(st.sampled_from([0.51, 0.8, 0.9, 0.99])))
    if rule == "weighted":
        settings["threshold"] = str(draw(st.sampled_from([0.4, 1, 1.5])))
    if rule == "agreement":
        settings |= {name: _by_model(draw(enough)) for name in ("alone", "sure") if draw(st.booleans())}
    own = draw(st.sampled_from(["", "*", "eye", "eye.2", "namer"]))
    score = f'min_score = {{"{own}" = {draw(st.sampled_from([0, 0.1, 0.45, 1]))}}}' if own else ""
    return f"{score}\nsensitivity = {{{', '.join(f'{name} = {value}' for name, value in settings.items())}}}"


enough = st.dictionaries(st.sampled_from(["*", "eye", "eye.2", "namer"]), st.sampled_from([0, 0.1, 0.3, 0.5, 1]))


def _by_model(scores: dict[str, float]) -> str:
    inside = (f'"{model}" = {score}' for model, score in scores.items())
    return f"{{{', '.join(inside)}}}"


missings = st.sampled_from(["abstain", "fail_open", "fail_closed"])


SURE = ((0.0, 0.2), (0.1, 0.6), (0.45, 0.95))
tables = st.sampled_from([(), SURE, ((0.0, 0.5), (0.2, 0.7), (0.9, 0.999)), ((0.0, 0.01), (0.05, 0.4), (0.4, 0.9))])


@st.composite
def crowds(draw: st.DrawFn) -> list[Observation]:
    """People who stand about, seen by two detectors and perhaps a classifier that may each fail to answer."""
    models = [DETECTOR, SECOND, *draw(st.sampled_from([[], [CLASSIFIER]]))]
    models = [replace(info, calibration=draw(tables)) for info in models]
    people = draw(st.lists(st.sampled_from([0.12, 0.13, 0.3, 0.6, 0.62, 0.9]), max_size=3, unique=True))
    scores = st.sampled_from([0.0, 0.1, 0.2, 0.45, 0.9])
    frames = []
    for i in range(draw(st.integers(1, 12))):
        answers: dict[str, list[Prediction] | None] = {}
        for model_info in models:
            boxed = [person_at(x, score=draw(scores)) for x in people if draw(st.booleans())]
            named = [
                Prediction("person", draw(scores), sector=name) for name in ("west", "east") if draw(st.booleans())
            ]
            answers[model_info.model] = draw(st.sampled_from([boxed if model_info.boxes else named, None, []]))
        frames.append(observation(i * 0.5, dict(answers), models))
    return frames


@bounded
@given(crowds(), sensitivities())
def test_the_relevant_judgement_of_a_frame_lacks_nothing_that_is_present_kept_or_undecided(frames, sensitivity):
    rules = policy(extra=sensitivity)
    for seen in frames:
        whole, short = judge(rules, seen), relevant_judgement(rules, seen)
        assert [c for c in short.candidates if c.present or c.kept] == [
            c for c in whole.candidates if c.present or c.kept
        ]
        assert all(candidate in whole.candidates for candidate in short.candidates)
        assert short.undecided == whole.undecided


@bounded
@given(st.one_of(histories(), crowds()), sensitivities())
def test_a_fold_by_what_is_relevant_has_the_states_and_events_of_one_by_all_that_is_judged(frames, sensitivity):
    rules = policy(extra=sensitivity)
    short, whole = initial_state(), initial_state()
    for seen in frames:
        short, told = advance(rules, short, seen)
        whole, told_by_all = advance(rules, whole, seen, judge)
        assert (encode_state(short), told) == (encode_state(whole), told_by_all)


@bounded
@given(
    histories(),
    st.sampled_from(
        ["any", "all", "majority", "weighted", "evidence", "agreement", *map("at_least {}".format, (1, 2, 3))]
    ),
)
def test_one_more_vote_in_a_frame_never_removes_what_was_present_in_it(frames, rule):
    name, _, k = rule.partition(" ")
    rules = policy(extra=f'sensitivity = {{rule = "{name}"{k and f", k = {k}"}}}')
    for seen in map(_calibrated, frames):
        first = seen.answers["eye"] or ()
        votes = [(), tuple(replace(each, score=0.95) for each in first)]
        judgements = [judge(rules, replace(seen, answers={"eye": first, "eye.2": vote})) for vote in votes]
        before, after = ({c.box for c in judged.candidates if c.present} for judged in judgements)
        assert before <= after


def _calibrated(seen: Observation) -> Observation:
    models = tuple(replace(info, calibration=SURE) for info in seen.ensemble_info.models)
    return replace(seen, ensemble_info=replace(seen.ensemble_info, models=models))


@bounded
@given(crowds(), sensitivities("abstain"), st.data())
def test_a_higher_score_in_a_frame_never_removes_what_was_present_or_kept_in_it(frames, sensitivity, data):
    rules = policy(extra=sensitivity)
    for seen in frames:
        model = data.draw(st.sampled_from([name for name, answer in seen.answers.items() if answer] or ["eye"]))
        answer = seen.answers[model] or ()
        raised = tuple(replace(each, score=data.draw(st.floats(each.score, 1))) for each in answer)
        better = replace(seen, answers=seen.answers | {model: raised if answer else seen.answers[model]})
        before, after = judge(rules, seen), judge(rules, better)
        for holds in (lambda c: c.present, lambda c: c.present or c.kept):
            places = [{(c.box, c.sectors) for c in judged.candidates if holds(c)} for judged in (before, after)]
            boxed = {sector for c in after.candidates if holds(c) and c.box for sector in c.sectors}
            assert {(box, where) for box, where in places[0] - places[1] if box or not boxed & {*where}} == set()


# Somebody who stands in the middle of one half, in every frame or not, and what three models answer for each.
NAMERS = [replace(CLASSIFIER, model=name, calibration=SURE) for name in ("one", "two", "three")]
EYES = [replace(DETECTOR, model=name, calibration=SURE) for name in ("one", "two", "three")]
watched = st.lists(st.lists(st.booleans(), min_size=3, max_size=3), min_size=1, max_size=24)
quorums = st.tuples(st.integers(1, 4), st.integers(1, 6)).map(lambda two: (min(two), max(two)))
paces = st.sampled_from([0.25, 0.5, 1.0, 3.0])


def _stood(marks: list[list[bool]], models: list[ModelInfo], every_s: float) -> list[Observation]:
    """Frames in which each model sees, or does not see, somebody in the west."""

    def answer(model_info: ModelInfo, sees: bool) -> list[Prediction]:
        if model_info.boxes:
            return [person_at(0.25)] if sees else []
        return [Prediction("person" if sees else "road", 0.9, sector="west")]

    return [
        observation(i * every_s, {s.model: answer(s, sees) for s, sees in zip(models, row, strict=True)}, models)
        for i, row in enumerate(marks)
    ]


def _present(rules: CameraPolicy, frames: list[Observation]) -> list[int]:
    """Places of the frames at whose instant somebody was in the west, by all events in the end."""
    spans = timeline(rules, initial_state(), [(rules, seen) for seen in frames], frames[-1].at_us + 1)
    held = [s for s in spans if s.sector == "west" and s.occupancy is Occupancy.OCCUPIED]
    return [i for i, seen in enumerate(frames) if any(s.from_us <= seen.at_us < s.until_us for s in held)]


def _ruled(rule: str, quorum: tuple[int, int]) -> CameraPolicy:
    frames = f"movement = {{sights = {quorum[0]}, of = {quorum[1]}}}"
    return policy(extra=f"sensitivity = {{{rule}}}\n{frames}\npresence = {{blind_s = 1000}}")


@bounded
@given(watched, st.sampled_from([NAMERS, EYES]), quorums, paces, st.data())
def test_one_more_vote_in_one_more_frame_never_removes_presence_at_any_instant(marks, models, quorum, every_s, data):
    rule = data.draw(
        st.sampled_from(
            [
                *(f'"{name}"' for name in ("any", "majority", "all", "weighted", "evidence", "agreement")),
                *(f'"at_least", k = {k}' for k in (1, 2, 3)),
            ]
        )
    )
    rules = _ruled(f"rule = {rule}", quorum)
    frame, model = data.draw(st.integers(0, len(marks) - 1)), data.draw(st.integers(0, 2))
    more = [[sees or (i, j) == (frame, model) for j, sees in enumerate(row)] for i, row in enumerate(marks)]
    before, after = (_present(rules, _stood(rows, models, every_s)) for rows in (marks, more))
    assert set(before) <= set(after)


@bounded
@given(watched, st.sampled_from([NAMERS, EYES]), quorums, paces)
def test_any_finds_presence_wherever_at_least_k_does_and_that_wherever_all_does(marks, models, quorum, every_s):
    frames = _stood(marks, models, every_s)
    strict_to_loose = ['"all"', *(f'"at_least", k = {k}' for k in (3, 2, 1)), '"any"']
    present = [set(_present(_ruled(f"rule = {rule}", quorum), frames)) for rule in strict_to_loose]
    assert all(strict <= loose for strict, loose in itertools.pairwise(present))


@bounded
@given(watched, quorums, paces)
def test_a_stricter_quorum_of_frames_never_finds_presence_where_a_looser_one_does_not(marks, quorum, every_s):
    frames = _stood(marks, NAMERS, every_s)
    k, n = quorum
    loose, strict = (set(_present(_ruled('rule = "majority"', (sights, n)), frames)) for sights in (k, n))
    assert strict <= loose
