"""All that is tunable for one site, read from TOML and checked to the line.

A setting may stand at the top (for the whole site), under `cameras.NAME`, or under
`cameras.NAME.sectors.NAME`; the nearest wins, table by table merged key by key, lists replaced. A `[[schedule]]` sets
other rules for part of the time: they stand over those of the camera and under those of a sector.
`SitePolicy.digest` names the rules, not the text: comments and layout do not change it.
"""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Iterable
from functools import cached_property
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec
from msgspec.structs import replace

from policies.geometry import Point, Polygon, bounds, contains, overlap, points_of, polygon_of
from policies.observation import Box
from policies.sensitivity import Sensitivity
from policies.site.rules import Movement, OfTarget, Presence, Rules
from policies.site.schedule import Place, When
from policies.site.suppression import Suppression
from policies.site.targets import SHIPPED
from policies.site.toml_errors import Problem, convert, is_name, listed, only, suggest, tables
from policies.site.toml_lines import line_of
from policies.site.toml_schema import (
    OF_TRACKS,
    LineText,
    ScheduleText,
    SectorText,
    SuppressionText,
    TargetText,
    check_sensitivity,
    hours,
    over,
)

WHOLE: Polygon = ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0))
RULES_VERSION = 5
"""Raised whenever the same policy over the same observations gives other events than before."""


class InvalidPolicy(ValueError):
    """A site policy that cannot be used; the message gives line, setting and what to do."""


class Sector(msgspec.Struct, frozen=True, dict=True):
    """A named polygon of a camera's view and the rules in force there."""

    name: str
    polygon: Polygon
    rules: Rules

    @cached_property
    def bounds(self) -> Box:
        """The smallest rectangle around it."""
        return bounds(self.polygon)

    def holds(self, point: Point) -> bool:
        """Whether the point lies in it."""
        x, y = point
        left, top, right, bottom = self.bounds
        return left <= x <= right and top <= y <= bottom and contains(self.polygon, point)


class Line(msgspec.Struct, frozen=True):
    """A counting line; `directions[0]` names the way from the left of a->b to its right."""

    name: str
    a: Point
    b: Point
    directions: tuple[str, str]


class CameraPolicy(msgspec.Struct, frozen=True, dict=True):
    """One camera's part of a site policy: what `advance` needs.

    `targets` maps a target to its classes; `apart` holds the ordered pairs of sectors between which a track
    can move (sectors that overlap are seen together, not one after the other). `suppressions` are known nuisances.
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

    def in_force(self, at_us: int, brightness: float | None = None) -> CameraPolicy:
        """The policy for a frame of that instant and brightness: that of the first schedule that holds, else this."""
        found = self.schedule_at(at_us, brightness)
        return self if found is None else found.policy

    def schedule_at(self, at_us: int, brightness: float | None = None) -> Scheduled | None:
        """The first schedule that holds a frame of that instant and brightness."""
        for entry in self.scheduled:
            if entry.when.holds(self.place, at_us, brightness):
                return entry
        return None

    @cached_property
    def memory(self) -> dict[int, Any]:
        """Room for what follows from this policy alone and is worth working out once; never part of its value."""
        return {}

    @cached_property
    def by_name(self) -> dict[str, Sector]:
        """Sector name to sector."""
        return {sector.name: sector for sector in self.sectors}

    @property
    def crops(self) -> dict[str, Box]:
        """Sector name to its bounding rectangle: what a classifier is asked about besides the whole view."""
        return {s.name: s.bounds for s in self.sectors if s.polygon != WHOLE}


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
        known = self.cameras.get(name)
        return known if known is not None else _renamed(self.other, name)

    def under(self, digest: str, version: int) -> SitePolicy:
        """The same rules under this digest, made under this version of the rules."""
        cameras = {name: _sealed(camera, digest) for name, camera in self.cameras.items()}
        return replace(self, digest=digest, cameras=cameras, other=_sealed(self.other, digest), version=version)


def parse_site_policy(text: str) -> SitePolicy:
    """The site policy written in TOML `text`. Raises InvalidPolicy naming the line and the setting."""
    try:
        raw = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # a number of 5000 digits and tables in tables in tables, too
        raise InvalidPolicy(f"not valid TOML: {error}") from None
    try:
        return _Reader(raw).site()
    except Problem as problem:
        line = line_of(text, problem.path)
        where = f"line {line}: " if line else ""
        name = ".".join(problem.path)
        raise InvalidPolicy(f"{where}{name + ': ' if name else ''}{problem.what}") from None


def _renamed(policy: CameraPolicy, camera: str) -> CameraPolicy:
    entries = (replace(entry, policy=_renamed(entry.policy, camera)) for entry in policy.scheduled)
    return replace(policy, camera=camera, scheduled=tuple(entries))


def _sealed(policy: CameraPolicy, digest: str) -> CameraPolicy:
    entries = (replace(entry, policy=_sealed(entry.policy, digest)) for entry in policy.scheduled)
    return replace(policy, digest=digest, scheduled=tuple(entries))


def _signed(policy: SitePolicy) -> SitePolicy:
    """The policy under its digest: of everything in force, shipped defaults and the rules' version included."""
    return policy.under(_digest(msgspec.json.encode((policy.version, policy), order="deterministic")), policy.version)


def digest_of_stored(body: str) -> str:
    """The digest that a policy's stored JSON gives, whichever version of the rules wrote it."""
    rules = msgspec.json.decode(body)
    return _digest(msgspec.json.encode((rules.get("version", 1), _unsigned(rules))))


def _unsigned(value: Any) -> Any:
    if isinstance(value, list):
        return [_unsigned(one) for one in value]
    if not isinstance(value, dict):
        return value
    return {k: "" if k == "digest" and isinstance(v, str) else _unsigned(v) for k, v in value.items()}


def _digest(facts: bytes) -> str:
    return hashlib.sha256(facts).hexdigest()


_RULES = frozenset(Rules.__struct_fields__)
_PLACE = frozenset(Place.__struct_fields__)
_WHEN = frozenset(ScheduleText.__struct_fields__)


class _Reader:
    """Builds a SitePolicy from a parsed document, remembering where it is for the error message."""

    def __init__(self, raw: dict[str, Any]) -> None:
        self._raw = raw
        self._site = ""
        self._place = Place()
        self._schedule: list[tuple[str, When, dict[str, Any]]] = []
        self._targets: dict[str, frozenset[str]] = SHIPPED

    def site(self) -> SitePolicy:
        raw = self._raw
        only(raw, _RULES | _PLACE | {"site", "target", "cameras", "schedule"}, ())
        site = raw.get("site")
        if not is_name(site):
            raise Problem(("site",), 'missing or malformed; write for example site = "north-yard"')
        self._site = site
        self._place = self._read_place()
        self._targets = SHIPPED | {
            name: frozenset(convert(TargetText, entry, ("target", name)).classes)
            for name, entry in tables(raw, "target", ())
        }
        base = self._rules({}, raw, ())
        self._schedule = self._read_schedule(base)
        cameras = {name: self._camera(name, base, entry) for name, entry in tables(raw, "cameras", ())}
        rules = _settled(base, ()).complete()
        other = self._camera("", base, {})
        return _signed(SitePolicy(site, "", self._targets, rules, cameras, other, RULES_VERSION))

    def _read_place(self) -> Place:
        place = convert(Place, {key: self._raw[key] for key in _PLACE & self._raw.keys()}, ())
        try:
            ZoneInfo(place.timezone)
        except (ZoneInfoNotFoundError, ValueError, OSError):  # a folder of zones, as "Europe" is
            raise Problem(("timezone",), f'no such time zone {place.timezone!r}; for example "Europe/Oslo"') from None
        return place

    def _read_schedule(self, base: dict[str, Any]) -> list[tuple[str, When, dict[str, Any]]]:
        entries = listed(self._raw, "schedule", (), "write [[schedule]] tables, the first that holds wins")
        found = []
        for entry in entries:
            only(entry, _RULES | _WHEN, ("schedule",))
            text = convert(ScheduleText, {k: v for k, v in entry.items() if k not in _RULES}, ("schedule",))
            self._rules(base, entry, ("schedule",))
            found.append((text.name, self._when(text), {k: v for k, v in entry.items() if k in _RULES}))
        return found

    def _when(self, text: ScheduleText) -> When:
        if text.sun is not None and (self._place.latitude is None or self._place.longitude is None):
            raise Problem(("schedule", "sun"), "needs the site's latitude and longitude")
        start, end = hours(text.between, ("schedule", "between"))
        when = When(start, end, text.days or (), text.sun, text.darker_than, text.brighter_than)
        brightest = 1 if text.darker_than is None else text.darker_than
        if brightest <= (text.brighter_than or 0):
            raise Problem(("schedule", "darker_than"), "no frame lies between `brighter_than` and this")
        if when == When():
            raise Problem(("schedule",), f"`{text.name}` says no time: give between, days, sun or a brightness")
        return when

    def _suppressions(self, raw: dict[str, Any], path: tuple[str, ...]) -> tuple[Suppression, ...]:
        here = (*path, "suppress")
        found: list[Suppression] = []
        for entry in listed(raw, "suppress", path, f"write [[{'.'.join(here)}]] tables"):
            text = convert(SuppressionText, entry, here)
            if any(text.name == known.name for known in found):
                raise Problem((*here, "name"), f"`{text.name}` is there twice")
            if not (text.box[0] < text.box[2] and text.box[1] < text.box[3]):
                raise Problem((*here, "box"), "write [x1, y1, x2, y2] with x1 < x2 and y1 < y2")
            self._check_targets(text.targets, (*here, "targets"))
            when = When(*hours(text.between, (*here, "between")))
            found.append(Suppression(text.name, text.box, text.overlap, text.targets, text.max_score, when))
        return tuple(found)

    def _check_targets(self, names: Iterable[str], path: tuple[str, ...]) -> None:
        for name in names:
            if name not in self._targets:
                raise Problem(path, f"unknown target `{name}`{suggest(name, self._targets)}")

    def _camera(self, name: str, above: dict[str, Any], raw: dict[str, Any]) -> CameraPolicy:
        path = ("cameras", name)
        only(raw, _RULES | {"sectors", "lines", "suppress"}, path)
        base = self._rules(above, raw, path)
        plain = self._plain_camera(name, base, raw, path)
        entries = (
            Scheduled(entry, when, self._plain_camera(name, self._rules(base, rules, ("schedule",)), raw, path))
            for entry, when, rules in self._schedule
        )
        return replace(plain, scheduled=tuple(entries))

    def _plain_camera(
        self, name: str, base: dict[str, Any], raw: dict[str, Any], path: tuple[str, ...]
    ) -> CameraPolicy:
        rules = _settled(base, path).complete()
        sectors = tuple(
            self._sector(sector, entry, base, (*path, "sectors", sector))
            for sector, entry in tables(raw, "sectors", path)
        ) or (Sector("view", WHOLE, rules),)
        lines = tuple(self._line(line, entry, (*path, "lines", line)) for line, entry in tables(raw, "lines", path))
        apart = frozenset(
            (a.name, b.name) for a in sectors for b in sectors if a is not b and overlap(a.polygon, b.polygon) < 0.1
        )
        used = {t for place in (rules, *(s.rules for s in sectors)) for t in place.targets}
        groups = {target: self._targets[target] for target in sorted(used)}
        known = self._suppressions(raw, path)
        return CameraPolicy(self._site, name, "", groups, rules, sectors, lines, apart, self._place, known)

    def _sector(
        self,
        name: str,
        raw: dict[str, Any],
        above: dict[str, Any],
        path: tuple[str, ...],
    ) -> Sector:
        only(raw, _RULES | {"polygon", "coordinates"}, path)
        movement = raw.get("movement")
        for key in movement if isinstance(movement, dict) else ():
            if key in OF_TRACKS:
                raise Problem((*path, "movement", key), "a track has it wherever it goes: set it for camera or site")
        shape = convert(SectorText, {k: v for k, v in raw.items() if k not in _RULES}, path)
        if (shape.polygon is None) == (shape.coordinates is None):
            raise Problem(path, 'give either polygon = [[x, y], ...] or Frigate\'s coordinates = "x,y,x,y,..."')
        try:
            points = shape.polygon if shape.polygon is not None else points_of(shape.coordinates or "")
            if any(len(point) != 2 for point in points):
                raise ValueError("every point is a pair [x, y]")
            polygon = polygon_of(points)
        except ValueError as error:
            raise Problem((*path, "polygon" if shape.coordinates is None else "coordinates"), str(error)) from None
        return Sector(name, polygon, _settled(self._rules(above, raw, path), path).complete())

    def _line(self, name: str, raw: dict[str, Any], path: tuple[str, ...]) -> Line:
        text = convert(LineText, raw, path)
        if text.a == text.b:
            raise Problem(path, "a and b are the same point")
        if not all(text.directions) or text.directions[0] == text.directions[1]:
            raise Problem((*path, "directions"), "give the two ways over the line a name each")
        return Line(name, text.a, text.b, text.directions)

    def _rules(
        self,
        above: dict[str, Any],
        raw: dict[str, Any],
        path: tuple[str, ...],
    ) -> dict[str, Any]:
        """The rules of a place: what stands here over what stands above, tables merged, lists replaced."""
        merged = over(above, {key: value for key, value in raw.items() if key in _RULES})
        for target, entry in tables(merged, "by_target", path):  # here, since a fault within would not name its target
            self._check_targets([target], (*path, "by_target", target))
            convert(OfTarget, entry, (*path, "by_target", target), _TABLES)
        rules = _settled(merged, path)
        self._check_targets(rules.targets, (*path, "targets"))
        if twice := next((t for t in rules.targets if rules.targets.count(t) > 1), None):
            raise Problem((*path, "targets"), f"`{twice}` is there twice")
        if isinstance(rules.movement.max_speed, dict):
            self._check_targets(rules.movement.max_speed.keys() - {"*"}, (*path, "movement", "max_speed"))
        if rules.movement.min_hits > rules.movement.window_frames:
            raise Problem((*path, "movement", "sights"), "more frames are asked for than `of` looks at")
        check_sensitivity(rules.sensitivity, path)
        for target, mine in rules.by_target.items():
            check_sensitivity(mine.sensitivity or rules.sensitivity, (*path, "by_target", target))
        return merged


def _settled(merged: dict[str, Any], path: tuple[str, ...]) -> Rules:
    """The rules that a place's merged tables give, with the sensitivity for one target over that for all."""
    rules = convert(Rules, merged, path, _TABLES)
    of_all = merged.get("sensitivity", {})
    by_target = {
        target: replace(rules.by_target[target], sensitivity=convert(Sensitivity, over(of_all, mine), path))
        for target, entry in merged.get("by_target", {}).items()
        if (mine := entry.get("sensitivity"))
    }
    return replace(rules, by_target=rules.by_target | by_target)


_TABLES = {"sensitivity": Sensitivity, "presence": Presence, "movement": Movement}
