"""A ballot that is looked up is the one that its own scores give."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from policies.fusion.ballots import KEEP_RATIO, Ballots
from policies.site.rules import Rules
from tests.policies.stories import CLASSIFIER, DETECTOR, SECOND, policy

_CALIBRATED = replace(SECOND, calibration=((0.0, 0.1), (0.3, 0.4), (0.6, 0.9)))
_MODELS = (DETECTOR, _CALIBRATED, CLASSIFIER)
_EDGES = [edge * ratio for edge in (0.3, 0.4, 0.5, 0.6, 0.8) for ratio in (1.0, KEEP_RATIO)]

scores = st.lists(st.one_of(st.none(), st.sampled_from([0.0, *_EDGES]), st.floats(0, 1)), min_size=3, max_size=3)
frames = st.lists(st.tuples(scores, st.sets(st.sampled_from([info.model for info in _MODELS]))), max_size=30)


def _rules(sensitivity: str) -> Rules:
    scores_of = '{"*" = 0.5, "eye.2" = 0.4}'
    return policy(extra=f"sensitivity = {{{sensitivity}}}\nmin_score = {scores_of}").rules.of("person")


@pytest.mark.parametrize(
    "sensitivity",
    [
        'rule = "any"',
        'rule = "all", missing = "fail_closed"',
        'rule = "weighted", threshold = 2.0, missing = "fail_open"',
        'rule = "agreement", alone = {"*" = 0.6}, sure = {"*" = 0.8}',
        'rule = "agreement", missing = "fail_closed", alone = {"*" = 0.3}, sure = {"eye" = 0.8}',
        'rule = "evidence", right = 0.8',
    ],
)
@given(frames=frames)
def test_scores_that_reach_the_same_levels_have_the_same_ballot(sensitivity, frames):
    rules = _rules(sensitivity)
    known = Ballots(rules, _MODELS)
    for given_scores, missing in frames:
        answers = {info.model: None if info.model in missing else () for info in _MODELS}
        assert known.of(answers, given_scores) == Ballots(rules, _MODELS).of(answers, given_scores)
