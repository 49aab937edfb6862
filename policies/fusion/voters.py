"""The models of one ensemble as voters under one policy. Worked out once, because most frames show nothing."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from policies.fusion.judgement import NOTHING, Judgement
from policies.observation import EnsembleInfo, ModelInfo, Observation, Prediction
from policies.sensitivity import Verdict, Vote
from policies.site.rules import Rules
from policies.site.site_policy import CameraPolicy
from policies.site.targets import MOVING

KEEP_RATIO = 0.43


class Voters:
    """The models that vote on each target (`models`), the (target, sector) pairs left open (`undecided`), and by target
    which boxes can matter (`thresholds`).
    """

    def __init__(self, policy: CameraPolicy, ensemble_info: EnsembleInfo) -> None:
        self.ensemble_info = ensemble_info
        self.models = {
            target: [
                info
                for info in ensemble_info.models
                if info.votes != (target == MOVING) and not classes.isdisjoint(info.classes)
            ]
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
        voters = {info.model: info for models in self.models.values() for info in models}
        self._detectors = tuple(voters) if all(info.boxes for info in voters.values()) else None

    def saw_nothing(self, seen: Observation) -> bool:
        """Whether all voters are detectors, all answered, and none has a box."""
        if self._detectors is None:
            return False
        answers = seen.answers
        for model in self._detectors:  # noqa: SIM110 - a plain loop: it runs for every frame of every replay
            if answers.get(model) != ():
                return False
        return True

    def silence_means_absent(self, seen: Observation) -> bool:
        """Whether all voters are detectors, all answered, and can decide: where they have no box, nothing is."""
        if self._detectors is None or self.undecided:
            return False
        return None not in map(seen.answers.get, self._detectors)


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
        self._levels = [(info.model, (*self._levels_of(info), math.inf)) for info in models]
        self._enough: dict[tuple[int, ...], bool] = {}

    def may_be_present(self, answers: Mapping[str, tuple[Prediction, ...] | None]) -> bool:
        """Whether these boxes, if all lay on one thing, may make it present or keep it, wherever it stands.

        For an observation for which `silence_means_absent` holds, or some of its boxes.
        """
        reached, classes = [], self._classes
        for model, levels in self._levels:
            level = 0
            for prediction in answers.get(model) or ():
                while prediction.score >= levels[level] and prediction.label in classes:
                    level += 1
            reached.append(level)
        key = tuple(reached)
        if key not in self._enough:
            self._enough[key] = any(self._is_enough(rules, key) for rules in self._places)
        return self._enough[key]

    def _levels_of(self, info: ModelInfo) -> list[float]:
        """The scores of a model at which some place counts it in another way, in order."""
        levels = {rules.least(info.model) * KEEP_RATIO for rules in self._places if not rules.sensitivity.by_evidence}
        if info.calibrated is not None and any(rules.sensitivity.by_evidence for rules in self._places):
            levels |= set(info.calibrated.levels)
        return sorted(levels)

    def _is_enough(self, rules: Rules, reached: Sequence[int]) -> bool:
        """Whether scores that reach these levels and not the next may be present or kept by the rules of a place."""
        sensitivity = rules.sensitivity
        scores = {
            info: levels[level - 1] if level else None
            for info, level, (_, levels) in zip(self._models, reached, self._levels, strict=True)
        }
        if sensitivity.by_evidence:
            parts = {
                info.model: info.calibrated.part(score or 0.0) for info, score in scores.items() if info.calibrated
            }
            return sensitivity.keeps(sensitivity.fuse(dict.fromkeys(parts, Vote.FOR), parts))
        votes = {
            info.model: Vote.AGAINST if score is None or score < rules.least(info.model) * KEEP_RATIO else Vote.FOR
            for info, score in scores.items()
        }
        return sensitivity.fuse(votes).verdict is Verdict.PRESENT


def voters_of(policy: CameraPolicy, ensemble_info: EnsembleInfo) -> Voters:
    """The voters of an ensemble under a policy, made once."""
    voters: Voters | None = policy.memory.get("voters")
    if voters is None or voters.ensemble_info is not ensemble_info:  # one ensemble at a time judges
        voters = policy.memory["voters"] = Voters(policy, ensemble_info)
    return voters
