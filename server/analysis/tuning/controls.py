"""The settings of a place that a person moves: what they are today, and today's policy with some of them changed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import msgspec

from policies.observation import ModelInfo
from policies.sensitivity import RULES, RuleName
from policies.site.layers import OF_TRACKS, OLD_NAMES
from policies.site.site_policy import SitePolicy, parse_site_policy
from server.analysis.policy_diff import applied, overruled
from server.analysis.tuning.candidates import TODAY, Candidate, Option, Place, rule_option


class PlaceSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The settings in force at a place. `scores` and `weights` are by model. `k`, `threshold`, `right` and `weights`
    count under the rules that have them; `min_hits` of `window_frames` frames must show a track.
    """

    rule: RuleName
    k: int
    threshold: float
    right: float
    weights: dict[str, float]
    scores: dict[str, float]
    min_hits: int
    window_frames: int
    confirm_s: float
    clear_s: float
    dwell_s: float


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """What of the settings is changed; None, and a model that is missing: as it is."""

    rule: RuleName | None = None
    k: int | None = None
    threshold: float | None = None
    right: float | None = None
    weights: dict[str, float] = {}
    scores: dict[str, float] = {}
    min_hits: int | None = None
    window_frames: int | None = None
    confirm_s: float | None = None
    clear_s: float | None = None
    dwell_s: float | None = None


class _Part(NamedTuple):
    """A table of the policy, and what is changed in it."""

    place: Place
    option: Option


_OF_RULE = ("k", "threshold", "right")
_LENGTHS = {
    "confirm_s": ("presence", "confirm_s"),
    "clear_s": ("presence", "clear_s"),
    "dwell_s": ("movement", "dwell_s"),
}


def settings_of(policy: SitePolicy, place: Place, models: Sequence[ModelInfo]) -> PlaceSettings:
    """What is in force at a place, for the models that vote there."""
    rules, tracks = place.rules(policy), place._replace(sector=None, target=None).rules(policy).movement
    given = rules.sensitivity
    return PlaceSettings(
        rule=given.rule,
        k=given.k,
        threshold=given.threshold,
        right=given.share,
        weights={info.model: given.weight(info.model) for info in models},
        scores={info.model: rules.least(info.model) for info in models},
        min_hits=tracks.min_hits,
        window_frames=tracks.window_frames,
        confirm_s=rules.presence.confirm_s,
        clear_s=rules.presence.clear_s,
        dwell_s=rules.movement.dwell_s,
    )


def with_rule(text: str, place: Place, rule: RuleName | None) -> SitePolicy:
    """Today's policy with another rule and nothing else: what the other controls show then.

    Raises InvalidPolicy, as `changed` does.
    """
    return changed(text, place, Change(rule=rule)).policy


def moved(now: PlaceSettings, wanted: PlaceSettings, shown: PlaceSettings | None = None) -> Change:
    """What differs between the settings in force under the wanted rule (`now`) and the wanted ones. A score or weight
    that still is what was `shown` was not moved: it follows the rule.
    """
    scalars = {
        name: value
        for name in ("k", "threshold", "right", "min_hits", "window_frames", "confirm_s", "clear_s", "dwell_s")
        if (value := getattr(wanted, name)) != getattr(now, name)
        and (name not in _OF_RULE or name in RULES[wanted.rule].keys)
    }
    return Change(
        **scalars,
        scores={}
        if wanted.rule == "evidence"
        else _moved(now.scores, wanted.scores, None if shown is None else shown.scores),
        weights=_moved(now.weights, wanted.weights, None if shown is None else shown.weights)
        if "weights" in RULES[wanted.rule].keys
        else {},
    )


def _moved(now: dict[str, float], wanted: dict[str, float], shown: dict[str, float] | None) -> dict[str, float]:
    return {
        model: value
        for model, value in wanted.items()
        if value != now.get(model) and (shown is None or value != shown.get(model))
    }


def changed(text: str, place: Place, change: Change) -> Candidate:
    """Today's `text` with a change at a place. What a sector or a target cannot have is changed at the nearest place
    that can: how tracks are confirmed at the camera, presence and dwelling for all targets.

    Raises InvalidPolicy for a policy that cannot be, and for one that sets the same elsewhere in a way that forbids it.
    """
    parts = list(_parts(place, change))
    changes = {(*part.place.path, *path): value for part in parts for path, value in part.option.changes.items()}
    words = ", ".join(part.option.words for part in parts) or TODAY
    after = applied(text, changes) if changes else text
    return Candidate(words, changes, after, parse_site_policy(after))


def overruled_by(text: str, place: Place, change: Change) -> list[str]:
    """The nearer places that set the same settings, so that the change has no effect there."""
    paths = [
        path
        for part in _parts(place, change)
        for path in overruled(text, {(*part.place.path, *key): None for key in part.option.changes}, part.place.path)
        if not (_is_of_tracks(part.option) and ".sectors." in path)
    ]
    return list(dict.fromkeys(paths))


def _is_of_tracks(option: Option) -> bool:
    """Whether no sector can have these settings."""
    return all(path[0] == "movement" and path[1] in OF_TRACKS for path in option.changes)


def _parts(place: Place, change: Change) -> Iterator[_Part]:
    yield from (_Part(place, option) for option in _of_sensitivity(change))
    for model, score in change.scores.items():
        yield _Part(place, Option(f"{model} from {score:g}", {("min_score", model): score}))
    tracks = place._replace(sector=None, target=None)
    if change.min_hits is not None or change.window_frames is not None:
        given = {"min_hits": change.min_hits, "window_frames": change.window_frames}
        hits, window = ("" if value is None else str(value) for value in given.values())
        words = f"{hits} of {window} frames" if hits and window else f"{hits} frames" if hits else f"of {window} frames"
        yield _Part(tracks, Option(words, _of_tracks(given)))
    for name, key in _LENGTHS.items():
        if (value := getattr(change, name)) is not None:
            yield _Part(place._replace(target=None), Option(f"{name.removesuffix('_s')} {value:g} s", {key: value}))


def _of_sensitivity(change: Change) -> Iterator[Option]:
    given = {name: value for name in _OF_RULE if (value := getattr(change, name)) is not None}
    title = " ".join(f"{value:g}" for value in given.values())
    if change.rule is not None:
        yield rule_option(f"{change.rule} {title}".strip(), change.rule, **given)
    elif given:
        named = ", ".join(f"{name} {value:g}" for name, value in given.items())
        yield Option(named, {("sensitivity", name): value for name, value in given.items()})
    for model, weight in change.weights.items():
        yield Option(f"{model} weighs {weight:g}", {("sensitivity", "weights", model): weight})


def _of_tracks(given: dict[str, int | None]) -> dict[tuple[str, ...], object]:
    """The settings under their names of today; a file that has them under the older ones loses these."""
    named = {("movement", name): value for name, value in given.items() if value is not None}
    return named | {("movement", OLD_NAMES[name]): None for (_, name) in named if name in OLD_NAMES}
