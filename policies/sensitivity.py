"""The sensitivity policy: how the models' votes become one verdict.

`agreement`, the default, asks for two models that see the target, or for one that suffices by its score. `any` detects
most, `all` least; `majority` and `at_least` lie between; `weighted` trusts some models more. `evidence` counts scores
instead of votes: each score is worth the log-odds that the model's calibration gives it, and their sum must reach those
of `right`. A model that cannot see the target abstains and is never counted. So does a model without a calibration
under `evidence`. A model that was asked and did not answer is `missing`, and `missing` in the policy decides what that
means: it abstains (the others decide), fails open (counts for) or fails closed (counts against). Missing never silently
means no.

To add a rule: its name in `RuleName`, its row in `RULES`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum
from functools import cached_property
from typing import Annotated, Literal, NamedTuple

import msgspec
from msgspec import UNSET, UnsetType

from policies.calibration import MOST_RIGHT, Part, log_odds, share_of
from policies.observation import ModelInfo

SHIPPED_RIGHT = 0.9
NEVER = 1.0
"""As a score in `alone` or `sure`: the model never suffices by itself."""
_AGREE = 2


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

    `margin` is support minus what the rule needs, in models (in weight under `weighted`, in log-odds under
    `evidence`; a sure model counts as two under `agreement`): 0 is just enough, -1 is one model short. None when nobody
    voted.
    """

    verdict: Verdict
    margin: float | None


RuleName = Literal["any", "all", "majority", "at_least", "weighted", "evidence", "agreement"]
ByModel = dict[str, Annotated[float, msgspec.Meta(ge=0, le=1)]]
Parts = Mapping[str, Part]
"""Model to what it says of a candidate. Only the rules that count scores need them, `evidence` and `agreement`."""

_NO_PARTS: Parts = {}


class Sensitivity(msgspec.Struct, frozen=True, dict=True, forbid_unknown_fields=True):
    """How votes are fused. `k` belongs to `at_least`, `threshold` to `weighted`, `right` to `evidence`, `weights`
    to these two. An unset `right` (then SHIPPED_RIGHT) is not encoded, so that digests of policies stay as they were.

    `alone` and `sure` belong to `agreement`, each a score by model: from `alone` on a model suffices where no other one
    votes against, as where none can see the target or none answered; from `sure` on whatever the others see.
    """

    rule: RuleName = "agreement"
    k: Annotated[int, msgspec.Meta(ge=1)] = 1
    weights: dict[str, Annotated[float, msgspec.Meta(ge=0, le=1e6)]] = {}
    threshold: Annotated[float, msgspec.Meta(gt=0, le=1e6)] = 1.0
    missing: Literal["abstain", "fail_open", "fail_closed"] = "abstain"
    right: Annotated[float, msgspec.Meta(gt=0.5, le=MOST_RIGHT)] | UnsetType = UNSET
    alone: ByModel | UnsetType = UNSET
    sure: ByModel | UnsetType = UNSET

    @property
    def by_evidence(self) -> bool:
        """Whether scores count, by their calibration, instead of votes."""
        return self.rule == "evidence"

    @property
    def by_agreement(self) -> bool:
        """Whether two models must agree, or one be sure."""
        return self.rule == "agreement"

    def opposes(self, model: str) -> bool:
        """Whether the silence of this model counts under `agreement`: not that of one that never suffices alone."""
        return _of(self.alone, model, NEVER) < NEVER

    def suffices_from(self, model: str, least: float, *, is_unopposed: bool) -> float:
        """The score from which this model suffices under `agreement`, `least` or more; NEVER: none does."""
        sure = _of(self.sure, model, NEVER)
        return max(least, min(sure, _of(self.alone, model, NEVER)) if is_unopposed else sure)

    def agreement_part(self, model: str, score: float, least: float, ratio: float = 1.0, *, is_unopposed: bool) -> Part:
        """What a score counts under `agreement`, in thousandths of a model: two models where it suffices, one from the
        score `least` on. `ratio` lowers both scores.
        """
        enough = self.suffices_from(model, least, is_unopposed=is_unopposed)
        suffices = enough < NEVER and score >= enough * ratio
        counts = 0 if score <= 0 or score < least * ratio else _AGREE if suffices else 1
        return Part(1000 * counts, 0, 1000 * (_AGREE if enough < NEVER else 1))

    @property
    def share(self) -> float:
        """How many of 1 sightings must be right, under `evidence`."""
        return SHIPPED_RIGHT if self.right is UNSET else self.right

    def weight(self, model: str) -> float:
        """A model's weight under `weighted` and `evidence`: its own, else that of `*`, else 1."""
        return self.weights.get(model, self.weights.get("*", 1.0))

    def can_decide(self, models: Iterable[ModelInfo]) -> bool:
        """Whether these models, all voting for, would be enough."""
        voters = [info for info in models if not self.by_evidence or info.calibrated is not None]
        return bool(voters) and round(self.reach(voters) - self.needed(len(voters)), 9) >= 0

    def reach(self, models: Iterable[ModelInfo]) -> float:
        """What these models give together when all vote for: their number (under `agreement`, two for one that can
        suffice), under `weighted` their weight, under `evidence` the log-odds of their best scores.
        """
        if self.by_agreement:
            return sum(self._most_to_agree(info.model) for info in models) / 1000
        if self.by_evidence:
            tables = {info.model: info.calibrated for info in models if info.calibrated is not None}
            return sum(self._weighed(model, table.part(1).most) for model, table in tables.items()) / 1000
        return sum((self._size(info.model) for info in models), 0)

    def needed(self, voters: int) -> float:
        """What the rule asks of so many voters, in the same measure."""
        return RULES[self.rule].needed(self, voters)

    def in_words(self, amount: float) -> str:
        """An amount of support for people: under `evidence`, the share of such sightings that are right."""
        return f"{share_of(1000 * amount) if self.by_evidence else amount:g}"

    @property
    def title(self) -> str:
        """The rule with its number, as `at_least 2`."""
        return RULES[self.rule].title.format(self)

    def fuse(self, votes: Mapping[str, Vote], parts: Parts = _NO_PARTS) -> Ruling:
        """The verdict of these votes; of the `parts` under `evidence`, of the models that have a calibration, and under
        `agreement`.

        Undecided when too few models voted to reach what the rule needs even if all of them had voted for:
        that is not the same as absent.
        """
        cast = (*votes.items(), *parts.items()) if parts else tuple(votes.items())
        ruling = self._rulings.get(cast)
        if ruling is None:
            ruling = self._rulings[cast] = self._fused(votes, parts)
        return ruling

    def keeps(self, ruling: Ruling) -> bool:
        """Whether a ruling by `evidence` is enough to continue a track: such sightings are rather right than wrong."""
        return ruling.margin is not None and round(1000 * ruling.margin) + log_odds(self.share) > 0

    def weighed(self, votes: Mapping[str, Vote], parts: Parts) -> dict[str, int]:
        """Each model's part of the sum under a rule over scores, in thousandths of log-odds by the policy's weight, or
        of a model. A model that did not answer has one only if `missing` says so: as if it had its best score and no
        other model voted against, or had seen nothing.
        """
        counted: dict[str, int] = {}
        for model, part in parts.items():
            if votes[model] is not Vote.MISSING:
                counted[model] = self._weighed(model, part.given)
            elif self.missing != "abstain":
                most = self._most_to_agree(model) if self.by_agreement else part.most
                counted[model] = self._weighed(model, most if self.missing == "fail_open" else part.unseen)
        return counted

    def _most_to_agree(self, model: str) -> int:
        """What a model counts at best where no other one votes against: two models if it can suffice at all."""
        return self.agreement_part(model, 1.0, 0.0, is_unopposed=True).most

    @cached_property
    def _rulings(self) -> dict[tuple[object, ...], Ruling]:
        """The rulings so far: a handful, because models are few, and every frame of a replay needs some."""
        return {}

    def _fused(self, votes: Mapping[str, Vote], parts: Parts) -> Ruling:
        if self.by_evidence or self.by_agreement:
            counted = self.weighed(votes, parts)
            most = sum(self._weighed(model, parts[model].most) for model in counted)
            least = round(1000 * self.needed(len(counted)))
            return _ruling(len(counted), (sum(counted.values()) - least) / 1000, (most - least) / 1000)
        missing = {"abstain": Vote.ABSTAIN, "fail_open": Vote.FOR, "fail_closed": Vote.AGAINST}[self.missing]
        resolved = {model: missing if vote is Vote.MISSING else vote for model, vote in votes.items()}
        size = {model: self._size(model) for model, vote in resolved.items() if vote in (Vote.FOR, Vote.AGAINST)}
        support = sum((size[model] for model in size if resolved[model] is Vote.FOR), 0.0)
        needed = self.needed(len(size))
        return _ruling(len(size), round(support - needed, 9), round(sum(size.values()) - needed, 9))

    def _size(self, model: str) -> float:
        return self.weight(model) if RULES[self.rule].is_weighted else 1.0

    def _weighed(self, model: str, thousandths: int) -> int:
        return round(self.weight(model) * thousandths)


def _of(given: ByModel | UnsetType, model: str, otherwise: float) -> float:
    """The number of a model: its own, else that of `*`."""
    return otherwise if given is UNSET else given.get(model, given.get("*", otherwise))


def _ruling(voters: int, margin: float, at_most: float) -> Ruling:
    """The ruling of so many voters, given the margin and the one that they would have if all voted for."""
    if not voters:
        return Ruling(Verdict.UNDECIDED, None)
    if margin >= 0:
        return Ruling(Verdict.PRESENT, margin)
    return Ruling(Verdict.ABSENT if at_most >= 0 else Verdict.UNDECIDED, margin)


class Rule(NamedTuple):
    """One way to fuse votes: what must vote for, given the settings and the number of voters that voted at all.

    `is_weighted` counts weights instead of models. `keys` are the settings that not every rule has, `title` names it in
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
    "evidence": Rule(lambda given, voters: log_odds(given.share) / 1000, "evidence {0.share:g}", ("weights", "right")),
    "agreement": Rule(lambda given, voters: _AGREE, "agreement", ("alone", "sure")),
}
