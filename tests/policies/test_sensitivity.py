"""The sensitivity rules, and what a model that did not answer means."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.calibration import Calibration, Part
from policies.observation import ModelInfo
from policies.sensitivity import Sensitivity, Verdict, Vote
from tests.policies.test_calibration import calibrations

F, A, ABSTAIN, MISSING = Vote.FOR, Vote.AGAINST, Vote.ABSTAIN, Vote.MISSING


def verdict(rule: Sensitivity, *votes: Vote) -> tuple[str, float | None]:
    ruling = rule.fuse({f"m{i}": vote for i, vote in enumerate(votes)})
    return ruling.verdict, ruling.margin


@pytest.mark.parametrize(
    ("rule", "votes", "expected"),
    [
        (Sensitivity("any"), (F, A, A), ("present", 0)),
        (Sensitivity("any"), (A, A, A), ("absent", -1)),
        (Sensitivity("all"), (F, F, A), ("absent", -1)),
        (Sensitivity("all"), (F, F, F), ("present", 0)),
        (Sensitivity("majority"), (F, F, A), ("present", 0)),
        (Sensitivity("majority"), (F, A), ("absent", -1)),
        (Sensitivity("at_least", k=2), (F, F, F), ("present", 1)),
        (Sensitivity("at_least", k=2), (F, A, A), ("absent", -1)),
        (Sensitivity("weighted", weights={"m0": 0.7, "*": 0.4}), (A, F, F), ("absent", -0.2)),
        (Sensitivity("weighted", weights={"m0": 0.7, "*": 0.4}), (F, F, A), ("present", 0.1)),
    ],
)
def test_each_rule_decides_as_its_name_says(rule, votes, expected):
    assert verdict(rule, *votes) == expected


@pytest.mark.parametrize("rule", ["any", "all", "majority", "at_least", "weighted"])
def test_a_margin_is_a_float_also_where_no_model_votes_for(rule):
    assert isinstance(Sensitivity(rule).fuse({"m0": A, "m1": A}).margin, float)


def test_a_model_that_cannot_see_the_target_is_not_counted():
    assert verdict(Sensitivity("all"), F, ABSTAIN) == ("present", 0)


def test_nobody_voting_is_undecided_and_not_absent():
    assert verdict(Sensitivity("any"), ABSTAIN, ABSTAIN) == ("undecided", None)


def test_too_few_voters_to_reach_the_quorum_is_undecided_and_not_absent():
    assert verdict(Sensitivity("at_least", k=2), F, MISSING) == ("undecided", -1)


@pytest.mark.parametrize(
    ("missing", "expected"), [("abstain", "present"), ("fail_open", "present"), ("fail_closed", "absent")]
)
def test_a_model_that_did_not_answer_counts_as_the_policy_says(missing, expected):
    assert verdict(Sensitivity("all", missing=missing), F, MISSING)[0] == expected


def test_failing_open_alone_is_enough_for_any():
    assert verdict(Sensitivity("any", missing="fail_open"), A, MISSING)[0] == "present"


votes = st.lists(st.sampled_from(list(Vote)), min_size=1, max_size=6)
missing = st.sampled_from(["abstain", "fail_open", "fail_closed"])
rules = st.one_of(
    st.builds(
        Sensitivity,
        st.sampled_from(["any", "all", "majority"]),
        missing=missing,
    ),
    st.builds(Sensitivity, st.just("at_least"), st.integers(1, 6)),
    st.builds(
        Sensitivity,
        st.just("weighted"),
        weights=st.dictionaries(st.sampled_from(["m0", "m1", "*"]), st.floats(0, 3)),
        threshold=st.floats(0.1, 5),
    ),
)


@given(rules, votes)
def test_one_more_vote_for_never_removes_presence_whatever_that_model_had_said(rule, given_votes):
    before = rule.fuse({f"m{i}": v for i, v in enumerate(given_votes)})
    for i, vote in enumerate(given_votes):
        if vote is not F:
            more = rule.fuse({f"m{j}": F if i == j else v for j, v in enumerate(given_votes)})
            assert before.verdict is not Verdict.PRESENT or more.verdict is Verdict.PRESENT


@given(votes, st.integers(1, 6))
def test_any_detects_at_least_what_at_least_k_does_and_that_at_least_what_all_does(given_votes, k):
    named = {f"m{i}": v for i, v in enumerate(given_votes)}
    voters = sum(v in (F, A) for v in given_votes)
    strict_to_loose = [Sensitivity("all"), Sensitivity("any")]
    if k <= voters:
        strict_to_loose.insert(1, Sensitivity("at_least", k=k))
    present = [rule.fuse(named).verdict is Verdict.PRESENT for rule in strict_to_loose]
    assert all(loose or not strict for strict, loose in itertools.pairwise(present))


TABLE = Calibration(((0.0, 0.25), (0.3, 0.75), (0.6, 0.95)))
UNSEEN, HALF_SEEN, SEEN = (TABLE.part(score) for score in (0.0, 0.4, 0.7))


def by_evidence(rule: Sensitivity, *parts: Part, vote: Vote = F) -> tuple[str, float | None]:
    named = {f"m{i}": part for i, part in enumerate(parts)}
    ruling = rule.fuse(dict.fromkeys(named, vote), named)
    return ruling.verdict, ruling.margin


@pytest.mark.parametrize(
    ("rule", "parts", "expected"),
    [
        (Sensitivity("evidence"), (SEEN,), ("present", 0.747)),
        (Sensitivity("evidence"), (HALF_SEEN,), ("absent", -1.098)),
        (Sensitivity("evidence"), (HALF_SEEN, HALF_SEEN), ("present", 0.001)),
        (Sensitivity("evidence"), (SEEN, UNSEEN), ("absent", -0.352)),
        (Sensitivity("evidence", right=0.8), (SEEN, UNSEEN), ("present", 0.459)),
        (Sensitivity("evidence", weights={"m1": 0.25}), (SEEN, UNSEEN), ("present", 0.472)),
        (Sensitivity("evidence", right=0.99), (SEEN,), ("undecided", -1.651)),
        (Sensitivity("evidence", right=0.99), (HALF_SEEN, UNSEEN), ("absent", -4.595)),
    ],
)
def test_log_odds_of_models_add_up_to_those_of_the_share_that_must_be_right(rule, parts, expected):
    assert by_evidence(rule, *parts) == expected


@pytest.mark.parametrize(
    ("missing", "expected"),
    [("abstain", ("present", 0.747)), ("fail_open", ("present", 3.691)), ("fail_closed", ("absent", -0.352))],
)
def test_under_evidence_a_model_that_did_not_answer_counts_as_the_policy_says(missing, expected):
    rule = Sensitivity("evidence", missing=missing)
    ruling = rule.fuse({"m0": F, "m1": MISSING}, {"m0": SEEN, "m1": UNSEEN})
    assert (ruling.verdict, ruling.margin) == expected


def test_under_evidence_nobody_voting_is_undecided_and_not_absent():
    assert by_evidence(Sensitivity("evidence")) == ("undecided", None)
    assert by_evidence(Sensitivity("evidence"), SEEN, vote=MISSING) == ("undecided", None)
    assert not Sensitivity("evidence").keeps(Sensitivity("evidence").fuse({}))


def test_under_evidence_what_only_a_model_without_weight_sees_keeps_no_track():
    rule = Sensitivity("evidence", weights={"*": 0.0, "m1": 1.0})
    assert not rule.keeps(rule.fuse({"m0": F, "m1": MISSING}, {"m0": SEEN, "m1": UNSEEN}))


def test_a_model_without_a_calibration_can_decide_nothing_by_evidence():
    bare = ModelInfo("bare", frozenset({"person"}), boxes=True)
    sure = ModelInfo("sure", frozenset({"person"}), boxes=True, calibration=((0.0, 0.5), (0.4, 0.97)))
    rule = Sensitivity("evidence")
    assert [rule.can_decide(models) for models in ([bare], [sure], [bare, sure])] == [False, True, True]
    assert rule.in_words(rule.reach([bare, sure])) == "0.97"


@given(
    st.lists(st.tuples(calibrations(), st.floats(0, 1), st.sampled_from([F, MISSING])), min_size=1, max_size=5),
    st.floats(0.51, 0.99),
    missing,
    st.dictionaries(st.sampled_from(["m0", "m1", "*"]), st.floats(0, 3)),
    st.data(),
)
def test_under_evidence_order_does_not_count_and_a_higher_score_never_removes_presence(
    seen, right, missing, weights, data
):
    rule = Sensitivity("evidence", right=right, missing=missing, weights=weights)
    names = [f"m{i}" for i in range(len(seen))]
    votes = {name: vote for name, (_, _, vote) in zip(names, seen, strict=True)}
    tables = {name: Calibration(rows) for name, (rows, _, _) in zip(names, seen, strict=True)}
    parts = {name: tables[name].part(score) for name, (_, score, _) in zip(names, seen, strict=True)}
    ruling = rule.fuse(votes, parts)
    turned = data.draw(st.permutations(names))
    assert rule.fuse({n: votes[n] for n in turned}, {n: parts[n] for n in turned}) == ruling
    name = data.draw(st.sampled_from(names))
    score = data.draw(st.floats(seen[names.index(name)][1], 1))
    more = rule.fuse(votes, parts | {name: tables[name].part(score)})
    assert ruling.verdict is not Verdict.PRESENT or (more.verdict is Verdict.PRESENT and rule.keeps(more))
    assert not rule.keeps(ruling) or rule.keeps(more)
