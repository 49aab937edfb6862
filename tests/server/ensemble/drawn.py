"""Draws the pictures of the shipped golden set, always the same, so that the set needs no footage.

A yard under a grey sky, then people who walk through it, then things that networks know by outline and colour. Each
picture is one frame of a burst, in this order. The things are those of forty about which the classifiers or detectors
are sure, and less sure when the channels, the scale, the crop or the resizing change (`test_golden_faults.py`).

`python -m tests.server.ensemble.drawn` writes the pictures into the package. After that the answers need to be
approved anew (`server/ensemble/README.md`, Versions).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from io import BytesIO

from PIL import Image, ImageDraw

from server.ensemble import shipped_golden

WIDTH, HEIGHT = 384, 288
_SMOOTH = 3
_QUALITY = 90

Pen = ImageDraw.ImageDraw
Colour = tuple[int, int, int]

_COAT, _LEGS, _SKIN = (38, 40, 52), (24, 26, 34), (196, 150, 124)
_SKY, _GROUND = (188, 196, 206), (126, 128, 124)


def pictures() -> dict[str, bytes]:
    """File name -> JPEG, in the order of time."""
    scenes: dict[str, tuple[Callable[[Pen], None], ...]] = {
        "01-empty": (),
        "02-still-empty": (),
        "03-walker": (lambda pen: _walker(pen, 118, 262, 168),),
        "04-two-walkers": (lambda pen: _walker(pen, 110, 264, 190), lambda pen: _walker(pen, 280, 258, 170)),
        "05-stop-sign": (lambda pen: _stop_sign(pen, 196, 122, 84),),
        "06-clock": (lambda pen: _clock(pen, 192, 140, 112),),
        "07-balloon": (lambda pen: _balloon(pen, 192, 120, 92),),
        "08-pumpkin": (lambda pen: _pumpkin(pen, 192, 160, 92),),
        "09-football": (lambda pen: _football(pen, 192, 144, 120),),
        "10-parachute": (lambda pen: _parachute(pen, 192, 130, 120),),
        "11-far-walkers": tuple(partial(_far_walker, x=x) for x in (80, 190, 300)),
    }
    return {f"{name}.jpg": _jpeg(parts) for name, parts in scenes.items()}


def _jpeg(parts: tuple[Callable[[Pen], None], ...]) -> bytes:
    picture = _yard()
    pen = ImageDraw.Draw(picture)
    for draw in parts:
        draw(pen)
    file = BytesIO()
    picture.resize((WIDTH, HEIGHT), Image.Resampling.BOX).save(file, "JPEG", quality=_QUALITY)
    return file.getvalue()


def _yard() -> Image.Image:
    """Sky and ground, each a little darker towards the horizon, and a wall between them."""
    picture = Image.new("RGB", (WIDTH * _SMOOTH, HEIGHT * _SMOOTH))
    pen = ImageDraw.Draw(picture)
    horizon = HEIGHT * _SMOOTH * 4 // 9
    for y in range(HEIGHT * _SMOOTH):
        far = abs(y - horizon) / horizon
        base = _SKY if y < horizon else _GROUND
        light = 0.82 + 0.16 * min(far, 1)
        colour = (int(base[0] * light), int(base[1] * light), int(base[2] * light))
        pen.line((0, y, WIDTH * _SMOOTH, y), fill=colour)
    _polygon(pen, [(0, 96), (384, 84), (384, 130), (0, 138)], (142, 122, 108))
    return picture


def _walker(pen: Pen, x: float, feet: float, height: float) -> None:
    """Somebody walking, `height` pixels high with the feet at `feet`."""
    unit = height / 8
    _limb(pen, (x, feet - 4 * unit), (x - 0.9 * unit, feet - 2 * unit), (x - 1.1 * unit, feet), 0.8 * unit, _LEGS)
    _limb(pen, (x, feet - 4 * unit), (x + 0.8 * unit, feet - 2.1 * unit), (x + 0.7 * unit, feet), 0.8 * unit, _LEGS)
    shoulders, hips = feet - 6.6 * unit, feet - 3.6 * unit
    _polygon(
        pen,
        [(x - unit, shoulders), (x + unit, shoulders), (x + 0.8 * unit, hips), (x - 0.8 * unit, hips)],
        _COAT,
    )
    _limb(pen, (x - unit, shoulders + 0.3 * unit), (x - 1.4 * unit, hips - unit), (x - unit, hips), 0.55 * unit, _COAT)
    _limb(pen, (x + unit, shoulders + 0.3 * unit), (x + 1.4 * unit, hips - unit), (x + unit, hips), 0.55 * unit, _COAT)
    _disc(pen, x, feet - 7.3 * unit, 0.62 * unit, _SKIN)
    _line(pen, [(x, shoulders - 0.4 * unit), (x, shoulders)], 0.6 * unit, _SKIN)
    _disc(pen, x, feet - 7.55 * unit, 0.5 * unit, (46, 34, 28))


def _far_walker(pen: Pen, x: float) -> None:
    _walker(pen, x, 240, 70)


def _stop_sign(pen: Pen, x: float, y: float, radius: float) -> None:
    _polygon(pen, [(x - 5, y), (x + 5, y), (x + 5, HEIGHT), (x - 5, HEIGHT)], (150, 152, 156))
    for size, colour in ((1.0, (238, 238, 238)), (0.93, (186, 20, 32))):
        corners = [(x + radius * size * math.cos(a), y + radius * size * math.sin(a)) for a in _eighths()]
        _polygon(pen, corners, colour)
    for place, strokes in enumerate(_STOP):
        left, top, unit = x + (place - 2) * radius * 0.38 + radius * 0.04, y - radius * 0.26, radius * 0.13
        for stroke in strokes:
            points = [(left + px * unit, top + py * unit) for px, py in stroke]
            _line(pen, points, radius * 0.085, (244, 244, 244))


_STOP: tuple[list[list[tuple[float, float]]], ...] = (
    [[(2.2, 0.5), (1.6, 0), (0.6, 0), (0, 0.7), (0.6, 1.8), (1.6, 2.2), (2.2, 3.2), (1.6, 4), (0.6, 4), (0, 3.5)]],
    [[(0, 0), (2.2, 0)], [(1.1, 0), (1.1, 4)]],
    [[(1.1, 0), (0.2, 0.8), (0.2, 3.2), (1.1, 4), (2.0, 3.2), (2.0, 0.8), (1.1, 0)]],
    [[(0, 4), (0, 0), (1.4, 0), (2.1, 0.6), (2.1, 1.5), (1.4, 2.1), (0, 2.1)]],
)
"""The letters' strokes."""


def _balloon(pen: Pen, x: float, y: float, radius: float) -> None:
    _line(pen, [(x, y + radius), (x - 6, HEIGHT)], 2, (60, 60, 60))
    _globe(pen, x, y, radius, (220, 40, 50), tall=1.1)
    knot = y + 1.05 * radius
    _polygon(pen, [(x - 10, knot + 16), (x + 10, knot + 16), (x, knot)], (160, 20, 30))


def _pumpkin(pen: Pen, x: float, y: float, radius: float) -> None:
    """With a face cut into it, and a light inside."""
    for side, size in ((-0.76, 0.76), (0.76, 0.76), (-0.39, 0.91), (0.39, 0.91), (0, 1)):
        _globe(pen, x + side * radius, y, size * radius, (240, 130, 24), tall=1.05)
    _line(pen, [(x, y - 0.98 * radius), (x + 0.13 * radius, y - 1.35 * radius)], 0.17 * radius, (80, 100, 40))
    for shape in _FACE:
        _polygon(pen, [(x + px * radius, y + py * radius) for px, py in shape], (255, 226, 90))


_FACE: tuple[list[tuple[float, float]], ...] = (
    [(-0.67, -0.22), (-0.13, -0.22), (-0.4, -0.61)],
    [(0.67, -0.22), (0.13, -0.22), (0.4, -0.61)],
    [(-0.13, 0.11), (0.13, 0.11), (0, -0.11)],
    [
        *[(-0.89, 0.28), (-0.57, 0.43), (-0.46, 0.3), (-0.28, 0.5), (-0.09, 0.37), (0.09, 0.5), (0.26, 0.37)],
        *[(0.48, 0.48), (0.57, 0.33), (0.89, 0.28), (0.52, 0.76), (0, 0.89), (-0.52, 0.76)],
    ],
)
"""Eyes, nose and mouth."""


def _football(pen: Pen, x: float, y: float, radius: float) -> None:
    _globe(pen, x, y, radius, (250, 250, 250))
    upward = -math.pi / 2
    _patch(pen, x, y, 0.3 * radius, upward)
    for angle in (upward + fifth * math.tau / 5 for fifth in range(5)):
        along = (math.cos(angle), math.sin(angle))
        _patch(pen, x + 0.79 * radius * along[0], y + 0.79 * radius * along[1], 0.21 * radius, angle + math.pi)
        seam = [(x + share * radius * along[0], y + share * radius * along[1]) for share in (0.3, 0.59)]
        _line(pen, seam, 3, (60, 60, 60))


def _patch(pen: Pen, x: float, y: float, radius: float, turned: float) -> None:
    angles = [turned + fifth * math.tau / 5 for fifth in range(5)]
    _polygon(pen, [(x + radius * math.cos(a), y + radius * math.sin(a)) for a in angles], (24, 24, 26))


def _parachute(pen: Pen, x: float, y: float, radius: float) -> None:
    """In eight strips, with somebody hanging from it."""
    person = (x, y + radius)
    for strip in range(8):
        rim = [math.pi + (strip + step / 6) * math.pi / 8 for step in range(7)]
        edge = [(x + radius * math.cos(a), y + 0.92 * radius * math.sin(a)) for a in rim]
        _polygon(pen, [(x, y - 0.92 * radius), *edge], (250, 250, 250) if strip % 2 else (230, 40, 40))
        _line(pen, [edge[0], person], 1.4, (240, 240, 240))
    _line(pen, [person, (x, person[1] + 26)], 9, (30, 30, 40))
    _disc(pen, x, person[1] - 6, 7, (200, 150, 120))


def _globe(pen: Pen, x: float, y: float, radius: float, colour: Colour, *, tall: float = 1.0) -> None:
    """Lit from the upper left."""
    for step in range(24):
        share = step / 24
        light = 0.5 + 0.5 * share
        size = radius * (1 - 0.85 * share)
        place = (x - 0.22 * share * radius, y - 0.28 * share * radius)
        shade = (int(colour[0] * light), int(colour[1] * light), int(colour[2] * light))
        _disc(pen, *place, size, shade, tall=tall)


def _clock(pen: Pen, x: float, y: float, radius: float) -> None:
    _disc(pen, x, y, radius, (40, 36, 34))
    _disc(pen, x, y, radius * 0.9, (244, 242, 234))
    for hour in range(12):
        angle = hour * math.pi / 6
        inner = 0.68 if hour % 3 == 0 else 0.76
        points = [(x + radius * r * math.cos(angle), y + radius * r * math.sin(angle)) for r in (inner, 0.84)]
        _line(pen, points, radius * (0.07 if hour % 3 == 0 else 0.035), (20, 20, 20))
    _line(pen, [(x, y), (x - radius * 0.3, y - radius * 0.38)], radius * 0.07, (20, 20, 20))
    _line(pen, [(x, y), (x + radius * 0.5, y - radius * 0.42)], radius * 0.05, (20, 20, 20))


def _eighths() -> list[float]:
    return [math.pi / 8 + index * math.pi / 4 for index in range(8)]


def _limb(
    pen: Pen,
    start: tuple[float, float],
    bend: tuple[float, float],
    end: tuple[float, float],
    width: float,
    fill: Colour,
) -> None:
    _line(pen, [start, bend, end], width, fill)


def _line(pen: Pen, points: list[tuple[float, float]], width: float, fill: Colour) -> None:
    scaled = [(x * _SMOOTH, y * _SMOOTH) for x, y in points]
    pen.line(scaled, fill=fill, width=max(1, round(width * _SMOOTH)), joint="curve")


def _polygon(pen: Pen, points: list[tuple[float, float]], fill: Colour) -> None:
    pen.polygon([(x * _SMOOTH, y * _SMOOTH) for x, y in points], fill=fill)


def _disc(pen: Pen, x: float, y: float, radius: float, fill: Colour, *, tall: float = 1.0) -> None:
    edges = [value * _SMOOTH for value in (x - radius, y - radius * tall, x + radius, y + radius * tall)]
    pen.ellipse(edges, fill=fill)


if __name__ == "__main__":
    for name, content in pictures().items():
        (shipped_golden() / name).write_bytes(content)
