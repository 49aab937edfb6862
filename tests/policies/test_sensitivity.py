"""The sensitivity rules, and what a model that did not answer means."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.sensitivity import Sensitivity, Verdict, Vote

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
