"""The models of one ensemble as voters under one policy. Worked out once, because most frames show nothing."""

from __future__ import annotations

from collections.abc import Mapping

from policies.fusion.judgement import NOTHING, Judgement
from policies.observation import EnsembleInfo, ModelInfo, Observation, Prediction
from policies.sensitivity import Verdict, Vote
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
            and not sector.rules.of(target).sensitivity.can_decide(info.model for info in self.models[target])
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
    """The score from which a detector's box of a target can matter, and which detectors are enough together.

    A box whose score is too low even to keep a track is no vote. What the models with such a score do not reach
    together, none of them reaches alone.
    """

    def __init__(self, policy: CameraPolicy, target: str, models: list[ModelInfo]) -> None:
        self._classes = policy.targets[target]
        places = (policy.rules, *(s.rules for s in policy.sectors if target in s.rules.targets))
        self._places = [rules.of(target) for rules in places]
        self._least = [
            (1 << place, info.model, min(rules.least(info.model) for rules in self._places) * KEEP_RATIO)
            for place, info in enumerate(models)
        ]
        self._enough: dict[int, bool] = {}

    def may_be_present(self, answers: Mapping[str, tuple[Prediction, ...] | None]) -> bool:
        """Whether these boxes, if all lay on one thing, may make it present or keep it, wherever it stands.

        For an observation for which `silence_means_absent` holds, or some of its boxes.
        """
        scored, classes = 0, self._classes
        for bit, model, least in self._least:
            for prediction in answers.get(model) or ():
                if prediction.score >= least and prediction.label in classes:
                    scored |= bit
                    break
        if scored not in self._enough:
            votes = {model: Vote.FOR if scored & bit else Vote.AGAINST for bit, model, _ in self._least}
            rulings = [rules.sensitivity.fuse(votes) for rules in self._places]
            self._enough[scored] = any(ruling.verdict is Verdict.PRESENT for ruling in rulings)
        return self._enough[scored]


def voters_of(policy: CameraPolicy, ensemble_info: EnsembleInfo) -> Voters:
    """The voters of an ensemble under a policy, made once."""
    voters: Voters | None = policy.memory.get("voters")
    if voters is None or voters.ensemble_info is not ensemble_info:  # one ensemble at a time judges
        voters = policy.memory["voters"] = Voters(policy, ensemble_info)
    return voters
