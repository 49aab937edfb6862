"""The models of one ensemble as voters under one policy: what is worth working out once, for most frames show
nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from policies.observation import EnsembleInfo, ModelInfo, Observation, Prediction
from policies.sensitivity import Verdict, Vote
from policies.site.site_policy import CameraPolicy

KEEP_RATIO = 0.43

Answers = Mapping[str, tuple[Prediction, ...] | None]


class Bench:
    """Who votes on which target (`models`), and the (target, sector) pairs that they cannot decide (`undecided`)."""

    def __init__(self, policy: CameraPolicy, ensemble_info: EnsembleInfo) -> None:
        self.ensemble_info = ensemble_info
        self.models = {
            target: [
                model_info
                for model_info in ensemble_info.models
                if model_info.votes and not classes.isdisjoint(model_info.classes)
            ]
            for target, classes in policy.targets.items()
        }
        self.undecided = tuple(
            (target, sector.name)
            for target in policy.targets
            for sector in policy.sectors
            if target in sector.rules.targets
            and not sector.rules.of(target).sensitivity.can_decide(
                model_info.model for model_info in self.models[target]
            )
        )
        self._ears = {target: _Ear(policy, target, models) for target, models in self.models.items()}
        voters = {model_info.model: model_info for models in self.models.values() for model_info in models}
        self._detectors = tuple(voters) if all(model_info.boxes for model_info in voters.values()) else None

    def saw_nothing(self, seen: Observation) -> bool:
        """Whether all voters are detectors, all answered, and none has a box."""
        if self._detectors is None:
            return False
        answers = seen.answers
        for model in self._detectors:  # noqa: SIM110 - a plain loop: it runs for every frame of every replay
            if answers.get(model) != ():
                return False
        return True

    def says_no_by_silence(self, seen: Observation) -> bool:
        """Whether all voters are detectors, all answered, and can decide: then nothing is where they have no box."""
        if self._detectors is None or self.undecided:
            return False
        answers = seen.answers
        for model in self._detectors:  # noqa: SIM110 - as above
            if answers.get(model) is None:
                return False
        return True

    @property
    def can_say_no(self) -> bool:
        """Whether `says_no_by_silence` holds of every observation for which all voters answered."""
        return self._detectors is not None and not self.undecided

    def thresholds(self) -> Iterator[tuple[str, frozenset[str], float]]:
        """The models, classes and scores by which `hears` decides: from that score on a box of a class is heard."""
        return (threshold for ear in self._ears.values() for threshold in ear.thresholds())

    def hears(self, target: str, answers: Answers) -> bool:
        """Whether these boxes, were they all of one thing, might make it present or keep it, wherever it stands.

        Of an observation for which `says_no_by_silence` holds.
        """
        return self._ears[target].hears(answers)

    def hears_thing(self, target: str, boxes: Mapping[str, Prediction]) -> bool:
        """The same of boxes that do lie on one thing, at most one of each model."""
        return self._ears[target].hears_thing(boxes)


class _Ear:
    """What detectors must say at least of a target to be heard.

    A box is no vote where its score is too low even to keep a track, and what the models with such a score would not
    reach together, they do not reach one by one.
    """

    def __init__(self, policy: CameraPolicy, target: str, models: list[ModelInfo]) -> None:
        self._classes = policy.targets[target]
        places = (policy.rules, *(s.rules for s in policy.sectors if target in s.rules.targets))
        self._places = [rules.of(target) for rules in places]
        self._least = [
            (1 << place, model_info.model, min(rules.least(model_info.model) for rules in self._places) * KEEP_RATIO)
            for place, model_info in enumerate(models)
        ]
        self._enough: dict[int, bool] = {}

    def thresholds(self) -> Iterator[tuple[str, frozenset[str], float]]:
        return ((model, self._classes, least) for _, model, least in self._least)

    def hears(self, answers: Answers) -> bool:
        loud, classes = 0, self._classes
        for bit, model, least in self._least:
            for one in answers.get(model) or ():
                if one.score >= least and one.label in classes:
                    loud |= bit
                    break
        enough = self._enough.get(loud)
        return self._is_enough(loud) if enough is None else enough

    def hears_thing(self, boxes: Mapping[str, Prediction]) -> bool:
        loud = 0
        for bit, model, least in self._least:
            one = boxes.get(model)
            if one is not None and one.score >= least:
                loud |= bit
        enough = self._enough.get(loud)
        return self._is_enough(loud) if enough is None else enough

    def _is_enough(self, loud: int) -> bool:
        votes = {model: Vote.FOR if loud & bit else Vote.AGAINST for bit, model, _ in self._least}
        rulings = [rules.sensitivity.fuse(votes) for rules in self._places]
        enough = self._enough[loud] = any(ruling.verdict is Verdict.PRESENT for ruling in rulings)
        return enough


def bench_of(policy: CameraPolicy, ensemble_info: EnsembleInfo) -> Bench:
    """The bench of an ensemble under a policy, made once."""
    bench: Bench | None = policy.memory.get(id(ensemble_info))
    if bench is None or bench.ensemble_info is not ensemble_info:
        bench = Bench(policy, ensemble_info)
        policy.memory.clear()  # one ensemble is judged at a time; its description is held, so its id stays unique
        policy.memory[id(ensemble_info)] = bench
    return bench
