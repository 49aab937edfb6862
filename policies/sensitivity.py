"""The sensitivity policy: how the models' votes become one verdict.

`any` detects most, `all` least; `majority` and `at_least(k)` lie between; `weighted` trusts some models more, and is
the default.
A model that cannot see the target abstains and is never counted. A model that was asked and did not answer is
`missing`, and the policy says what that means: it abstains (the others decide), fails open (counts for) or
fails closed (counts against). Missing never silently means no.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from functools import cached_property
from typing import Annotated, Literal

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


class Sensitivity(msgspec.Struct, frozen=True, dict=True, forbid_unknown_fields=True):
    """How votes are fused. `k` belongs to `at_least`, `weights` and `threshold` to `weighted`."""

    rule: Literal["any", "all", "majority", "at_least", "weighted"] = "weighted"
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
        return sum(map(self.weight, models)) if self.rule == "weighted" else len(models)

    @property
    def title(self) -> str:
        """The rule, as its file would say it."""
        if self.rule == "at_least":
            return f"at_least {self.k}"
        return f"weighted {self.threshold:g}" if self.rule == "weighted" else self.rule

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
        """The rulings that were made: a handful, since models are few, and every frame of the past needs some."""
        return {}

    def _fused(self, votes: Mapping[str, Vote]) -> Ruling:
        resolved = {model: self._resolve(vote) for model, vote in votes.items()}
        electorate = {model: vote for model, vote in resolved.items() if vote in (Vote.FOR, Vote.AGAINST)}
        if not electorate:
            return Ruling(Verdict.UNDECIDED, None)
        size = {model: self.weight(model) if self.rule == "weighted" else 1.0 for model in electorate}
        support = sum((size[model] for model, vote in electorate.items() if vote is Vote.FOR), 0.0)
        needed = self.needed(len(electorate))
        margin = round(support - needed, 9)
        if margin >= 0:
            return Ruling(Verdict.PRESENT, margin)
        reachable = round(sum(size.values()) - needed, 9) >= 0
        return Ruling(Verdict.ABSENT if reachable else Verdict.UNDECIDED, margin)

    def _resolve(self, vote: Vote) -> Vote:
        if vote is not Vote.MISSING:
            return vote
        return {"abstain": Vote.ABSTAIN, "fail_open": Vote.FOR, "fail_closed": Vote.AGAINST}[self.missing]

    def needed(self, voters: int) -> float:
        """What the rule asks of so many voters, in the same measure."""
        needs: dict[str, float] = {
            "any": 1,
            "all": voters,
            "majority": voters // 2 + 1,
            "at_least": self.k,
            "weighted": self.threshold,
        }
        return needs[self.rule]
