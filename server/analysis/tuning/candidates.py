"""Policies to try: today's policy with another rule, other scores or another confirmation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from typing import NamedTuple

from msgspec.structs import replace

from policies.sensitivity import Sensitivity
from policies.site.layers import NEW_NAMES, OF_TRACKS
from policies.site.rules import Rules
from policies.site.site_policy import SitePolicy, parse_site_policy
from server.analysis.policy_diff import Changes, applied

TODAY = "as now"

_SHIFTS = (-0.2, -0.1, 0.0, 0.1, 0.2)
_RIGHT = (0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99)
_QUORUMS = ((2, 3), (2, 4), (3, 4), (3, 6))
_LENGTHS_S = {
    ("movement", "dwell_s"): (0.0, 0.5, 1.0, 2.0, 4.0),
    ("presence", "confirm_s"): (0.0, 1.0, 2.0, 4.0),
    ("presence", "clear_s"): (1.0, 2.0, 4.0, 8.0),
}


class Option(NamedTuple):
    """A change to the policy, in words and as settings."""

    words: str
    changes: Changes


class Place(NamedTuple):
    """Where settings are searched: at a site, a camera or a sector of it, for all targets or for one."""

    camera: str | None = None
    sector: str | None = None
    target: str | None = None

    @property
    def path(self) -> tuple[str, ...]:
        """The table of the place's settings in the site policy."""
        camera = () if self.camera is None else ("cameras", self.camera)
        sector = () if self.sector is None else ("sectors", self.sector)
        target = () if self.target is None else ("by_target", self.target)
        return (*camera, *sector, *target)

    def rules(self, policy: SitePolicy) -> Rules:
        """The rules in force there."""
        rules = policy.rules
        if self.camera is not None:
            camera = policy.camera(self.camera)
            rules = camera.rules if self.sector is None else camera.by_name[self.sector].rules
        return rules if self.target is None else rules.of(self.target)

    def allows(self, path: tuple[str, ...]) -> bool:
        """Whether a setting may be set there: a target has no confirmation of its own, and a sector no tracks."""
        if path[0] in ("presence", "movement") and self.target is not None:
            return False
        return self.sector is None or path[0] != "movement" or path[1] not in OF_TRACKS | NEW_NAMES.keys()


SITE = Place()


class Candidate(NamedTuple):
    """A policy to try: its changes to today's policy in words and as settings, its text, and the parsed policy."""

    words: str
    changes: Changes
    text: str
    policy: SitePolicy


def candidate(text: str, *options: Option, place: Place = SITE) -> Candidate:
    """Today's `text` with these options at a place; the later option wins where two change the same setting."""
    changes = {(*place.path, *path): value for option in options for path, value in option.changes.items()}
    words = ", ".join(dict.fromkeys(option.words for option in options if option.words)) or TODAY
    changed = applied(text, changes) if changes else text
    return Candidate(words, changes, changed, parse_site_policy(changed))


def rules_and_scores(
    policy: SitePolicy, voters: Sequence[str], place: Place = SITE, *, calibrated: bool = False
) -> Iterator[tuple[Option, ...]]:
    """Every sensitivity rule with every shift of the minimum scores; today's policy first. `calibrated`: a voter has a
    calibration, so that `evidence` can be tried. It has no minimum scores.
    """
    rules = [Option("", {}), *_rules(len(voters), voters)]
    evidence = [rule_option(f"evidence {right:g}", "evidence", right=right) for right in _RIGHT if calibrated]
    for shift, rule in product(sorted(_SHIFTS, key=abs), [*rules, *evidence]):
        if not shift:
            yield (rule,)
        elif not by_evidence((rule,), policy, place):
            yield (rule, _shifted(place.rules(policy), voters, shift, _rule_of((rule,), policy, place)))


def by_evidence(options: Sequence[Option], policy: SitePolicy, place: Place = SITE) -> bool:
    """Whether today's policy with these options counts scores instead of votes."""
    return _rule_of(options, policy, place) == "evidence"


def _rule_of(options: Sequence[Option], policy: SitePolicy, place: Place) -> object:
    rules = [option.changes["sensitivity", "rule"] for option in options if ("sensitivity", "rule") in option.changes]
    return (rules or [place.rules(policy).sensitivity.rule])[-1]


def refinements(
    policy: SitePolicy, voters: Sequence[str], place: Place = SITE, *, has_scores: bool = True
) -> Iterator[Option]:
    """Options that each change a single setting of confirmation or, with `has_scores`, one model's minimum score, as a
    place may.
    """
    options = _refinements(place.rules(policy), voters if has_scores else ())
    return (each for each in options if all(map(place.allows, each.changes)))


def _refinements(rules: Rules, voters: Sequence[str]) -> Iterator[Option]:
    yield from (Option(f"sights {n}", {("movement", "sights"): n}) for n in (1, 2, 3, 4))
    yield from (Option(f"{k} of {n} frames", {("movement", "sights"): k, ("movement", "of"): n}) for k, n in _QUORUMS)
    for key, lengths_s in _LENGTHS_S.items():
        yield from (Option(f"{key[1].removesuffix('_s')} {s:g} s", {key: s}) for s in lengths_s)
    for model, shift in product(voters if len(voters) > 1 else (), _SHIFTS):
        if shift:
            score = _score(rules, model, shift)
            yield Option(f"{model} from {score:g}", {("min_score", model): score})


def _rules(count: int, voters: Sequence[str]) -> Iterator[Option]:
    yield rule_option("any", "any")
    if count > 1:
        yield from (rule_option(rule, rule) for rule in ("agreement", "weighted", "majority", "all"))
        yield from (rule_option(f"at_least {k}", "at_least", k=k) for k in range(2, count) if k != count // 2 + 1)
        for model in voters:
            yield rule_option(f"{model} alone", "weighted", weights={model: 1.0, "*": 0.0}, threshold=1.0)


def rule_option(words: str, rule: str, **settings: object) -> Option:
    """Another rule with its own settings; those of other rules go."""
    given = {name: settings.get(name) for name in ("k", "weights", "threshold", "right", "alone", "sure")}
    return Option(words, {("sensitivity", "rule"): rule} | {("sensitivity", name): v for name, v in given.items()})


def _shifted(rules: Rules, voters: Sequence[str], shift: float, rule: object) -> Option:
    """Minimum scores that differ by `shift` from today's or, where another rule goes by other scores, from its own."""
    if (rule == "agreement") != rules.sensitivity.by_agreement:
        rules = replace(Rules(), sensitivity=Sensitivity("agreement" if rule == "agreement" else "any")).complete()
    changes: dict[tuple[str, ...], object] = {("min_score", m): _score(rules, m, shift) for m in voters}
    return Option(f"scores {shift:+g}", changes)


def _score(rules: Rules, model: str, shift: float) -> float:
    return round(min(0.99, max(0.05, rules.least(model) + shift)), 3)
