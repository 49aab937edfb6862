"""Checks a site policy against the models in service: what they cannot decide, and unknown model names."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import UNSET

from policies.fusion.voters import Voters
from policies.observation import EnsembleInfo
from policies.site.rules import SHIPPED_MIN_SCORE_TO_AGREE, SHIPPED_WEIGHTS, Rules
from policies.site.site_policy import CameraPolicy, SitePolicy
from policies.site.toml_errors import suggest

_CHANGE = "frame-change"
_IDLE = "`enlarge` has no effect: no detector that votes knows what the sector asks for"


def misfits(policy: SitePolicy, ensemble_info: EnsembleInfo) -> tuple[str, ...]:
    """What these models cannot do of a site policy, each once, with all its places."""
    places: dict[str, list[str]] = {}
    for place, camera in _in_all_schedules(policy):
        for what in dict.fromkeys(_unknown_models(camera, ensemble_info)):
            places.setdefault(what, []).append(place)
        for target, sector, what in (*_undecided(camera, ensemble_info), *_uncalibrated(camera, ensemble_info)):
            places.setdefault(f"`{target}` {what}", []).append(f"{place}/{sector}")
    for name, camera in policy.cameras.items():
        idle = [s.name for s in camera.sectors if s.enlarge and not camera.is_asked(ensemble_info, s.name)]
        if idle:
            places.setdefault(_IDLE, []).extend(f"{name}/{sector}" for sector in idle)
    return tuple(f"{', '.join(where)}: {what}" for what, where in places.items())


def _in_all_schedules(policy: SitePolicy) -> Iterator[tuple[str, CameraPolicy]]:
    for name, camera in policy.cameras.items() or [("every camera", policy.other)]:
        yield name, camera
        yield from ((f"{name} ({entry.name})", entry.policy) for entry in camera.scheduled)


def _undecided(camera: CameraPolicy, ensemble_info: EnsembleInfo) -> Iterator[tuple[str, str, str]]:
    voters = Voters(camera, ensemble_info)
    rules = {sector.name: sector.rules for sector in camera.sectors}
    for target, sector in voters.undecided:
        models = voters.models[target]
        given = rules[sector].of(target).sensitivity
        names = ", ".join(info.model for info in models)
        what = f"rule {given.title}, and {names} can give {given.in_words(given.reach(models))} at most"
        yield target, sector, f"is never decided: {what if models else 'no model that votes can see it'}"


def _uncalibrated(camera: CameraPolicy, ensemble_info: EnsembleInfo) -> Iterator[tuple[str, str, str]]:
    """Models that abstain under `evidence`, because nobody knows what their scores are worth."""
    voters = Voters(camera, ensemble_info)
    for target, models in voters.models.items():
        names = [info.model for info in models if info.calibrated is None]
        what = f"is decided without {', '.join(names)}: rule evidence, and no `calibration` on the card"
        for sector in camera.sectors if names else ():
            if target in sector.rules.targets and sector.rules.of(target).sensitivity.by_evidence:
                yield target, sector.name, what


def _unknown_models(camera: CameraPolicy, ensemble_info: EnsembleInfo) -> Iterator[str]:
    known = {info.model: info for info in ensemble_info.models if info.votes or camera.has_moving}
    places = (camera.rules, *(sector.rules for sector in camera.sectors))
    for rules in [rules for place in places for rules in (place, *map(place.of, place.by_target))]:
        given = rules.sensitivity
        tables = (
            sorted(rules.min_score),
            given.weights,
            *(scores for scores in (given.alone, given.sure) if scores is not UNSET),
        )
        for name in (name for table in tables for name in table):
            if name not in known and name not in _shipped_names(rules):
                yield f"no model that votes is called `{name}`{suggest(name, known)}"


def _shipped_names(rules: Rules) -> set[str]:
    """The names in tables that no owner of a site wrote. `frame-change` votes on one target only, so it is one of them
    just while it has its shipped score.
    """
    names = {"*", *SHIPPED_MIN_SCORE_TO_AGREE, *SHIPPED_WEIGHTS}
    shipped = SHIPPED_MIN_SCORE_TO_AGREE[_CHANGE]
    return names if rules.min_score.get(_CHANGE) == shipped else names - {_CHANGE}
