"""The sensitivity policy: how the models' votes become one verdict.

`any` detects most, `all` least; `majority` and `at_least` lie between; `weighted`, the default, trusts some models
more. A model that cannot see the target abstains and is never counted. A model that was asked and did not answer is
`missing`, and `missing` in the policy decides what that means: it abstains (the others decide), fails open (counts
for) or fails closed (counts against). Missing never silently means no.

To add a rule: its name in `RuleName`, its row in `RULES`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import StrEnum
from functools import cached_property
from typing import Annotated, Literal, NamedTuple

import msgspec


class Vote(StrEnum):
    FOR = "for"
    AGAINST = "against"
    ABSTAIN = "abstain"
    MISSING = "missing"


class Verdict(StrEnum):
    PRESENT = "present"
    ABSENT = "absent"
    UNDECIDED = "undecided"


class Ruling(msgspec.Struct, frozen=True):
    """A verdict and how far the rule was from deciding otherwise.

    `margin` is support minus what the rule needs, in models (or in weight under `weighted`): 0 is just enough,
    -1 is one model short. None when nobody voted.
    """

    verdict: Verdict
    margin: float | None


RuleName = Literal["any", "all", "majority", "at_least", "weighted"]


class Sensitivity(msgspec.Struct, frozen=True, dict=True, forbid_unknown_fields=True):
    """How votes are fused. `k` belongs to `at_least`, `weights` and `threshold` to `weighted`."""

    rule: RuleName = "weighted"
    k: Annotated[int, msgspec.Meta(ge=1)] = 1
    weights: dict[str, Annotated[float, msgspec.Meta(ge=0, le=1e6)]] = {}
    threshold: Annotated[float, msgspec.Meta(gt=0, le=1e6)] = 1.0
    missing: Literal["abstain", "fail_open", "fail_closed"] = "abstain"

    def weight(self, model: str) -> float:
        """A model's weight under `weighted`: its own, else that of `*`, else 1."""
        return self.weights.get(model, self.weights.get("*", 1.0))

    def can_decide(self, models: Iterable[str]) -> bool:
        """Whether these models, all voting for, would be enough."""
        voters = list(models)
        return bool(voters) and round(self.reach(voters) - self.needed(len(voters)), 9) >= 0

    def reach(self, models: Sequence[str]) -> float:
        """What these models give together when all vote for: their number or, under `weighted`, their weight."""
        return sum(map(self.weight, models)) if RULES[self.rule].is_weighted else len(models)

    @property
    def title(self) -> str:
        """The rule with its number, as `at_least 2`."""
        return RULES[self.rule].title.format(self)

    def fuse(self, votes: Mapping[str, Vote]) -> Ruling:
        """The verdict of these votes.

        Undecided when too few models voted to reach what the rule needs even if all of them had voted for:
        that is not the same as absent.
        """
        cast = tuple(votes.items())
        ruling = self._rulings.get(cast)
        if ruling is None:
            ruling = self._rulings[cast] = self._fused(votes)
        return ruling

    @cached_property
    def _rulings(self) -> dict[tuple[tuple[str, Vote], ...], Ruling]:
        """The rulings so far: a handful, because models are few, and every frame of a replay needs some."""
        return {}

    def _fused(self, votes: Mapping[str, Vote]) -> Ruling:
        missing = {"abstain": Vote.ABSTAIN, "fail_open": Vote.FOR, "fail_closed": Vote.AGAINST}[self.missing]
        resolved = {model: missing if vote is Vote.MISSING else vote for model, vote in votes.items()}
        electorate = {model: vote for model, vote in resolved.items() if vote in (Vote.FOR, Vote.AGAINST)}
        if not electorate:
            return Ruling(Verdict.UNDECIDED, None)
        is_weighted = RULES[self.rule].is_weighted
        size = {model: self.weight(model) if is_weighted else 1.0 for model in electorate}
        support = sum((size[model] for model, vote in electorate.items() if vote is Vote.FOR), 0.0)
        needed = self.needed(len(electorate))
        margin = round(support - needed, 9)
        if margin >= 0:
            return Ruling(Verdict.PRESENT, margin)
        reachable = round(sum(size.values()) - needed, 9) >= 0
        return Ruling(Verdict.ABSENT if reachable else Verdict.UNDECIDED, margin)

    def needed(self, voters: int) -> float:
        """What the rule asks of so many voters, in the same measure."""
        return RULES[self.rule].needed(self, voters)


class Rule(NamedTuple):
    """One way to fuse votes: what must vote for, given the settings and the number of voters that voted at all.

    `is_weighted` counts weights instead of models. `keys` are the settings that only this rule has, `title` names it in
    explanations.
    """

    needed: Callable[[Sensitivity, int], float]
    title: str
    keys: tuple[str, ...] = ()
    is_weighted: bool = False


RULES: dict[RuleName, Rule] = {
    "any": Rule(lambda given, voters: 1, "any"),
    "all": Rule(lambda given, voters: voters, "all"),
    "majority": Rule(lambda given, voters: voters // 2 + 1, "majority"),
    "at_least": Rule(lambda given, voters: given.k, "at_least {0.k}", ("k",)),
    "weighted": Rule(
        lambda given, voters: given.threshold, "weighted {0.threshold:g}", ("weights", "threshold"), is_weighted=True
    ),
}
