"""The parts of a site policy besides its rules: how they stand in TOML, what is checked, and what is read of them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, time, timedelta
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

from policies.geometry import Polygon, in_pixels, points_of, polygon_of
from policies.observation import Box
from policies.site.layers import OF_TRACKS, RULE_KEYS, Targets, check_targets
from policies.site.rules import Fraction
from policies.site.schedule import Day, Place, When
from policies.site.sectors import MOST_ENLARGED, Line, Sector
from policies.site.suppression import Suppression
from policies.site.toml_errors import Path, Problem, convert, listed, only, ready

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
PLACE_KEYS = frozenset(Place.__struct_fields__)
SITE_KEYS = RULE_KEYS | PLACE_KEYS | {"site", "target", "cameras", "schedule"}
"""What may stand at the top of a site policy."""


class SectorText(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    polygon: list[list[float]] | None = None
    coordinates: str | None = None
    enlarge: bool = False


class LineText(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    a: tuple[Fraction, Fraction]
    b: tuple[Fraction, Fraction]
    directions: tuple[str, str] = ("left_to_right", "right_to_left")


class TargetText(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    classes: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)]


class ScheduleText(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    between: tuple[str, str] | None = None
    days: Annotated[tuple[Day, ...], msgspec.Meta(min_length=1)] | None = None
    sun: Literal["up", "down"] | None = None
    darker_than: Fraction | None = None
    brighter_than: Fraction | None = None


class SuppressionText(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    box: tuple[Fraction, Fraction, Fraction, Fraction]
    overlap: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.5
    targets: tuple[str, ...] = ()
    max_score: Fraction = 1.0
    between: tuple[str, str] | None = None


ready(Place, SectorText, LineText, TargetText, ScheduleText, SuppressionText)


_WHEN_KEYS = frozenset(ScheduleText.__struct_fields__)


def read_place(raw: dict[str, Any]) -> Place:
    """Where the site is, from the keys at the top of its file."""
    place = convert(Place, {key: raw[key] for key in PLACE_KEYS & raw.keys()}, ())
    try:
        ZoneInfo(place.timezone)
    except (ZoneInfoNotFoundError, ValueError, OSError):  # a folder of zones, as "Europe" is
        raise Problem(("timezone",), f'no such time zone {place.timezone!r}; for example "Europe/Oslo"') from None
    return place


def read_schedules(raw: dict[str, Any], place: Place) -> list[tuple[str, When, dict[str, Any]]]:
    """Each schedule's name, its time, and the rules that hold then, as they stand in the file."""
    schedules = []
    for entry in listed(raw, "schedule", (), "write [[schedule]] tables, the first that holds wins"):
        only(entry, RULE_KEYS | _WHEN_KEYS, ("schedule",))
        text = convert(ScheduleText, {k: v for k, v in entry.items() if k not in RULE_KEYS}, ("schedule",))
        schedules.append((text.name, _when(text, place), {k: v for k, v in entry.items() if k in RULE_KEYS}))
    return schedules


def _when(text: ScheduleText, place: Place) -> When:
    if text.sun is not None and (place.latitude is None or place.longitude is None):
        raise Problem(("schedule", "sun"), "needs the site's latitude and longitude")
    start, end = _hours(text.between, ("schedule", "between"))
    when = When(start, end, text.days or (), text.sun, text.darker_than, text.brighter_than)
    brightest = 1 if text.darker_than is None else text.darker_than
    if brightest <= (text.brighter_than or 0):
        raise Problem(("schedule", "darker_than"), "no frame lies between `brighter_than` and this")
    if when == When():
        raise Problem(("schedule",), f"`{text.name}` names no time: give between, days, sun or a brightness")
    return when


def read_suppressions(raw: dict[str, Any], path: Path, targets: Targets) -> tuple[Suppression, ...]:
    """A camera's known nuisances."""
    here = (*path, "suppress")
    suppressions: dict[str, Suppression] = {}
    for entry in listed(raw, "suppress", path, f"write [[{'.'.join(here)}]] tables"):
        _check_fractions(entry, ("box",), here)
        text = convert(SuppressionText, entry, here)
        if text.name in suppressions:
            raise Problem((*here, "name"), f"`{text.name}` is there twice")
        if not (text.box[0] < text.box[2] and text.box[1] < text.box[3]):
            raise Problem((*here, "box"), "write [x1, y1, x2, y2] with x1 < x2 and y1 < y2")
        check_targets(text.targets, (*here, "targets"), targets)
        when = When(*_hours(text.between, (*here, "between")))
        suppressions[text.name] = Suppression(text.name, text.box, text.overlap, text.targets, text.max_score, when)
    return tuple(suppressions.values())


def read_sector(raw: dict[str, Any], path: Path) -> tuple[Polygon, bool]:
    """A sector's polygon, whether it is to be enlarged, and a check that it sets no rule that belongs to a track."""
    only(raw, RULE_KEYS | frozenset(SectorText.__struct_fields__), path)
    movement = raw.get("movement")
    for key in movement if isinstance(movement, dict) else ():
        if key in OF_TRACKS:
            raise Problem((*path, "movement", key), "belongs to a track wherever it goes: set it for camera or site")
    shape = convert(SectorText, {k: v for k, v in raw.items() if k not in RULE_KEYS}, path)
    if (shape.polygon is None) == (shape.coordinates is None):
        raise Problem(path, 'give either polygon = [[x, y], ...] or Frigate\'s coordinates = "x,y,x,y,..."')
    try:
        points = shape.polygon if shape.polygon is not None else points_of(shape.coordinates or "")
        if any(len(point) != 2 for point in points):
            raise ValueError("every point is a pair [x, y]")
        return polygon_of(points), shape.enlarge
    except ValueError as error:
        raise Problem((*path, "polygon" if shape.coordinates is None else "coordinates"), str(error)) from None


def check_enlarged(sectors: Sequence[Sector], path: Path) -> None:
    """Raises Problem at the first sector with which a camera has more enlarged parts than the server has time for."""
    windows: set[Box] = set()
    for sector in sectors:
        if sector.times_larger > 1:
            windows.add(sector.window)
        if len(windows) > MOST_ENLARGED:
            raise Problem(
                (*path, "sectors", sector.name, "enlarge"),
                f"a camera has at most {MOST_ENLARGED} enlarged parts, and each costs one more image of every frame: "
                "enlarge fewer sectors, or draw one around those that lie together",
            )


def read_line(name: str, raw: dict[str, Any], path: Path) -> Line:
    """A counting line."""
    _check_fractions(raw, ("a", "b"), path)
    text = convert(LineText, raw, path)
    if text.a == text.b:
        raise Problem(path, "a and b are the same point")
    if not all(text.directions) or text.directions[0] == text.directions[1]:
        raise Problem((*path, "directions"), "give the two ways over the line a name each")
    return Line(name, text.a, text.b, text.directions)


def read_look(raw: dict[str, Any], path: Path) -> int | None:
    """When somebody last looked what the camera shows, in microseconds of Unix time; None: never."""
    given = raw.get("looked_at")
    try:
        looked = datetime.fromisoformat(given) if isinstance(given, str) else given
    except ValueError:
        looked = None
    if given is not None and (not isinstance(looked, datetime) or looked.tzinfo is None):
        raise Problem((*path, "looked_at"), 'write an instant with its offset, as "2026-11-29T17:30:00Z"')
    return None if looked is None else (looked - _EPOCH) // timedelta(microseconds=1)


def _check_fractions(raw: dict[str, Any], keys: tuple[str, ...], path: Path) -> None:
    """Raises Problem for coordinates in pixels."""
    for key in keys:
        numbers = raw.get(key)
        is_numbers = isinstance(numbers, list) and all(type(number) in (int, float) for number in numbers)
        if is_numbers and numbers and (hint := in_pixels(numbers)):
            raise Problem((*path, key), hint)


def _hours(between: tuple[str, str] | None, path: Path) -> tuple[time | None, time | None]:
    """A stretch of the day by the site's clock; None and None: all of it."""
    if between is None:
        return None, None
    try:
        start, end = (time.fromisoformat("00:00" if clock == "24:00" else clock) for clock in between)
        if start.tzinfo or end.tzinfo:
            raise ValueError("the clock is the site's")
    except ValueError:
        raise Problem(path, 'write two times of the site\'s clock: ["22:00", "06:00"]') from None
    return start, end
