"""What is drawn of a camera: sectors, lines with their ways, ignored areas, and faults at the shape that has them."""

from __future__ import annotations

import re

import msgspec

from policies.geometry import Point
from policies.observation import Box
from policies.site.site_policy import InvalidPolicy, all_faults, parse_site_policy
from server.console.drawing import svg_points
from server.pipeline.remarks import in_picture

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
        policy = parse_site_policy(text)
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
    return tuple(Fault(_at(words, camera), words) for words in all_faults(text))


def _at(words: str, camera: str) -> str:
    found = _PLACE.match(words)
    if found is None or found[1] != camera:
        return ""
    return f"{found[2]}.{found[3]}" if found[3] else found[2]
