"""Painted pictures of two places, and an ensemble that really sees who stands in them.

Nothing in them is anybody's: they may be shown in documents.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Literal, NamedTuple

from PIL import Image, ImageDraw

from policies.observation import Box, EnsembleInfo, ModelInfo, Prediction

WIDTH, HEIGHT = 640, 480
TALL = 0.22
"""Of a person, in parts of the picture's height."""
Place = Literal["gate", "shed"]
_COMMENT = b"\xff\xfe"
_Colour = tuple[int, int, int]
_DUSK = 120
"""Red of the sky: when it is darker, one model sees nobody."""
_SHIRTS: Mapping[bool, _Colour] = {False: (214, 32, 70), True: (206, 40, 206)}
"""Of somebody whom every model sees, and (True) of somebody whom one sees faintly."""


class Person(NamedTuple):
    """Somebody whose feet stand at (x, y), in parts of the picture."""

    x: float
    y: float
    faint: bool = False


def painted(place: Place, at_us: int, person: Person | None = None, *, night: bool = False) -> bytes:
    """A JPEG of a place. No two instants have the same bytes, as of a living camera."""
    picture = _painted(place, person, night)
    mark = f"{place} {at_us}".encode()
    return picture[:2] + _COMMENT + (len(mark) + 2).to_bytes(2, "big") + mark + picture[2:]


def _unmarked(image: bytes) -> bytes:
    return image[:2] + image[4 + int.from_bytes(image[4:6], "big") :] if image[2:4] == _COMMENT else image


@lru_cache(maxsize=4096)
def _painted(place: Place, person: Person | None, night: bool) -> bytes:
    picture = _ground(place).copy()
    if person is not None:
        _paint_person(ImageDraw.Draw(picture), person)
    if night:
        picture = Image.blend(picture, Image.new("RGB", picture.size, (12, 16, 40)), 0.45)
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=85)
    return out.getvalue()


@lru_cache
def _ground(place: Place) -> Image.Image:
    picture = Image.new("RGB", (WIDTH, HEIGHT), (150, 186, 214))
    draw = ImageDraw.Draw(picture)

    def area(x1: float, y1: float, x2: float, y2: float, colour: _Colour) -> None:
        draw.rectangle((x1 * WIDTH, y1 * HEIGHT, x2 * WIDTH, y2 * HEIGHT), fill=colour)

    area(0, 0.34, 1, 1, (106, 142, 78))
    for index in range(9):
        draw.ellipse((index * 80 - 30, 116, index * 80 + 66, 190), fill=(64, 104, 60))
    if place == "gate":
        area(0, 0.55, 1, 0.74, (128, 128, 124))
        for index in range(8):
            area(0.02 + index / 8, 0.64, 0.07 + index / 8, 0.65, (226, 222, 200))
        area(0.62, 0.86, 0.84, 0.89, (122, 84, 48))
        area(0.64, 0.89, 0.66, 0.97, (98, 66, 38))
        area(0.80, 0.89, 0.82, 0.97, (98, 66, 38))
        area(0.10, 0.30, 0.12, 0.56, (90, 90, 96))
    else:
        area(0.30, 0.22, 0.72, 0.70, (150, 142, 130))
        draw.polygon([(170, 110), (326, 40), (484, 110)], fill=(84, 84, 90))
        area(0.45, 0.42, 0.57, 0.70, (64, 72, 66))
        area(0.28, 0.70, 0.76, 0.84, (170, 160, 140))
    return picture


def _paint_person(draw: ImageDraw.ImageDraw, person: Person) -> None:
    x, feet, tall = person.x * WIDTH, person.y * HEIGHT, TALL * HEIGHT
    wide = tall * 0.14
    draw.rectangle((x - wide * 0.8, feet - tall * 0.45, x + wide * 0.8, feet), fill=(40, 44, 70))
    draw.rectangle((x - wide, feet - tall * 0.82, x + wide, feet - tall * 0.45), fill=_SHIRTS[person.faint])
    draw.ellipse((x - wide * 0.6, feet - tall, x + wide * 0.6, feet - tall * 0.82), fill=(226, 186, 150))


class PaintedEnsemble:
    """Finds people by their shirts. Its models have names of the catalogue, so that the pages show their cards."""

    def __init__(self) -> None:
        models = ("yolov3-tiny", "nanodet-g", "ssdlite-people")
        self.ensemble_info = EnsembleInfo(
            "a11ce" + "0" * 59, tuple(ModelInfo(name, frozenset({"person"}), boxes=True) for name in models)
        )

    def only(self, model: str | None, within_s: float | None = None) -> PaintedEnsemble:
        return self

    def answer(
        self, images: Sequence[bytes], crops: Mapping[str, Box] | None = None, enlarged: Sequence[Box] = ()
    ) -> list[dict[str, tuple[Prediction, ...] | None]]:
        return [dict(_seen(_unmarked(image))) for image in images]


@lru_cache(maxsize=4096)
def _seen(image: bytes) -> Mapping[str, tuple[Prediction, ...]]:
    with Image.open(io.BytesIO(image)) as opened:
        small = opened.convert("RGB").reduce(2)
    faint, clear = (_shirt(small, is_faint=is_faint) for is_faint in (True, False))
    sky = small.getpixel((2, 2))
    is_night = isinstance(sky, tuple) and sky[0] < _DUSK
    return {
        "yolov3-tiny": _person(clear, 0.86),
        "nanodet-g": _person(clear, 0.71) or _person(faint, 0.15),
        "ssdlite-people": () if is_night and clear else _person(clear, 0.93) or _person(faint, 0.31),
    }


def _shirt(picture: Image.Image, *, is_faint: bool) -> Box | None:
    """The shirt's rectangle, in parts of the picture."""
    red, green, blue = picture.split()
    above = blue.point(lambda level: 255 * (level > 90)) if is_faint else blue.point(lambda level: 255 * (level <= 90))
    loud = Image.composite(above, Image.new("L", picture.size), red.point(lambda level: 255 * (level > 110)))
    bounds = Image.composite(
        loud, Image.new("L", picture.size), green.point(lambda level: 255 * (level < 60))
    ).getbbox()
    if bounds is None or bounds[2] - bounds[0] < 3:
        return None
    x1, y1, x2, y2 = bounds
    return x1 / picture.width, y1 / picture.height, x2 / picture.width, y2 / picture.height


def _person(shirt: Box | None, score: float) -> tuple[Prediction, ...]:
    """A person around a shirt, which reaches from .45 to .82 of its height."""
    if shirt is None:
        return ()
    x1, y1, x2, y2 = shirt
    tall = (y2 - y1) / 0.37
    box = tuple(round(min(max(edge, 0.0), 1.0), 4) for edge in (x1, y1 - 0.18 * tall, x2, y2 + 0.45 * tall))
    return (Prediction("person", score, (box[0], box[1], box[2], box[3])),)
