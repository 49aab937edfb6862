"""Pictures drawn by ourselves, always the same: what the shipped golden set is made of, so that no footage is.

A yard under a grey sky; then somebody, drawn with straight strokes, walks through it; then things that networks
know by their outline and colour alone. Each picture is one frame of a burst, in this order.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from io import BytesIO

from PIL import Image, ImageDraw

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
        "1-empty": (),
        "2-still-empty": (),
        "3-walker-left": (lambda pen: _walker(pen, 118, 262, 168),),
        "4-walker-right": (lambda pen: _walker(pen, 258, 266, 180),),
        "5-stop-sign": (lambda pen: _stop_sign(pen, 196, 122, 84),),
        "6-ball": (lambda pen: _ball(pen, 190, 168, 92),),
        "7-clock": (lambda pen: _clock(pen, 192, 140, 112),),
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


def _ball(pen: Pen, x: float, y: float, radius: float) -> None:
    for step in range(24):
        share = step / 24
        light = 0.55 + 0.45 * share
        colour = (int(250 * light), int(146 * light), int(24 * light))
        _disc(pen, x - share * radius * 0.2, y - share * radius * 0.25, radius * (1 - share * 0.8), colour)
    _disc(pen, x + 2, y - radius * 0.9, radius * 0.06, (70, 90, 40))


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


def _disc(pen: Pen, x: float, y: float, radius: float, fill: Colour) -> None:
    edges = [value * _SMOOTH for value in (x - radius, y - radius, x + radius, y + radius)]
    pen.ellipse(edges, fill=fill)
