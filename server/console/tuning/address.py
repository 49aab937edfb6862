"""What the address of the page holds: the stretch, and what of the settings is changed. The form gives the same."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode

import msgspec
from msgspec.structs import asdict, replace

from policies.observation import ModelInfo
from policies.sensitivity import RULES, RuleName
from policies.site.site_policy import InvalidPolicy, SitePolicy
from policies.site.toml_errors import ready
from server.analysis.tuning.candidates import Place
from server.analysis.tuning.controls import Change, PlaceSettings, moved, settings_of, with_rule
from server.domain.errors import Malformed

MOST_MODELS = 8
"""So many models have controls; the scores of others are changed in the file."""

_NUMBERS = {"threshold": "threshold", "right": "right", "confirm": "confirm_s", "clear": "clear_s", "dwell": "dwell_s"}
_COUNTS = {"k": "k", "hits": "min_hits", "frames": "window_frames"}


class TuneQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`since` and `until` are times as commands take them. `rule` to `dwell` are the changed settings: `scores` and
    `weights` as `MODEL:0.35,MODEL:0.5`, `hits` of `frames` frames, and seconds. `version` is a version of the policy to
    show. `moved`, `was`, `s1` to `s8` and `w1` to `w8` are the fields of the form, which leads to an address without
    them.
    """

    target: str | None = None
    since: str | None = None
    until: str | None = None
    rule: RuleName | None = None
    k: int | None = None
    threshold: str | None = None
    right: str | None = None
    scores: str | None = None
    weights: str | None = None
    hits: int | None = None
    frames: int | None = None
    confirm: str | None = None
    clear: str | None = None
    dwell: str | None = None
    version: int | None = None
    moved: str | None = None
    was: RuleName | None = None
    s1: str | None = None
    s2: str | None = None
    s3: str | None = None
    s4: str | None = None
    s5: str | None = None
    s6: str | None = None
    s7: str | None = None
    s8: str | None = None
    w1: str | None = None
    w2: str | None = None
    w3: str | None = None
    w4: str | None = None
    w5: str | None = None
    w6: str | None = None
    w7: str | None = None
    w8: str | None = None


ready(TuneQuery)

AS_NOW = TuneQuery()


def address(site: str, camera: str, sector: str, query: TuneQuery) -> str:
    """The address of a state of the page."""
    place = "/".join(quote(part, safe="") for part in (site, camera, sector))
    asked = written(query)
    return f"/tune/{place}{'?' if asked else ''}{asked}"


def written(query: TuneQuery) -> str:
    """The query as an address has it, without what is not given."""
    return urlencode({name: value for name, value in asdict(query).items() if value is not None}, safe=":,")


def read(text: str) -> TuneQuery:
    """The query that `written` wrote. Raises Malformed."""
    try:
        return msgspec.convert(dict(parse_qsl(text)), TuneQuery, strict=False)
    except msgspec.ValidationError as error:
        raise Malformed(f"the form cannot be used: {error}") from None


def without_change(query: TuneQuery) -> TuneQuery:
    """The same place and stretch with nothing changed."""
    return TuneQuery(target=query.target, since=query.since, until=query.until)


def change_of(query: TuneQuery, rule: RuleName) -> Change:
    """What is changed, where `rule` is in force today. Raises Malformed."""
    numbers: dict[str, Any] = {name: _number(key, getattr(query, key)) for key, name in _NUMBERS.items()}
    return Change(
        rule=None if query.rule == rule else query.rule,
        scores=_by_model("scores", query.scores),
        weights=_by_model("weights", query.weights),
        **{name: getattr(query, key) for key, name in _COUNTS.items()},
        **numbers,
    )


def from_form(query: TuneQuery, text: str, policy: SitePolicy, place: Place, models: Sequence[ModelInfo]) -> TuneQuery:
    """The address to which the fields of the form lead: only what differs from today's settings stands in it."""
    now = settings_of(policy, place, models)
    rule, was = query.rule or now.rule, query.was or query.rule or now.rule
    kept = replace(without_change(query), rule=None if rule == now.rule else rule)
    try:
        base = _settings(text, place, models, rule, now)
        shown = _settings(text, place, models, was, now)
    except InvalidPolicy:
        return kept  # the page says what a nearer place has
    change = moved(base, _wanted(query, base, models), None if rule == was else shown)
    return replace(
        kept,
        scores=_listed(change.scores),
        weights=_listed(change.weights),
        **{key: getattr(change, name) for key, name in _COUNTS.items()},
        **{key: _written(getattr(change, name)) for key, name in _NUMBERS.items()},
    )


def _settings(
    text: str, place: Place, models: Sequence[ModelInfo], rule: RuleName, now: PlaceSettings
) -> PlaceSettings:
    """The settings in force under a rule that takes the place of today's."""
    return now if rule == now.rule else settings_of(with_rule(text, place, rule), place, models)


def _wanted(query: TuneQuery, base: PlaceSettings, models: Sequence[ModelInfo]) -> PlaceSettings:
    """What the fields hold; a field that is missing is as it was."""
    numbers = {name: _number(key, getattr(query, key)) for key, name in _NUMBERS.items()}
    given: dict[str, Any] = {name: value for name, value in numbers.items() if value is not None}
    given |= {name: value for key, name in _COUNTS.items() if (value := getattr(query, key)) is not None}
    for letter, name in (("s", "scores"), ("w", "weights")):
        moved_to = {
            info.model: number
            for place, info in enumerate(models[:MOST_MODELS], 1)
            if (number := _number(f"{letter}{place}", getattr(query, f"{letter}{place}"))) is not None
        }
        given[name] = getattr(base, name) | moved_to
    wanted = replace(base, **given)
    return replace(wanted, rule=query.rule or base.rule)


def _number(name: str, text: str | None) -> float | None:
    if text is None:
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise Malformed(f"`{name}` is a number, not `{text[:40]}`")
    return value


def _by_model(name: str, text: str | None) -> dict[str, float]:
    """The number of each model in `MODEL:0.35,MODEL:0.5`."""
    numbers: dict[str, float] = {}
    for part in (text or "").split(","):
        model, mark, value = part.rpartition(":")
        if not part:
            continue
        number = _number(name, value)
        if not mark or not model or number is None:
            raise Malformed(f"`{name}` is written as MODEL:0.35,MODEL:0.5, not `{part[:40]}`")
        numbers[model] = number
    return numbers


def _listed(numbers: Mapping[str, float]) -> str | None:
    return ",".join(f"{model}:{value:g}" for model, value in sorted(numbers.items())) or None


def _written(value: float | None) -> str | None:
    return None if value is None else f"{value:g}"


def keys_of(rule: RuleName) -> tuple[str, ...]:
    """The settings that only some rules have, and this one."""
    return RULES[rule].keys
