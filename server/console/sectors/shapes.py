"""What is drawn of a camera: sectors, lines with their ways, ignored areas, and faults at the shape that has them."""

from __future__ import annotations

import re
import tomllib
from typing import Any

import msgspec

from policies.geometry import Point
from policies.observation import Box
from policies.site.site_policy import InvalidPolicy, all_faults, parse_site_policy
from server.console.drawing import svg_points
from server.pipeline.remarks import in_picture

MOST_BYTES = 64_000
MOST_SECTORS = 50
MOST_CORNERS = 100
"""What a page reads while somebody waits: beside it, the server judges. A larger file is edited by hand."""

_PLACE = re.compile(r"^(?:line \d+: )?cameras\.([\w-]+)\.(sectors|lines|suppress)(?:\.([\w-]+))?")


class SectorShape(msgspec.Struct, frozen=True):
    """A sector: its corners in 0..1 of the picture."""

    name: str
    corners: tuple[Point, ...]
    enlarge: bool

    @property
    def points(self) -> str:
        return svg_points(self.corners)


class LineShape(msgspec.Struct, frozen=True):
    """A line from `a` to `b`, the names of its two ways, and in words from where each comes in the picture."""

    name: str
    a: Point
    b: Point
    directions: tuple[str, str]
    come_from: tuple[str, str]


class IgnoredShape(msgspec.Struct, frozen=True):
    """A known nuisance: its box."""

    name: str
    box: Box


class Shapes(msgspec.Struct, frozen=True):
    """All shapes of a camera."""

    sectors: tuple[SectorShape, ...] = ()
    lines: tuple[LineShape, ...] = ()
    ignored: tuple[IgnoredShape, ...] = ()


class Fault(msgspec.Struct, frozen=True):
    """What keeps a text from being a policy. `at` names the shape that has it (`sectors.table`), or is empty."""

    at: str
    words: str


def shapes_of(text: str, camera: str) -> Shapes:
    """The shapes in a policy's text; none where it cannot be used, and where the camera has none."""
    try:
        policy = parse_site_policy("" if _too_much(text) else text)
    except InvalidPolicy:
        return Shapes()
    if camera not in policy.cameras:
        return Shapes()
    of_camera = policy.cameras[camera]
    is_whole = [sector.name for sector in of_camera.sectors] == ["view"] and ".sectors" not in text
    return Shapes(
        () if is_whole else tuple(SectorShape(s.name, tuple(s.polygon), s.enlarge) for s in of_camera.sectors),
        tuple(
            LineShape(
                each.name, each.a, each.b, each.directions, (in_picture(each.sides[0]), in_picture(each.sides[1]))
            )
            for each in of_camera.lines
        ),
        tuple(IgnoredShape(each.name, each.box) for each in of_camera.suppressions),
    )


def faults_of(text: str, camera: str) -> tuple[Fault, ...]:
    """What keeps the text from being a policy, each at its shape where it is of one of this camera."""
    too_much = _too_much(text)
    return tuple(Fault(_at(words, camera), words) for words in (too_much or all_faults(text)))


def _too_much(text: str) -> tuple[str, ...]:
    """Why a text is more than a page takes; empty where it is not, and where it is no TOML."""
    by_hand = "propose a larger one with `sectorwatch policy propose`"
    if len(text.encode()) > MOST_BYTES:
        return (f"the file is larger than {MOST_BYTES // 1000} kB; {by_hand}",)
    try:
        cameras = tomllib.loads(text).get("cameras")
    except (tomllib.TOMLDecodeError, RecursionError):
        return ()
    found = []
    for camera, of_camera in _tables(cameras):
        sectors = _tables(of_camera.get("sectors"))
        if len(sectors) > MOST_SECTORS:
            found.append(f"cameras.{camera}.sectors: it has {len(sectors)}, and a page draws {MOST_SECTORS}; {by_hand}")
        for name, sector in sectors:
            polygon = sector.get("polygon")
            drawn = len(polygon) if isinstance(polygon, list) else 0
            corners = max(drawn, str(sector.get("coordinates", "")).count(",") // 2)
            if corners > MOST_CORNERS:
                what = f"it has {corners} corners, and a page draws {MOST_CORNERS}; {by_hand}"
                found.append(f"cameras.{camera}.sectors.{name}: {what}")
    return tuple(found)


def _tables(value: object) -> list[tuple[str, dict[str, Any]]]:
    if not isinstance(value, dict):
        return []
    return [(name, each) for name, each in value.items() if isinstance(each, dict)]


def _at(words: str, camera: str) -> str:
    found = _PLACE.match(words)
    if found is None or found[1] != camera:
        return ""
    return f"{found[2]}.{found[3]}" if found[3] else found[2]
