"""A class of a user's own model is a target by itself, where no group knows it."""

from __future__ import annotations

import pytest

from policies.fusion.judge import judge
from policies.fusion.model_check import misfits
from policies.observation import EnsembleInfo, ModelInfo, Observation, Prediction
from policies.sensitivity import Verdict
from policies.site.site_policy import InvalidPolicy, parse_site_policy
from policies.site.targets import SHIPPED, named_targets

BAY = ModelInfo("car-in-bay", frozenset({"absent", "present"}), boxes=False)
ENSEMBLE = EnsembleInfo("e" * 64, (BAY,))


@pytest.mark.parametrize("name", ["present", "ash", "red oak", "tractor"])
def test_a_class_that_no_group_knows_is_a_target_by_itself(name: str) -> None:
    policy = parse_site_policy(f'site = "yard"\ntargets = ["person", "{name}"]\n')
    assert policy.other.targets == {"person": SHIPPED["person"], name: frozenset({name})}


def test_it_may_be_named_anywhere_and_ruled_by_target() -> None:
    policy = parse_site_policy(
        'site = "yard"\n[cameras.gate]\ntargets = ["present"]\n[cameras.gate.by_target.present.min_score]\n"*" = 0.5\n'
        '[cameras.lane.sectors.left]\npolygon = [[0, 0], [1, 0], [1, 1]]\ntargets = ["ash"]\n'
    )
    assert policy.cameras["gate"].targets == {"present": frozenset({"present"})}
    assert policy.cameras["lane"].targets["ash"] == frozenset({"ash"})


def test_a_model_that_decides_by_argmax_votes_for_its_best_class_alone() -> None:
    policy = parse_site_policy('site = "yard"\ntargets = ["present"]\n').other

    def verdict(label: str, score: float) -> Verdict:
        answers: dict[str, tuple[Prediction, ...] | None] = {"car-in-bay": (Prediction(label, score),)}
        judged = judge(policy, Observation("yard", "gate", "b" * 36, 0, 0, ENSEMBLE, answers, "f" * 64))
        return Verdict.PRESENT if any(candidate.present for candidate in judged.candidates) else Verdict.ABSENT

    assert verdict("present", 0.6) is Verdict.PRESENT
    assert verdict("absent", 0.6) is Verdict.ABSENT


def test_a_class_that_no_model_knows_is_said_to_be_never_decided() -> None:
    policy = parse_site_policy('site = "yard"\ntargets = ["tractor"]\n')
    [misfit] = misfits(policy, ENSEMBLE)
    assert "`tractor` is never decided: no model that votes can see it" in misfit


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("persn", "unknown target `persn`; did you mean `person`?"),
        ("vehicles", "unknown target `vehicles`; did you mean `vehicle`?"),
        ("dog", "unknown target `dog`"),
        (" ", "unknown target"),
    ],
)
def test_a_target_with_a_mistake_and_a_class_of_a_group_are_refused(name: str, message: str) -> None:
    with pytest.raises(InvalidPolicy, match=message):
        parse_site_policy(f'site = "yard"\ntargets = ["{name}"]\n')


def test_a_nuisance_names_known_targets_only() -> None:
    raw = {"targets": "person", "suppress": [{"targets": ["ash"]}], "schedule": [{"targets": ["elm", 3]}]}
    assert named_targets(raw) == ["elm"]


def test_lists_in_lists_are_refused_and_do_not_end_the_reading() -> None:
    with pytest.raises(InvalidPolicy, match="targets"):
        parse_site_policy('site = "yard"\ntargets = ' + "[" * 300 + "]" * 300)
