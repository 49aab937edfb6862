"""All that is tunable for one site, read from TOML and checked to the line.

A setting may stand at the top (for the whole site), under `cameras.NAME`, or under
`cameras.NAME.sectors.NAME`; the nearest wins, table by table merged key by key, lists replaced. A `[[schedule]]` sets
other rules for part of the time: they stand over those of the camera and under those of a sector.
`SitePolicy.digest` names the rules, not the text: comments and layout do not change it.
"""

from __future__ import annotations

import hashlib
import tomllib
from functools import cached_property, partial
from typing import Any

import msgspec
from msgspec.structs import replace

from policies.observation import Box, EnsembleInfo
from policies.site.layers import NEW_NAMES, OLD_NAMES, RULE_KEYS, Layer, Targets, read_layer
from policies.site.rules import Rules
from policies.site.schedule import Place, When
from policies.site.sectors import WHOLE, Line, Sector, line_to_edges, pairs_apart, up_to_edges
from policies.site.suppression import Suppression
from policies.site.targets import MOVING, SHIPPED, is_class_of_its_own, is_moving, named_targets
from policies.site.toml_errors import NAME, Problem, convert, only, tables
from policies.site.toml_lines import line_of
from policies.site.toml_schema import (
    SITE_KEYS,
    TargetText,
    check_enlarged,
    read_line,
    read_look,
    read_place,
    read_schedules,
    read_sector,
    read_suppressions,
)

RULES_VERSION = 13
"""Raised whenever the same policy over the same observations gives other events than before."""

_WITHOUT_AGREEMENT = 7
"""Until this version, models voted by `weighted` where a policy named no rule."""

_MOST_FAULTS = 20


class InvalidPolicy(ValueError):
    """A site policy that cannot be used; the message gives line, setting and what to do."""


class CameraPolicy(msgspec.Struct, frozen=True, dict=True):
    """One camera's part of a site policy: what `advance` needs.

    `targets` maps a target to its classes; `apart` holds the ordered pairs of sectors between which a track
    can move (sectors that overlap are seen together, not one after the other). `suppressions` are known nuisances.
    At `looked_us` somebody looked whether the camera shows what it should.
    """

    site: str
    camera: str
    digest: str
    targets: dict[str, frozenset[str]]
    rules: Rules
    sectors: tuple[Sector, ...]
    lines: tuple[Line, ...]
    apart: frozenset[tuple[str, str]]
    place: Place = Place()
    suppressions: tuple[Suppression, ...] = ()
    scheduled: tuple[Scheduled, ...] = ()
    looked_us: int | None = None

    @cached_property
    def asks_for_moving(self) -> bool:
        """Whether any sector asks for `moving` at any time."""
        return any(policy.has_moving for policy in (self, *(entry.policy for entry in self.scheduled)))

    @cached_property
    def has_moving(self) -> bool:
        """Whether `moving` is among the targets, and is not a user's own group of that name."""
        return is_moving(MOVING, self.targets.get(MOVING, frozenset()))

    def in_force(self, at_us: int, brightness: float | None = None) -> CameraPolicy:
        """The policy for a frame of that instant and brightness: that of the first schedule that holds, else this."""
        entry = self.schedule_at(at_us, brightness)
        return self if entry is None else entry.policy

    def schedule_at(self, at_us: int, brightness: float | None = None) -> Scheduled | None:
        """The first schedule that holds a frame of that instant and brightness."""
        return next((entry for entry in self.scheduled if entry.when.holds(self.place, at_us, brightness)), None)

    @cached_property
    def memory(self) -> dict[str, Any]:
        """A cache for what follows from this policy alone; never part of its value."""
        return {}

    @cached_property
    def by_name(self) -> dict[str, Sector]:
        """Sector name to sector."""
        return {sector.name: sector for sector in self.sectors}

    @cached_property
    def reaching(self) -> dict[str, Sector]:
        """Sector name to sector as feet fall into it: a border near the frame's edge lies on the edge."""
        return up_to_edges(self.sectors, self.apart)

    @cached_property
    def asking(self) -> dict[str, tuple[tuple[Sector, Box], ...]]:
        """Target to the sectors that ask for it, as feet fall into them, each with its bounds."""
        return {
            target: tuple(
                (sector, sector.bounds) for sector in self.reaching.values() if target in sector.rules.targets
            )
            for target in self.targets
        }

    @cached_property
    def reaching_lines(self) -> tuple[Line, ...]:
        """The lines as feet cross them: one that ends near the frame's edge ends on the edge."""
        return tuple(map(line_to_edges, self.lines))

    def crops(self, ensemble_info: EnsembleInfo) -> dict[str, Box]:
        """Sector name to its bounding rectangle: what classifiers are asked about besides the frame.

        A sector that is the whole view is among them where a classifier knows what it asks for: of the frame itself,
        a classifier may see no more than the centre.
        """
        is_asked = partial(self.is_asked, ensemble_info, boxes=False)
        return {s.name: s.bounds for s in self.sectors if s.polygon != WHOLE or is_asked(s.name)}

    def enlarged(self, ensemble_info: EnsembleInfo) -> tuple[Box, ...]:
        """The parts of the frame that detectors see enlarged besides the frame, each once: of the sectors that want it,
        gain by it, and ask for something that a detector knows.
        """
        return tuple(dict.fromkeys(s.window for s in self.enlarged_sectors(ensemble_info)))

    def enlarged_sectors(self, ensemble_info: EnsembleInfo) -> tuple[Sector, ...]:
        """The sectors that detectors see enlarged."""
        return tuple(s for s in self.sectors if s.times_larger > 1 and self.is_asked(ensemble_info, s.name))

    def is_asked(self, ensemble_info: EnsembleInfo, sector: str, *, boxes: bool = True) -> bool:
        """Whether the sector ever asks for a target that a detector (without `boxes`: a classifier) knows."""
        named = [info.classes for info in ensemble_info.models if info.votes and info.boxes == boxes]
        return any(
            not policy.targets[target].isdisjoint(classes)
            for policy in (self, *(entry.policy for entry in self.scheduled))
            for target in policy.by_name[sector].rules.targets
            for classes in named
        )


class Scheduled(msgspec.Struct, frozen=True):
    """A camera's policy for part of the time. `policy` has no schedule of its own."""

    name: str
    when: When
    policy: CameraPolicy


class SitePolicy(msgspec.Struct, frozen=True):
    """A site's rules: defaults, and the cameras that are described.

    `version` is the RULES_VERSION under which `digest` was made.
    """

    site: str
    digest: str
    targets: dict[str, frozenset[str]]
    rules: Rules
    cameras: dict[str, CameraPolicy]
    other: CameraPolicy
    version: int = 1

    def camera(self, name: str) -> CameraPolicy:
        """The policy of a camera; one that the file does not describe gets the site's rules on its whole view."""
        return self.cameras.get(name) or _everywhere(self.other, camera=name)

    def under(self, digest: str, version: int) -> SitePolicy:
        """The same rules under this digest, made under this version of the rules."""
        cameras = {name: _everywhere(camera, digest=digest) for name, camera in self.cameras.items()}
        other = _everywhere(self.other, digest=digest)
        return replace(self, digest=digest, cameras=cameras, other=other, version=version)


def parse_site_policy(text: str, version: int = RULES_VERSION) -> SitePolicy:
    """The site policy written in TOML `text`, with the shipped numbers of a version of the rules.

    Raises InvalidPolicy naming the line and the setting.
    """
    try:
        raw = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # a number of 5000 digits and tables in tables in tables, too
        raise InvalidPolicy(f"not valid TOML: {error}") from None
    if version <= _WITHOUT_AGREEMENT and isinstance(raw.get("sensitivity", {}), dict):
        raw["sensitivity"] = {"rule": "weighted"} | raw.get("sensitivity", {})
    try:
        policy = _read_site(raw)
    except Problem as problem:
        raise InvalidPolicy(_message(text, problem)) from None
    # The digest is of everything in force, shipped defaults and the rules' version included.
    return policy.under(_digest(msgspec.json.encode((policy.version, policy), order="deterministic")), policy.version)


def all_faults(text: str) -> tuple[str, ...]:
    """The first twenty faults of a site policy written in TOML `text`, each with its line; none if it can be used."""
    try:
        raw = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        return (f"not valid TOML: {error}",)
    found: dict[tuple[str, ...], str] = {}
    for _ in range(_MOST_FAULTS):
        problem = _problem_of(raw)
        if problem is None:
            break
        if not any(path[: len(problem.path)] == problem.path for path in found):  # else it follows from those
            found[problem.path] = _message(text, problem)
        if problem.path == ("site",):
            raw["site"] = "unnamed"
        else:
            _take_out(raw, problem.path)
    return tuple(found.values())


def _problem_of(raw: dict[str, Any]) -> Problem | None:
    try:
        _read_site(raw)
    except Problem as problem:
        return problem
    return None


def _take_out(raw: dict[str, Any], path: tuple[str, ...]) -> None:
    """Take the setting out, or the nearest around it that is there: the innermost table or list on its way."""
    tables = [raw]
    for key in path[:-1]:
        inner = tables[-1].get(key)
        if not isinstance(inner, dict):
            break
        tables.append(inner)
    around = reversed(list(zip(tables, path, strict=False)))
    next((table.pop(key) for table, key in around if key in table), None)


def _everywhere(policy: CameraPolicy, **changes: str) -> CameraPolicy:
    """The policy and those of its schedules with these fields changed."""
    entries = [replace(entry, policy=replace(entry.policy, **changes)) for entry in policy.scheduled]
    return replace(policy, scheduled=tuple(entries), **changes)


def digest_of_stored(body: str) -> str:
    """The digest that a policy's stored JSON gives, whichever version of the rules wrote it."""
    rules = msgspec.json.decode(body)
    return _digest(msgspec.json.encode((rules.get("version", 1), _without_digests(rules))))


def _without_digests(value: Any) -> Any:
    if isinstance(value, list):
        return [_without_digests(entry) for entry in value]
    if not isinstance(value, dict):
        return value
    return {k: "" if k == "digest" and isinstance(v, str) else _without_digests(v) for k, v in value.items()}


def _digest(facts: bytes) -> str:
    return hashlib.sha256(facts).hexdigest()


def _message(text: str, problem: Problem) -> str:
    """The problem with the line of its setting, whichever of its names the file uses."""
    parents = ("", *problem.path)
    new, old = (
        tuple(
            names.get(key, key) if parent == "movement" else key
            for parent, key in zip(parents, problem.path, strict=False)
        )
        for names in (NEW_NAMES, OLD_NAMES)
    )
    line = max((number for path in (new, old) if (number := line_of(text, path))), default=None)
    where = f"line {line}: " if line else ""
    return f"{where}{'.'.join(new) + ': ' if new else ''}{problem.what}"


def _read_site(raw: dict[str, Any]) -> SitePolicy:
    only(raw, SITE_KEYS, ())
    name = raw.get("site")
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise Problem(("site",), 'missing or malformed; write for example site = "north-yard"')
    place = read_place(raw)
    own = {target: convert(TargetText, entry, ("target", target)) for target, entry in tables(raw, "target", ())}
    targets = SHIPPED | {target: frozenset(text.classes) for target, text in own.items()}
    targets |= {name: frozenset({name}) for name in named_targets(raw) if is_class_of_its_own(name, targets)}
    layer = read_layer(None, raw, (), targets)
    read = partial(_read_camera, name, place, targets, layer, read_schedules(raw, place))
    cameras = {camera: read(camera, entry) for camera, entry in tables(raw, "cameras", ())}
    return SitePolicy(name, "", targets, layer.rules, cameras, read("", {}), RULES_VERSION)


def _read_camera(
    site: str,
    place: Place,
    targets: Targets,
    above: Layer,
    schedules: list[tuple[str, When, dict[str, Any]]],
    name: str,
    raw: dict[str, Any],
) -> CameraPolicy:
    """One camera's policy, from its table and what all cameras of the site have in common."""
    path = ("cameras", name)
    only(raw, RULE_KEYS | {"sectors", "lines", "suppress", "looked_at"}, path)
    layer = read_layer(above, raw, path, targets)
    sectors = tables(raw, "sectors", path)
    shapes = {sector: read_sector(entry, (*path, "sectors", sector)) for sector, entry in sectors}
    lines = tuple(read_line(line, entry, (*path, "lines", line)) for line, entry in tables(raw, "lines", path))
    known, apart = (
        read_suppressions(raw, path, targets),
        pairs_apart({sector: polygon for sector, (polygon, _) in shapes.items()}),
    )

    def under(layer: Layer) -> CameraPolicy:
        """The camera's policy while this layer is in force."""
        inside = tuple(
            Sector(sector, polygon, read_layer(layer, entry, (*path, "sectors", sector), targets).rules, enlarge)
            for (sector, entry), (polygon, enlarge) in zip(sectors, shapes.values(), strict=True)
        ) or (Sector("view", WHOLE, layer.rules),)
        used = sorted({target for rules in (layer.rules, *(s.rules for s in inside)) for target in rules.targets})
        classes = {target: targets[target] for target in used}
        return CameraPolicy(site, name, "", classes, layer.rules, inside, lines, apart, place, known)

    entries = (
        Scheduled(entry, when, under(read_layer(layer, rules, ("schedule",), targets)))
        for entry, when, rules in schedules
    )
    policy = under(layer)
    check_enlarged(policy.sectors, path)
    return replace(policy, scheduled=tuple(entries), looked_us=read_look(raw, path))
