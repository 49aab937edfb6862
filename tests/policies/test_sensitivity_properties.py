"""Properties of the sensitivity rules that hold for any votes and scores."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from policies.fold import advance, encode_state, initial_state
from policies.fusion.judge import judge, relevant_judgement
from policies.observation import ModelInfo, Observation, Prediction
from policies.occupancy import Occupancy, timeline
from policies.site.site_policy import CameraPolicy
from tests.policies.drawn_histories import bounded, histories
from tests.policies.stories import (
    CLASSIFIER,
    DETECTOR,
    SECOND,
    observation,
    person_at,
    policy,
)


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
