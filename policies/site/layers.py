"""Layers of rules: of the site, a camera, a schedule, a sector. Each is laid over the one above, then parsed once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from msgspec.structs import replace

from policies.sensitivity import RULES, Sensitivity
from policies.site.rules import Movement, OfTarget, Presence, Rules
from policies.site.toml_errors import Path, Problem, convert, ready, suggest, tables

RULE_KEYS = frozenset(Rules.__struct_fields__)
OLD_NAMES = {f.name: f.encode_name for f in msgspec.structs.fields(Movement) if f.name != f.encode_name}
"""Keys of `movement` -> the names under which older files and stored policies have them."""
NEW_NAMES = {old: new for new, old in OLD_NAMES.items()}
OF_TRACKS = frozenset({"min_hits", "window_frames", *NEW_NAMES, "hidden_s", "join_s", "stopped_s", "max_speed"})
"""Keys of `movement` that a track has wherever it goes, so that no sector can have its own."""

_TABLES = {"sensitivity": Sensitivity, "presence": Presence, "movement": Movement}
_DEFAULT_RULE = Sensitivity().rule
_NOT_OF_ALL = {
    key: [name for name, rule in RULES.items() if key in rule.keys] for each in RULES.values() for key in each.keys
}
"""Keys of `sensitivity` that not every rule has -> the rules that have them."""

_OF_WEIGHTED = frozenset(RULES["weighted"].keys)

Targets = Mapping[str, frozenset[str]]


class Layer(msgspec.Struct, frozen=True):
    """The rules at one place: `tables` merged as in TOML, for the layers below, and what they mean."""

    tables: dict[str, Any]
    rules: Rules


ready(Rules, OfTarget)


def read_layer(above: Layer | None, raw: Mapping[str, Any], path: Path, targets: Targets) -> Layer:
    """The rules of a place: its own keys over those above, tables merged, lists replaced. Raises Problem."""
    here = {key: value for key, value in raw.items() if key in RULE_KEYS}
    if isinstance(here.get("movement"), dict):
        here["movement"] = _with_old_names(here["movement"], (*path, "movement"))
    merged = over({} if above is None else above.tables, here)
    if isinstance(merged.get("sensitivity"), dict):
        merged["sensitivity"] = _with_rule(merged["sensitivity"])
    rules = convert(Rules, {key: value for key, value in merged.items() if key != "by_target"}, path, _TABLES)
    by_target = {
        target: _read_target(merged, target, entry, (*path, "by_target", target), targets)
        for target, entry in tables(merged, "by_target", path)
    }
    rules = replace(rules, by_target=by_target)
    _check(rules, path, targets)
    return Layer(merged, rules.complete())


def check_targets(names: Iterable[str], path: Path, targets: Targets) -> None:
    """Raises Problem for the first name that is no target."""
    for name in names:
        if name not in targets:
            raise Problem(path, f"unknown target `{name}`{suggest(name, targets)}")


def over(above: dict[str, Any], here: dict[str, Any]) -> dict[str, Any]:
    """A table over the one above it, and so the tables within. A new rule of sensitivity inherits no key that only some
    rules have. Weights or a threshold above without a rule are of `weighted`.
    """
    if "rule" in here and here["rule"] != _with_rule(above).get("rule", _DEFAULT_RULE):
        above = {key: value for key, value in above.items() if key not in _NOT_OF_ALL}
    return above | {
        key: over(above[key], value) if isinstance(value, dict) and isinstance(above.get(key), dict) else value
        for key, value in here.items()
    }


def _with_rule(sensitivity: dict[str, Any]) -> dict[str, Any]:
    """The table with the rule that was the default until version 7 of the rules, where it has keys of that rule."""
    is_weighted = "rule" not in sensitivity and not _OF_WEIGHTED.isdisjoint(sensitivity)
    return {"rule": "weighted"} | sensitivity if is_weighted else sensitivity


def _with_old_names(movement: dict[str, Any], path: Path) -> dict[str, Any]:
    """The table under the names that stored policies have, which are part of their digests."""
    for new, old in OLD_NAMES.items():
        if new in movement and old in movement:
            raise Problem((*path, new), f"`{old}` is the old name of this key; give only one of the two")
    return {OLD_NAMES.get(key, key): value for key, value in movement.items()}


def _read_target(merged: dict[str, Any], target: str, entry: dict[str, Any], path: Path, targets: Targets) -> OfTarget:
    """The rules of one target, its sensitivity over that of all targets."""
    check_targets([target], path, targets)
    own = entry.get("sensitivity")
    if isinstance(own, dict) and own:
        entry = entry | {"sensitivity": _with_rule(over(merged.get("sensitivity", {}), own))}
    return convert(OfTarget, entry, path, _TABLES)


def _check(rules: Rules, path: Path, targets: Targets) -> None:
    check_targets(rules.targets, (*path, "targets"), targets)
    if twice := next((t for t in rules.targets if rules.targets.count(t) > 1), None):
        raise Problem((*path, "targets"), f"`{twice}` is there twice")
    movement = rules.movement
    if isinstance(movement.max_speed, dict):
        check_targets(movement.max_speed.keys() - {"*"}, (*path, "movement", "max_speed"), targets)
    if movement.min_hits > movement.window_frames:
        raise Problem((*path, "movement", "min_hits"), "is more than `window_frames`, the frames that are looked at")
    _check_sensitivity(rules.sensitivity, path)
    for target, own in rules.by_target.items():
        _check_sensitivity(own.sensitivity or rules.sensitivity, (*path, "by_target", target))


def _check_sensitivity(given: Sensitivity, path: Path) -> None:
    """Raises Problem for a key that belongs to another rule."""
    for key, names in _NOT_OF_ALL.items():
        if given.rule not in names and getattr(given, key) != getattr(Sensitivity(), key):
            means = "mean" if key.endswith("s") else "means"
            rules = " or ".join(f'"{name}"' for name in names)
            raise Problem((*path, "sensitivity", key), f"{key} only {means} something with rule = {rules}")
