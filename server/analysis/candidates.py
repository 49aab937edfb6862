"""Policies to try: today's policy with another rule, other scores or another confirmation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from typing import NamedTuple

from policies.site.site_policy import SitePolicy, parse_site_policy
from server.analysis.policy_diff import Changes, applied

TODAY = "as now"

_SHIFTS = (-0.2, -0.1, 0.0, 0.1, 0.2)
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


class Candidate(NamedTuple):
    """A policy to try: its changes to today's policy in words and as settings, its text, and the parsed policy."""

    words: str
    changes: Changes
    text: str
    policy: SitePolicy


def candidate(text: str, *options: Option) -> Candidate:
    """Today's `text` with these options; the later option wins where two change the same setting."""
    changes = {path: value for option in options for path, value in option.changes.items()}
    words = ", ".join(dict.fromkeys(option.words for option in options if option.words)) or TODAY
    changed = applied(text, changes) if changes else text
    return Candidate(words, changes, changed, parse_site_policy(changed))


def rules_and_scores(text: str, policy: SitePolicy, voters: Sequence[str]) -> Iterator[tuple[Option, ...]]:
    """Every sensitivity rule with every shift of the minimum scores; today's policy first."""
    rules = [Option("", {}), *_rules(len(voters), voters)]
    for shift, rule in product(sorted(_SHIFTS, key=abs), rules):
        yield (rule, _shifted(policy, voters, shift)) if shift else (rule,)


def refinements(policy: SitePolicy, voters: Sequence[str]) -> Iterator[Option]:
    """Options that each change a single setting of confirmation or a single model's minimum score."""
    yield from (Option(f"sights {n}", {("movement", "sights"): n}) for n in (1, 2, 3, 4))
    yield from (Option(f"{k} of {n} frames", {("movement", "sights"): k, ("movement", "of"): n}) for k, n in _QUORUMS)
    for key, lengths_s in _LENGTHS_S.items():
        yield from (Option(f"{key[1].removesuffix('_s')} {s:g} s", {key: s}) for s in lengths_s)
    for model, shift in product(voters if len(voters) > 1 else (), _SHIFTS):
        if shift:
            score = _score(policy, model, shift)
            yield Option(f"{model} from {score:g}", {("min_score", model): score})


def _rules(count: int, voters: Sequence[str]) -> Iterator[Option]:
    yield _rule("any", "any")
    if count > 1:
        yield from (_rule(rule, rule) for rule in ("weighted", "majority", "all"))
        yield from (_rule(f"at_least {k}", "at_least", k=k) for k in range(2, count) if k != count // 2 + 1)
        for model in voters:
            yield _rule(f"{model} alone", "weighted", weights={model: 1.0, "*": 0.0}, threshold=1.0)


def _rule(words: str, rule: str, **settings: object) -> Option:
    given = {name: settings.get(name) for name in ("k", "weights", "threshold")}
    return Option(words, {("sensitivity", "rule"): rule} | {("sensitivity", name): v for name, v in given.items()})


def _shifted(policy: SitePolicy, voters: Sequence[str], shift: float) -> Option:
    changes: dict[tuple[str, ...], object] = {("min_score", m): _score(policy, m, shift) for m in voters}
    return Option(f"scores {shift:+g}", changes)


def _score(policy: SitePolicy, model: str, shift: float) -> float:
    return round(min(0.99, max(0.05, policy.rules.least(model) + shift)), 3)
