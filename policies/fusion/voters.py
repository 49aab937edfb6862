"""The models of one ensemble as voters under one policy. Worked out once, because most frames show nothing."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping

from policies.fusion.ballots import KEEP_RATIO, Ballots
from policies.fusion.grouping import Group
from policies.fusion.judgement import NOTHING, Judgement
from policies.observation import EnsembleInfo, ModelInfo, Observation, Prediction
from policies.sensitivity import Verdict, Vote
from policies.site.rules import Rules
from policies.site.sectors import Sector
from policies.site.site_policy import CameraPolicy
from policies.site.targets import can_vote


class Voters:
    """The models that vote on each target (`models`), the (target, sector) pairs left open (`undecided`), and by target
    which boxes can matter (`thresholds`).
    """

    def __init__(self, policy: CameraPolicy, ensemble_info: EnsembleInfo) -> None:
        self.ensemble_info = ensemble_info
        self.models = {
            target: [info for info in ensemble_info.models if can_vote(info, target, classes)]
            for target, classes in policy.targets.items()
        }
        self.undecided = tuple(
            (target, sector.name)
            for target in policy.targets
            for sector in policy.sectors
            if target in sector.rules.targets
            and not sector.rules.of(target).sensitivity.can_decide(self.models[target])
        )
        self.nothing = Judgement((), self.undecided) if self.undecided else NOTHING
        self.thresholds = {target: VoteThresholds(policy, target, models) for target, models in self.models.items()}
        self._ballots: dict[tuple[str, str | None], Ballots] = {}
        voters = {info.model: info for models in self.models.values() for info in models}
        self._detectors = tuple(voters) if all(info.boxes for info in voters.values()) else None

    def ballots(self, policy: CameraPolicy, target: str, sector: Sector | None) -> Ballots:
        """The ballots on a target by the rules of a sector; None: by those of the camera, where no sector is."""
        place = (target, None if sector is None else sector.name)
        ballots = self._ballots.get(place)
        if ballots is None:
            rules = (policy.rules if sector is None else sector.rules).of(target)
            ballots = self._ballots[place] = Ballots(rules, self.models[target])
        return ballots

    def saw_something(self, seen: Observation) -> bool | None:
        """Whether a voter has a box; None unless all voters are detectors and all answered."""
        if self._detectors is None:
            return None
        answers, has_boxes = seen.answers, False
        for model in self._detectors:  # a plain loop: it runs for every frame of every replay
            answer = answers.get(model)
            if answer is None:
                return None
            if answer:
                has_boxes = True
        return has_boxes


class VoteThresholds:
    """The scores from which a detector's box of a target can matter, and which detectors are enough together.

    A box whose score is too low even to keep a track is no vote. What the models with such a score do not reach
    together, none of them reaches alone. Under `evidence`, a model has several such scores: those of its calibration.
    """

    def __init__(self, policy: CameraPolicy, target: str, models: list[ModelInfo]) -> None:
        self._classes = policy.targets[target]
        places = (policy.rules, *(s.rules for s in policy.sectors if target in s.rules.targets))
        self._places = [rules.of(target) for rules in places]
        self._models = models
        self._levels: dict[str, tuple[int, list[float]]] = {}
        unit = 1  # of a number whose digits say how many levels each model reaches
        for info in models:
            levels = self._levels_of(info)
            self._levels[info.model] = (unit, levels)
            unit *= len(levels) + 1
        self._enough: dict[int, bool] = {}

    def may_be_present(self, answers: Mapping[str, tuple[Prediction, ...] | None]) -> bool:
        """Whether these boxes, if all lay on one thing, may make it present or keep it, wherever it stands.

        For an observation of which `saw_something` is True, where no pair is undecided.
        """
        reached, classes = 0, self._classes
        for model, (unit, levels) in self._levels.items():
            best = -1.0
            for prediction in answers.get(model) or ():
                if prediction.score > best and prediction.label in classes:
                    best = prediction.score
            reached += unit * bisect_right(levels, best)
        return self._is_known_enough(reached)

    def may_be_one(self, group: Group) -> bool:
        """The same of boxes that do lie on one thing."""
        reached = 0
        for model, prediction in group.items():
            unit, levels = self._levels[model]
            reached += unit * bisect_right(levels, prediction.score)
        return self._is_known_enough(reached)

    def _is_known_enough(self, reached: int) -> bool:
        enough = self._enough.get(reached)
        if enough is None:
            enough = self._enough[reached] = any(self._is_enough(rules, reached) for rules in self._places)
        return enough

    def _levels_of(self, info: ModelInfo) -> list[float]:
        """The scores of a model at which some place counts it in another way, in order."""
        levels = {rules.least(info.model) * KEEP_RATIO for rules in self._places if not rules.sensitivity.by_evidence}
        levels |= {
            rules.sensitivity.suffices_from(info.model, rules.least(info.model), is_unopposed=True) * KEEP_RATIO
            for rules in self._places
            if rules.sensitivity.by_agreement
        }
        if info.calibrated is not None and any(rules.sensitivity.by_evidence for rules in self._places):
            levels |= set(info.calibrated.levels)
        return sorted(levels)

    def _is_enough(self, rules: Rules, reached: int) -> bool:
        """Whether scores that reach these levels and not the next may be present or kept by the rules of a place."""
        sensitivity = rules.sensitivity
        scores: dict[ModelInfo, float | None] = {}
        for info in self._models:
            unit, levels = self._levels[info.model]
            level = reached // unit % (len(levels) + 1)
            scores[info] = levels[level - 1] if level else None
        if sensitivity.by_evidence:
            parts = {
                info.model: info.calibrated.part(score or 0.0) for info, score in scores.items() if info.calibrated
            }
            return sensitivity.keeps(sensitivity.fuse(dict.fromkeys(parts, Vote.FOR), parts))
        if sensitivity.by_agreement:
            parts = {  # each as if no other model voted against
                info.model: sensitivity.agreement_part(
                    info.model, _lowest(score), rules.least(info.model), KEEP_RATIO, is_unopposed=True
                )
                for info, score in scores.items()
            }
            return sensitivity.fuse(dict.fromkeys(parts, Vote.FOR), parts).verdict is Verdict.PRESENT
        votes = {
            info.model: Vote.AGAINST if score is None or score < rules.least(info.model) * KEEP_RATIO else Vote.FOR
            for info, score in scores.items()
        }
        return sensitivity.fuse(votes).verdict is Verdict.PRESENT


def _lowest(score: float | None) -> float:
    """A score that reaches the level `score`, which may be 0, as no box has; 0 where it reaches none."""
    return 0.0 if score is None else max(score, 1e-9)


def voters_of(policy: CameraPolicy, ensemble_info: EnsembleInfo) -> Voters:
    """The voters of an ensemble under a policy, made once."""
    voters: Voters | None = policy.memory.get("voters")
    if voters is None or voters.ensemble_info is not ensemble_info:  # one ensemble at a time judges
        voters = policy.memory["voters"] = Voters(policy, ensemble_info)
    return voters
