"""The settings in force at one place, a sector or the whole of a camera, with their defaults."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import UNSET, UnsetType
from msgspec.structs import replace

from policies.sensitivity import NEVER, RULES, Sensitivity

Seconds = Annotated[float, msgspec.Meta(ge=0, le=31_622_400)]
"""A year at most, so that an instant plus such a time is an instant, and no stored policy holds infinity."""
Fraction = Annotated[float, msgspec.Meta(ge=0, le=1)]
Speed = Annotated[float, msgspec.Meta(gt=0, le=1000)]

SHIPPED_MIN_SCORE = {"*": 0.4, "frame-change": 0.65, "hog-people": 0.9, "hog-people-small": 0.9}
"""The scores of the HOG detectors are squashed margins, that of `frame-change` a squashed contrast; neither is a
probability.
"""

_NETWORKS = ("yolov3-tiny", "yolov3-tiny-608", "nanodet-g")

SHIPPED_MIN_SCORE_TO_AGREE = SHIPPED_MIN_SCORE | dict.fromkeys(_NETWORKS, 0.2) | {"ssdlite-people": 0.5}
"""Under `agreement`, where a second model has to see the thing too. Chosen on the evaluation kit's clip of people."""

_HOGS_NEVER = {"hog-people": NEVER, "hog-people-small": NEVER}
SHIPPED_ALONE = {"*": 0.4} | dict.fromkeys(_NETWORKS, 0.4) | {"ssdlite-people": 0.5} | _HOGS_NEVER
"""Also of `sure`, but for the targets in SHIPPED_SURE_OF."""

SHIPPED_SURE_OF = {"person": dict.fromkeys((*_NETWORKS, "ssdlite-people"), NEVER)}
"""By target: these take other things for people, each other things. Vehicles they only miss."""

SHIPPED_WEIGHTS = {"*": 1.0, "hog-people": 0.5, "hog-people-small": 0.5}
"""By default one HOG detector alone is not enough; two together are, and so is any other model alone.
Under `evidence` both together count for one, since they err together.
"""


SHIPPED_MAX_SPEED = {"*": 3.0, "animal": 8.0, "bicycle": 6.0, "moving": 10.0, "vehicle": 10.0}
"""In heights of the thing's own box: a car is lower and quicker than a person."""


class Presence(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Hysteresis of presence: how long a target must be there, and how long gone, before it counts.

    blind_s: a sector that was not seen for longer than this is neither occupied nor clear, but unobserved.
    """

    confirm_s: Seconds = 1.0
    clear_s: Seconds = 2.0
    blind_s: Seconds = 30.0


class Movement(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """When a track's visit to a sector counts, and how long a track lives unseen.

    min_hits, window_frames: a track is confirmed once `min_hits` of its latest `window_frames` frames showed it. Their
    encoded names, `sights` and `of`, are part of the digests of stored policies. dwell_s: a shorter visit is a
    graze, not an entry. outside_s: a shorter step outside is still one visit. hidden_s: how long a track that is
    not seen is remembered (one that stood still: four times as long). join_s: longest time between two sectors that
    still makes `moved`. linger_s: a visit this long gives `lingered` (0: never). border: feet that are nearer than
    so many body heights to a border are on it, and the track stays where it was. stopped_s: how long something that
    moved and stopped in view stays present, of the target `moving`. max_speed: body heights per second
    beyond which two sights cannot be one thing, for every target or by target (`*`: all others).
    """

    min_hits: Annotated[int, msgspec.Meta(ge=1, le=64)] = msgspec.field(default=2, name="sights")
    window_frames: Annotated[int, msgspec.Meta(ge=1, le=64)] = msgspec.field(default=64, name="of")
    dwell_s: Seconds = 1.0
    outside_s: Seconds = 0.8
    hidden_s: Seconds = 3.0
    join_s: Seconds = 3.0
    linger_s: Seconds = 0.0
    stopped_s: Seconds = 60.0
    border: Annotated[float, msgspec.Meta(ge=0, le=10)] = 0.1
    max_speed: Speed | dict[str, Speed] = {}

    def fastest(self, target: str) -> float:
        """The highest plausible speed of a target: its own, else that of `*`."""
        if isinstance(self.max_speed, dict):
            return self.max_speed.get(target, self.max_speed["*"])
        return self.max_speed


class OfTarget(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What differs for one target. What is not given here is as for all targets."""

    sensitivity: Sensitivity | None = None
    min_score: dict[str, Fraction] = {}


class Rules(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The settings in force at one place: a sector, or the whole of a camera."""

    targets: tuple[str, ...] = ("person",)
    sensitivity: Sensitivity = Sensitivity()
    min_score: dict[str, Fraction] = {}
    presence: Presence = Presence()
    movement: Movement = Movement()
    by_target: dict[str, OfTarget] = {}

    def of(self, target: str) -> Rules:
        """The rules by which one target is judged. Of complete rules."""
        mine = self.by_target.get(target)
        if mine is None:
            return self
        return replace(self, sensitivity=mine.sensitivity or self.sensitivity, min_score=mine.min_score)

    def least(self, model: str) -> float:
        """The score from which a model's label is a vote for: its own, else that of `*`."""
        return self.min_score.get(model, self.min_score["*"])

    def complete(self) -> Rules:
        """These rules with the shipped numbers written in, so that a stored policy keeps its meaning for good."""
        sensitivity, scores = _with_shipped(self.sensitivity, self.min_score)
        speeds = self.movement.max_speed
        if isinstance(speeds, dict) and "*" not in speeds:
            speeds = SHIPPED_MAX_SPEED | speeds
        # Also of targets that are not of this place: by these rules a camera judges what stands in none of its sectors.
        own = dict.fromkeys(SHIPPED_SURE_OF, OfTarget()) if sensitivity.by_agreement else {}
        return replace(
            self,
            min_score=scores,
            sensitivity=sensitivity,
            movement=replace(self.movement, max_speed=speeds),
            by_target={name: self._of_target(name, mine) for name, mine in (own | self.by_target).items()},
        )

    def _of_target(self, name: str, mine: OfTarget) -> OfTarget:
        return OfTarget(*_with_shipped(mine.sensitivity or self.sensitivity, self.min_score | mine.min_score, name))


def _with_shipped(
    given: Sensitivity, scores: dict[str, float], target: str = "*"
) -> tuple[Sensitivity, dict[str, float]]:
    """A sensitivity and its minimum scores with the shipped numbers; `*` in what is given leaves none of them."""
    shipped = SHIPPED_MIN_SCORE_TO_AGREE if given.by_agreement else SHIPPED_MIN_SCORE
    least = scores if "*" in scores else shipped | scores
    if given.by_evidence:
        given = replace(given, right=given.share)
    if given.by_agreement:
        given = _with_shipped_scores(given, scores, SHIPPED_ALONE | SHIPPED_SURE_OF.get(target, {}))
    if "weights" in RULES[given.rule].keys and "*" not in given.weights:
        given = replace(given, weights=SHIPPED_WEIGHTS | given.weights)
    return given, least


def _with_shipped_scores(given: Sensitivity, scores: dict[str, float], sure: dict[str, float]) -> Sensitivity:
    """A sensitivity by agreement with the shipped numbers."""
    return replace(
        given,
        alone=_over(_lowered(SHIPPED_ALONE, scores), given.alone),
        sure=_over(_lowered(sure, scores), given.sure),
    )


def _lowered(shipped: dict[str, float], scores: dict[str, float]) -> dict[str, float]:
    """The shipped scores from which models suffice, as low as the policy's `min_score` for models that have none of
    their own. A higher `min_score` needs no place here, since no lower score suffices.
    """
    own = {model: score for model, score in scores.items() if model == "*" or model not in shipped}
    return shipped | {model: score for model, score in own.items() if score < shipped["*"]}


def _over(shipped: dict[str, float], own: dict[str, float] | UnsetType) -> dict[str, float]:
    if own is UNSET:
        return shipped
    return own if "*" in own else shipped | own
