"""Without annotations, how models agree tells how far each can be trusted, and when it cannot tell."""

from __future__ import annotations

import random
from collections import Counter
from itertools import product

import pytest

from policies.fusion.judge import judge
from policies.observation import Prediction
from policies.sensitivity import Sensitivity, Verdict, Vote
from server.analysis.agreement import Estimate, Pattern, Reliability, estimated, patterns_of
from tests.policies.stories import CLASSIFIER, DETECTOR, SECOND, observation, person_at, policy

MODELS = ("a", "b", "c")
GUESSING: list[Pattern] = [(True, True, True), (True, True, False), (False, False, True), (False, False, False)]
"""The third model votes one way as often as the other, whatever the other two say."""


def votes(hits: list[float], false: list[float], share: float, count: int, seed: int = 7) -> Counter[Pattern]:
    """Votes of models that err independently, with these rates."""
    chance = random.Random(seed)
    found: Counter[Pattern] = Counter()
    for _ in range(count):
        rates = hits if chance.random() < share else false
        found[tuple(chance.random() < rate for rate in rates)] += 1
    return found


def test_the_rates_of_independent_models_are_found_from_their_votes_alone() -> None:
    hits, false = [0.95, 0.8, 0.6], [0.02, 0.1, 0.2]
    found = estimated(votes(hits, false, 0.4, 20_000), MODELS)
    assert [m.hits for m in found.models] == pytest.approx(hits, abs=0.03)
    assert [m.false for m in found.models] == pytest.approx(false, abs=0.03)
    assert found.share == pytest.approx(0.4, abs=0.03)
    assert found.together == ()
    assert found.trust.startswith("Somewhat")


def test_the_better_model_weighs_more_and_one_that_guesses_nothing() -> None:
    seen = votes([0.95, 0.8, 0.7, 0.5], [0.02, 0.1, 0.2, 0.5], 0.5, 20_000)
    best, fair, poor, guessing = (m.weight for m in estimated(seen, (*MODELS, "d")).models)
    assert best > fair > poor > 1 > guessing
    assert guessing == pytest.approx(0, abs=0.3)


def test_two_models_and_one_that_knows_nothing_are_but_two() -> None:
    assert estimated(dict.fromkeys(GUESSING, 50), MODELS).trust.startswith("Not at all")


def test_a_candidate_is_likely_when_models_that_err_little_saw_it() -> None:
    found = estimated(votes([0.95, 0.8, 0.6], [0.02, 0.1, 0.2], 0.4, 5_000), MODELS)
    assert found.likely((True, True, True)) > 0.95 > 0.5 > found.likely((False, False, True))
    assert found.likely((None, None, None)) == pytest.approx(found.share)


def test_weights_and_threshold_are_the_rule_for_which_what_is_likelier_than_not_is_present() -> None:
    found = estimated(votes([0.95, 0.8, 0.6], [0.02, 0.1, 0.2], 0.4, 20_000), MODELS)
    rule = Sensitivity(
        "weighted", weights={one.model: one.weight for one in found.models}, threshold=found.threshold or 0
    )
    for pattern in product((True, False), repeat=3):
        cast = {model: Vote.FOR if vote else Vote.AGAINST for model, vote in zip(MODELS, pattern, strict=True)}
        assert (rule.fuse(cast).verdict is Verdict.PRESENT) == (found.likely(pattern) >= 0.5)


def test_no_rule_is_named_where_every_candidate_or_none_would_be_present() -> None:
    good = Reliability("a", 0.9, 0.1)
    assert [Estimate((good,) * 3, share, 500, ()).threshold is None for share in (0.001, 0.4, 0.999)] == [
        True,
        False,
        True,
    ]
    assert Estimate((Reliability("a", 0.5, 0.5),) * 3, 0.5, 500, ()).threshold is None


def test_models_that_err_together_are_named_and_the_estimate_is_little_trusted() -> None:
    alike: Counter[Pattern] = Counter()
    for pattern, count in votes([0.9, 0.5, 0.9, 0.9], [0.1, 0.5, 0.1, 0.1], 0.5, 20_000).items():
        alike[pattern[0], pattern[1], pattern[1], pattern[2], pattern[3]] += count
    found = estimated(alike, ("a", "twin 1", "twin 2", "b", "c"))
    assert ("twin 1", "twin 2") in found.together
    assert (
        found.trust
        == "Little: twin 1 and twin 2 agree more than independent models would, so they look better than they are."
    )


def test_two_models_cannot_tell_who_errs() -> None:
    assert estimated({(True, False): 10, (True, True): 30}, ("a", "b")).trust.startswith("Not at all")


def test_few_candidates_are_little_trusted_and_none_at_all_break_nothing() -> None:
    assert estimated(votes([0.9] * 3, [0.1] * 3, 0.5, 100), MODELS).trust == "Little: 100 candidates are few."
    assert estimated({}, MODELS).candidates == 0


def test_votes_are_counted_from_judgements_and_who_said_nothing_is_left_out() -> None:
    there = person_at(0.2)
    frames = [
        observation(0, {"eye": [there], "eye.2": [there]}, [DETECTOR, SECOND, CLASSIFIER]),
        observation(1, {"eye": [there], "eye.2": None}, [DETECTOR, SECOND, CLASSIFIER]),
        observation(2, {"eye": [Prediction("person", 0.1, there.box)]}, [DETECTOR, SECOND, CLASSIFIER]),
    ]
    found = patterns_of((judge(policy(), frame) for frame in frames), ("eye", "eye.2"))
    assert found == {(True, True): 1, (True, None): 1, (False, False): 1}
