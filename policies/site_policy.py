"""All that is tunable for one site, read from TOML and checked to the line.

A setting may stand at the top (for the whole site), under `cameras.NAME`, or under
`cameras.NAME.sectors.NAME`; the nearest wins, table by table merged key by key, lists replaced. A `[[schedule]]` sets
other rules for part of the time: they stand over those of the camera and under those of a sector.
`SitePolicy.digest` names the rules, not the text: comments and layout do not change it.
"""

from __future__ import annotations

import difflib
import hashlib
import re
import tomllib
from collections.abc import Mapping
from datetime import time
from functools import cached_property
from typing import Annotated, Any, Literal, TypeVar
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec
from msgspec.structs import replace

from policies.geometry import Point, Polygon, bounds, overlap, polygon_of
from policies.observation import Box
from policies.rules import Fraction, Movement, Presence, Rules
from policies.schedule import Day, Place, When
from policies.sensitivity import Sensitivity
from policies.targets import SHIPPED
from policies.toml_lines import line_of

T = TypeVar("T")

WHOLE: Polygon = ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0))
RULES_VERSION = 1
"""Raised whenever the same policy over the same observations gives other events than before."""


class InvalidPolicy(ValueError):
    """A site policy that cannot be used; the message gives line, setting and what to do."""


class Sector(msgspec.Struct, frozen=True):
    """A named polygon of a camera's view and the rules in force there."""

    name: str
    polygon: Polygon
    rules: Rules


class Line(msgspec.Struct, frozen=True):
    """A counting line; `directions[0]` names the way from the left of a->b to its right."""

    name: str
    a: Point
    b: Point
    directions: tuple[str, str]


class CameraPolicy(msgspec.Struct, frozen=True, dict=True):
    """One camera's part of a site policy: what `advance` needs.

    `targets` maps a target to its classes; `apart` holds the ordered pairs of sectors between which a track
    can move (sectors that overlap are seen together, not one after the other).
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
    scheduled: tuple[Scheduled, ...] = ()

    def in_force(self, at_us: int) -> CameraPolicy:
        """The policy at an instant: that of the first schedule which holds it, else this one."""
        for entry in self.scheduled:
            if entry.when.holds(self.place, at_us):
                return entry.policy
        return self

    @cached_property
    def memory(self) -> dict[int, Any]:
        """Room for what follows from this policy alone and is worth working out once; never part of its value."""
        return {}

    @property
    def crops(self) -> dict[str, Box]:
        """Sector name to its bounding rectangle: what a classifier is asked about besides the whole view."""
        return {s.name: bounds(s.polygon) for s in self.sectors if s.polygon != WHOLE}


class Scheduled(msgspec.Struct, frozen=True):
    """A camera's policy for part of the time. `policy` has no schedule of its own."""

    name: str
    when: When
    policy: CameraPolicy


class SitePolicy(msgspec.Struct, frozen=True):
    """A site's rules: defaults, and the cameras that are described."""

    site: str
    digest: str
    targets: dict[str, frozenset[str]]
    rules: Rules
    cameras: dict[str, CameraPolicy]
    other: CameraPolicy

    def camera(self, name: str) -> CameraPolicy:
        """The policy of a camera; one that the file does not describe gets the site's rules on its whole view."""
        known = self.cameras.get(name)
        return known if known is not None else _renamed(self.other, name)


def parse_site_policy(text: str) -> SitePolicy:
    """The site policy written in TOML `text`. Raises InvalidPolicy naming the line and the setting."""
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InvalidPolicy(f"not valid TOML: {error}") from None
    try:
        return _Reader(raw).site()
    except _Problem as problem:
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
    facts = msgspec.json.encode((RULES_VERSION, policy), order="deterministic")
    digest = hashlib.sha256(facts).hexdigest()
    cameras = {name: _sealed(camera, digest) for name, camera in policy.cameras.items()}
    return replace(policy, digest=digest, cameras=cameras, other=_sealed(policy.other, digest))


class _Problem(Exception):
    def __init__(self, path: tuple[str, ...], what: str) -> None:
        super().__init__(what)
        self.path = path
        self.what = what


class _SectorText(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    polygon: list[list[float]] | None = None
    coordinates: str | None = None


class _LineText(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    a: tuple[Fraction, Fraction]
    b: tuple[Fraction, Fraction]
    directions: tuple[str, str] = ("left_to_right", "right_to_left")


class _TargetText(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    classes: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)]


class _ScheduleText(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    between: tuple[str, str] | None = None
    days: Annotated[tuple[Day, ...], msgspec.Meta(min_length=1)] | None = None
    sun: Literal["up", "down"] | None = None


_RULES = frozenset(Rules.__struct_fields__)
_PLACE = frozenset(Place.__struct_fields__)
_WHEN = frozenset(_ScheduleText.__struct_fields__)
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")


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
        self._only(raw, _RULES | _PLACE | {"site", "target", "cameras", "schedule"}, ())
        site = raw.get("site")
        if not isinstance(site, str) or not _NAME.fullmatch(site):
            raise _Problem(("site",), 'missing or malformed; write for example site = "north-yard"')
        self._site = site
        self._place = self._read_place()
        self._targets = SHIPPED | {
            name: frozenset(_convert(_TargetText, entry, ("target", name)).classes)
            for name, entry in self._tables(raw, "target", ())
        }
        base = self._rules({}, raw, ())
        self._schedule = self._read_schedule(base)
        cameras = {name: self._camera(name, base, entry) for name, entry in self._tables(raw, "cameras", ())}
        rules = _convert(Rules, base, ()).complete()
        return _signed(SitePolicy(site, "", self._targets, rules, cameras, self._camera("", base, {})))

    def _read_place(self) -> Place:
        place = _convert(Place, {key: self._raw[key] for key in _PLACE & self._raw.keys()}, ())
        try:
            ZoneInfo(place.timezone)
        except (ZoneInfoNotFoundError, ValueError):
            raise _Problem(("timezone",), f'no such time zone {place.timezone!r}; for example "Europe/Oslo"') from None
        return place

    def _read_schedule(self, base: dict[str, Any]) -> list[tuple[str, When, dict[str, Any]]]:
        entries = self._raw.get("schedule", [])
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            raise _Problem(("schedule",), "write [[schedule]] tables, the first that holds wins")
        found = []
        for entry in entries:
            self._only(entry, _RULES | _WHEN, ("schedule",))
            text = _convert(_ScheduleText, {k: v for k, v in entry.items() if k not in _RULES}, ("schedule",))
            self._rules(base, entry, ("schedule",))
            found.append((text.name, self._when(text), {k: v for k, v in entry.items() if k in _RULES}))
        return found

    def _when(self, text: _ScheduleText) -> When:
        if text.sun is not None and (self._place.latitude is None or self._place.longitude is None):
            raise _Problem(("schedule", "sun"), "needs the site's latitude and longitude")
        if text.between is None and text.days is None and text.sun is None:
            raise _Problem(("schedule",), f"`{text.name}` says no time: give between, days or sun")
        if text.between is None:
            return When(None, None, text.days or (), text.sun)
        try:
            start, end = (time.fromisoformat(clock) for clock in text.between)
        except ValueError:
            raise _Problem(("schedule", "between"), 'write two times of the clock: ["22:00", "06:00"]') from None
        return When(start, end, text.days or (), text.sun)

    def _camera(self, name: str, above: dict[str, Any], raw: dict[str, Any]) -> CameraPolicy:
        path = ("cameras", name)
        self._only(raw, _RULES | {"sectors", "lines"}, path)
        base = self._rules(above, raw, path)
        plain = self._plain_camera(name, base, raw, path)
        entries = (
            Scheduled(entry, when, self._plain_camera(name, self._rules(base, rules, ("schedule",)), raw, path))
            for entry, when, rules in self._schedule
        )
        return replace(plain, place=self._place, scheduled=tuple(entries))

    def _plain_camera(
        self, name: str, base: dict[str, Any], raw: dict[str, Any], path: tuple[str, ...]
    ) -> CameraPolicy:
        rules = _convert(Rules, base, path).complete()
        sectors = tuple(
            self._sector(sector, entry, base, (*path, "sectors", sector))
            for sector, entry in self._tables(raw, "sectors", path)
        ) or (Sector("view", WHOLE, rules),)
        lines = tuple(
            self._line(line, entry, (*path, "lines", line)) for line, entry in self._tables(raw, "lines", path)
        )
        apart = frozenset(
            (a.name, b.name) for a in sectors for b in sectors if a is not b and overlap(a.polygon, b.polygon) < 0.1
        )
        used = {t for place in (rules, *(s.rules for s in sectors)) for t in place.targets}
        groups = {target: self._targets[target] for target in sorted(used)}
        return CameraPolicy(self._site, name, "", groups, rules, sectors, lines, apart)

    def _sector(
        self,
        name: str,
        raw: dict[str, Any],
        above: dict[str, Any],
        path: tuple[str, ...],
    ) -> Sector:
        self._only(raw, _RULES | {"polygon", "coordinates"}, path)
        shape = _convert(_SectorText, {k: v for k, v in raw.items() if k not in _RULES}, path)
        if (shape.polygon is None) == (shape.coordinates is None):
            raise _Problem(path, 'give either polygon = [[x, y], ...] or Frigate\'s coordinates = "x,y,x,y,..."')
        try:
            points = shape.polygon if shape.polygon is not None else _frigate(shape.coordinates or "")
            if any(len(point) != 2 for point in points):
                raise ValueError("every point is a pair [x, y]")
            polygon = polygon_of(points)
        except ValueError as error:
            raise _Problem((*path, "coordinates" if shape.coordinates else "polygon"), str(error)) from None
        return Sector(name, polygon, _convert(Rules, self._rules(above, raw, path), path).complete())

    def _line(self, name: str, raw: dict[str, Any], path: tuple[str, ...]) -> Line:
        text = _convert(_LineText, raw, path)
        if text.a == text.b:
            raise _Problem(path, "a and b are the same point")
        return Line(name, text.a, text.b, text.directions)

    def _rules(
        self,
        above: dict[str, Any],
        raw: dict[str, Any],
        path: tuple[str, ...],
    ) -> dict[str, Any]:
        """The rules of a place: what stands here over what stands above, tables merged, lists replaced."""
        merged = dict(above)
        for key in _RULES & raw.keys():
            value = raw[key]
            if isinstance(value, dict) and isinstance(merged.get(key), dict):
                value = merged[key] | value
            merged[key] = value
        rules = _convert(Rules, merged, path)
        for target in rules.targets:
            if target not in self._targets:
                raise _Problem((*path, "targets"), f"unknown target `{target}`{_suggest(target, self._targets)}")
        if rules.movement.sights > rules.movement.of:
            raise _Problem((*path, "movement", "sights"), "more frames are asked for than `of` looks at")
        given = rules.sensitivity
        if given.rule != "at_least" and given.k != 1:
            raise _Problem((*path, "sensitivity", "k"), 'k only means something with rule = "at_least"')
        if given.rule != "weighted" and given.weights:
            raise _Problem((*path, "sensitivity", "weights"), 'weights only mean something with rule = "weighted"')
        return merged

    def _tables(self, raw: dict[str, Any], key: str, path: tuple[str, ...]) -> list[tuple[str, dict[str, Any]]]:
        tables = raw.get(key, {})
        if not isinstance(tables, dict):
            raise _Problem((*path, key), f"write tables: [{'.'.join((*path, key, 'NAME'))}]")
        for name, entry in tables.items():
            if not _NAME.fullmatch(name):
                raise _Problem((*path, key, name), "names are lower-case letters, digits, - and _")
            if not isinstance(entry, dict):
                raise _Problem((*path, key, name), "must be a table")
        return list(tables.items())

    def _only(self, raw: dict[str, Any], known: frozenset[str], path: tuple[str, ...]) -> None:
        for key in raw:
            if key not in known:
                raise _Problem((*path, key), f"unknown key{_suggest(key, known)}")


def _suggest(word: str, known: Mapping[str, object] | frozenset[str]) -> str:
    close = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean `{close[0]}`?" if close else f"; known here: {', '.join(sorted(known))}"


def _frigate(text: str) -> list[list[float]]:
    try:
        numbers = [float(n) for n in text.split(",")]
    except ValueError:
        raise ValueError(f"coordinates must be numbers parted by commas, not {text!r}") from None
    if len(numbers) % 2:
        raise ValueError("coordinates hold an odd count of numbers; they come in pairs x,y")
    return [list(pair) for pair in zip(numbers[::2], numbers[1::2], strict=True)]


_UNKNOWN = re.compile(r"Object contains unknown field `(?P<field>[^`]*)`(?: - at `\$\.?(?P<at>[^`]*)`)?")
_AT = re.compile(r"(?P<what>.*?)(?: - at `\$\.?(?P<at>[^`]*)`)?$")


def _convert(kind: type[T], raw: object, path: tuple[str, ...]) -> T:
    try:
        return msgspec.convert(raw, kind)
    except msgspec.ValidationError as error:
        message = str(error)
    if found := _UNKNOWN.match(message):
        inner = (*path, *_inner(found["at"]))
        table = _TABLES.get(inner[-1] if inner else "", kind)
        known = frozenset(getattr(table, "__struct_fields__", ()))
        raise _Problem((*inner, found["field"]), f"unknown key{_suggest(found['field'], known)}")
    parts = _AT.match(message)
    assert parts is not None
    raise _Problem((*path, *_inner(parts["at"])), parts["what"].lower())


_TABLES = {"sensitivity": Sensitivity, "presence": Presence, "movement": Movement}


def _inner(at: str | None) -> tuple[str, ...]:
    return tuple(p for p in re.split(r"\.|\[[^\]]*\]", at or "") if p)
