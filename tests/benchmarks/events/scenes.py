"""Pictures of scenes that nobody filmed, with the true boxes of what moves in them.

Vehicles drive over a road with grain, in front of and behind things that stand. Each scene adds what makes movement
hard to see: a dark night with headlights, shadows, rain, a camera that shakes, trees in the wind, insects before the
lens, a vehicle that parks, a camera that somebody turns. A scene and a seed always give the same pictures.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

WIDE, HIGH = 640, 360
PICTURES_PER_S = 10
"""Pictures for which there are true boxes; any of them can be drawn."""
LEAST_SHOWN = 0.5
"""A vehicle is there from this part of it in view."""

Picture = NDArray[np.uint8]
Light = NDArray[np.float32]
PixelBox = tuple[float, float, float, float]
Boxes = dict[int, list[tuple[int, PixelBox]]]
"""Vehicle -> its pictures, the first being 1, with left, top, width and height in pixels: the form of the event kit."""

Hazard = Literal["roofs", "night", "shadows", "rain", "shake", "wind", "clouds", "insects"]


@dataclass(frozen=True, slots=True)
class Scene:
    """What is drawn. `roofs`: vehicles are seen from straight above.

    `gap_s`: between the vehicles of a lane, from 0.5 to 1.5 of it (0: none come). `size`: the length of a vehicle in
    the middle of the picture, in pixels. `depth`: how much larger things are at the lower edge than at the upper one.
    `speed`: lengths a second. `parked_s`: one more vehicle stands from and until then. `turned_s`: when the camera is
    turned.
    """

    seconds: int
    gap_s: float
    hazards: frozenset[Hazard] = frozenset()
    size: float = 70.0
    depth: float = 1.0
    speed: float = 1.6
    parked_s: tuple[float, float] | None = None
    turned_s: float | None = None


SCENES = {
    "above": Scene(90, 11, frozenset({"roofs", "clouds"}), size=52),
    "night": Scene(90, 11, frozenset({"night"}), size=80, depth=1.8),
    "shadows": Scene(90, 11, frozenset({"shadows", "clouds"}), depth=1.5),
    "rain": Scene(90, 11, frozenset({"rain"}), depth=1.5),
    "shake": Scene(90, 11, frozenset({"shake"}), depth=1.5),
    "windy": Scene(90, 12, frozenset({"wind", "clouds", "insects"}), depth=1.5),
    "parked": Scene(110, 30, frozenset({"clouds"}), size=80, parked_s=(12, 78)),
    "turned": Scene(80, 11, size=60, turned_s=45),
    "empty": Scene(600, 0, frozenset({"wind", "clouds", "insects"}), depth=1.5),
}
"""The last one holds nothing that counts as a thing."""


@dataclass(frozen=True, slots=True)
class Vehicle:
    """One vehicle: its way along the middle of its lane (y in pixels, to the right or the left), its look, and the
    instants at which it starts and at which it stops and goes on.
    """

    at_s: float
    y: float
    way: int
    speed: float
    length: float
    height: float
    colour: tuple[int, int, int]
    stop_x: float | None = None
    stop_s: tuple[float, float] = (0.0, 0.0)

    def x(self, at_s: float) -> float:
        """The middle of it at an instant, in pixels."""
        start = -self.length if self.way > 0 else WIDE + self.length
        if self.stop_x is None:
            return start + self.way * self.speed * (at_s - self.at_s)
        stopped_s, leaves_s = self.stop_s
        if at_s <= leaves_s:
            left = max(stopped_s - at_s, 0.0)
            return self.stop_x - self.way * self.speed * left * min(1.0, 0.5 + left / 4)
        gone = at_s - leaves_s
        return self.stop_x + self.way * self.speed * gone * min(1.0, 0.25 + gone / 4)

    def box(self, at_s: float) -> PixelBox:
        return self.x(at_s) - self.length / 2, self.y - self.height, self.length, self.height


class Drawn:
    """A scene drawn with a seed: `picture` gives its pictures, `tracks` its true boxes."""

    def __init__(self, scene: Scene, seed: int) -> None:
        self.scene = scene
        self._seed = seed
        self._margin = 120 if scene.turned_s is not None else 16 if "shake" in scene.hazards else 0
        self._chance = random.Random(
            f"{sorted(scene.hazards)} {scene.size} {scene.seconds} {seed}"
        )  # sets have no order
        self._grain = np.random.default_rng(self._chance.randrange(2**32))
        self.vehicles = tuple(self._traffic())
        self.insects = tuple(self._flights()) if "insects" in scene.hazards else ()
        self._ground = self._drawn_ground()

    @property
    def pictures(self) -> int:
        return self.scene.seconds * PICTURES_PER_S

    @cached_property
    def tracks(self) -> Boxes:
        """The true boxes of everything that counts as a thing, until the camera is turned."""
        until = self.pictures if self.scene.turned_s is None else int(self.scene.turned_s * PICTURES_PER_S)
        tracks: Boxes = {}
        for number, vehicle in enumerate(self.vehicles):
            shown = [(i + 1, _in_view(vehicle.box(i / PICTURES_PER_S))) for i in range(until)]
            boxes = [(picture, box) for picture, box in shown if box is not None]
            if boxes:
                tracks[number] = boxes
        return tracks

    def picture(self, index: int) -> Picture:
        """Picture `index`, from 0, BGR."""
        at_s, grain = index / PICTURES_PER_S, np.random.default_rng((self._seed, index))
        canvas = self._ground.copy()
        if "wind" in self.scene.hazards:
            self._sway(canvas, at_s)
        for vehicle in sorted(self.vehicles, key=lambda one: one.y):
            self._draw(canvas, vehicle, at_s)
        self._foreground(canvas)
        light = self._light(at_s)
        if light is not None:
            canvas = np.clip(canvas * light, 0, 255)
        view = self._seen(canvas, at_s, grain)
        if "rain" in self.scene.hazards:
            _rain(view, grain)
        for insect in self.insects:
            insect.draw(view, at_s)
        noise = 5.0 if "night" in self.scene.hazards else 2.5
        view += grain.standard_normal((HIGH, WIDE, 1), dtype=np.float32) * noise
        return np.clip(view, 0, 255).astype(np.uint8)

    # What is where

    def _traffic(self) -> Iterator[Vehicle]:
        scene, chance = self.scene, self._chance
        for lane, way in ((0.52, -1), (0.74, 1)) if scene.gap_s else ():
            y = HIGH * lane
            at_s = chance.uniform(1, 4) + (6 if way > 0 else 0)
            while at_s < scene.seconds - 8:
                yield self._vehicle(at_s, y + chance.uniform(-4, 4), way)
                at_s += scene.gap_s * chance.uniform(0.5, 1.5)
        if scene.parked_s is not None:
            one = self._vehicle(0.0, HIGH * 0.92, 1)
            yield Vehicle(0, one.y, 1, one.speed, one.length, one.height, one.colour, WIDE * 0.55, scene.parked_s)

    def _vehicle(self, at_s: float, y: float, way: int) -> Vehicle:
        chance = self._chance
        scale = 1 + (self.scene.depth - 1) * (y / HIGH - 0.5)
        length = self.scene.size * scale * chance.uniform(0.8, 1.3)
        grey = chance.choice((25, 60, 90, 115, 150, 200, 230))
        tint = [chance.uniform(-30, 30) for _ in range(3)] if chance.random() < 0.5 else [0.0] * 3
        colour = tuple(int(min(max(grey + one, 5), 250)) for one in tint)
        speed = self.scene.speed * self.scene.size * scale * chance.uniform(0.7, 1.3)
        return Vehicle(at_s, y, way, speed, length, length * chance.uniform(0.42, 0.55), colour)  # type: ignore[arg-type]

    def _flights(self) -> Iterator[Insect]:
        """An insect every 8 s flies by the lens; every three minutes one sits down and crawls."""
        chance, at_s = self._chance, 3.0
        while at_s < self.scene.seconds - 12:
            yield Insect(at_s, chance.uniform(0.2, 0.9), 900.0, chance.uniform(5, 16), chance.randrange(2**30))
            at_s += chance.uniform(4, 12)
        for number in range(self.scene.seconds // 180):
            at_s = 180 * number + chance.uniform(20, 150)
            yield Insect(at_s, chance.uniform(6, 14), 60.0, chance.uniform(8, 14), chance.randrange(2**30))

    # How it looks

    def _drawn_ground(self) -> Light:
        """The ground with a margin, before any light of the moment."""
        wide, high = WIDE + 2 * self._margin, HIGH + 2 * self._margin
        ground = np.full((high, wide, 3), (70, 105, 95), np.float32)
        for grain, strength in ((64, 22), (16, 14), (4, 10), (1, 5)):
            rough = self._grain.standard_normal((high // grain + 2, wide // grain + 2), dtype=np.float32)
            ground += cv2.resize(rough, (wide, high), interpolation=cv2.INTER_CUBIC)[..., None] * strength
        top, bottom = self._margin + int(HIGH * 0.4), self._margin + int(HIGH * 0.82)
        asphalt = ground[top:bottom]
        asphalt[:] = 105 + (asphalt - asphalt.mean((0, 1))) * 0.35
        for y, colour in ((top + 4, 190), (bottom - 4, 190)):
            cv2.line(ground, (0, y), (wide, y), (colour,) * 3, 3)
        for x in range(0, wide, 60):
            cv2.line(ground, (x, (top + bottom) // 2), (x + 28, (top + bottom) // 2), (185,) * 3, 3)
        for x in range(0, wide, 150):  # houses with windows, above the road
            wall = (float(self._grain.integers(60, 190)),) * 3
            cv2.rectangle(ground, (x + 8, self._margin - 60), (x + 120, self._margin + int(HIGH * 0.24)), wall, -1)
            for window in range(x + 20, x + 100, 28):
                cv2.rectangle(ground, (window, self._margin + 20), (window + 14, self._margin + 46), (40,) * 3, -1)
        return ground

    def _foreground(self, canvas: Light) -> None:
        """A post before the road, which cuts what passes behind it in two."""
        x = self._margin + int(WIDE * 0.36)
        cv2.rectangle(canvas, (x, self._margin + 40), (x + 9, self._margin + HIGH - 30), (62, 66, 64), -1)

    def _sway(self, canvas: Light, at_s: float) -> None:
        """Three trees, one of them over the road's edge, that swing in gusts."""
        gust = 0.4 + 0.6 * (0.5 + 0.5 * math.sin(at_s / 7.3)) * (0.5 + 0.5 * math.sin(at_s / 2.9 + 1))
        for number, (x, y) in enumerate(((110, 120), (330, 90), (540, 282))):
            patch = self._leaves[number]
            side = patch.shape[0]
            grid = self._grid[:side, :side]
            phase = 2 * math.pi * at_s * (0.45 + 0.13 * number) + number
            bend = gust * (math.sin(phase) + 0.5 * math.sin(2.3 * phase + grid[..., 1].mean())) * 9
            waves = gust * 3 * np.sin(grid[..., 1] / 6 + phase * 1.7) + bend * (1 - grid[..., 1] / side)
            moved = cv2.remap(patch, grid[..., 0] + waves.astype(np.float32), grid[..., 1], cv2.INTER_LINEAR)
            left, top = self._margin + x - side // 2, self._margin + y - side // 2
            part, cover = canvas[top : top + side, left : left + side], moved[..., 3:] / 255
            part[:] = part * (1 - cover) + moved[..., :3] * cover

    @cached_property
    def _grid(self) -> Light:
        return np.stack(np.meshgrid(np.arange(160), np.arange(160)), -1).astype(np.float32)

    @cached_property
    def _leaves(self) -> list[Light]:
        """Patches of foliage, BGR and cover."""
        patches = []
        for radius in (58, 46, 64):
            side = 2 * radius + 24
            rough = self._grain.standard_normal((side // 4, side // 4), dtype=np.float32)
            leaf = cv2.resize(rough, (side, side), interpolation=cv2.INTER_LINEAR)
            far = np.hypot(*(np.indices((side, side)) - side / 2))
            cover = ((far + 9 * leaf) < radius).astype(np.float32) * 255
            colour = np.stack([40 + 25 * leaf, 80 + 35 * leaf, 55 + 25 * leaf], -1)
            patches.append(np.dstack([colour, cover]).astype(np.float32))
        return patches

    def _draw(self, canvas: Light, vehicle: Vehicle, at_s: float) -> None:
        left, top, wide, high = vehicle.box(at_s)
        if left > WIDE + self._margin or left + wide < -self._margin:
            return
        x, y = left + self._margin, top + self._margin
        if "shadows" in self.scene.hazards:  # the sun is behind the houses
            corners = [
                (x, y + high),
                (x + wide, y + high),
                (x + wide * 1.25, y + high * 1.9),
                (x + 0.3 * wide, y + high * 1.9),
            ]
            _shade(canvas, corners, 0.45)
        dark = [0.55 * one for one in vehicle.colour]
        if "roofs" in self.scene.hazards:
            _fill(canvas, (x, y, x + wide, y + high), vehicle.colour)
            for part in (0.12, 0.68):
                _fill(canvas, (x + part * wide, y + 0.15 * high, x + (part + 0.14) * wide, y + 0.85 * high), dark)
            return
        _fill(canvas, (x, y + 0.35 * high, x + wide, y + 0.92 * high), vehicle.colour)
        _fill(canvas, (x + 0.2 * wide, y, x + 0.8 * wide, y + 0.4 * high), vehicle.colour)
        for part in (0.26, 0.53):
            _fill(canvas, (x + part * wide, y + 0.08 * high, x + (part + 0.22) * wide, y + 0.36 * high), dark)
        for part in (0.2, 0.8):
            centre = (round(x + part * wide), round(y + 0.88 * high))
            cv2.circle(canvas, centre, max(2, round(0.13 * high)), (25, 25, 25), -1, cv2.LINE_AA)
        if "rain" in self.scene.hazards:  # the wet road mirrors it
            _fill(canvas, (x, y + high, x + wide, y + 1.5 * high), vehicle.colour, 0.25)

    def _light(self, at_s: float) -> Light | None:
        """What the moment's light multiplies the canvas by."""
        scene = self.scene
        if "night" in scene.hazards:
            return self._lamps(at_s)
        if "clouds" not in scene.hazards:
            return None
        high, wide = self._ground.shape[:2]
        across = np.linspace(0, 4, wide, dtype=np.float32)[None, :, None]
        shade = 0.82 + 0.18 * np.sin(across - at_s * 0.35 + self._seed) + 0.08 * math.sin(at_s / 11)
        exposure = 1.12 if int(at_s) % 29 > 21 else 1.0
        return np.broadcast_to((shade * exposure).astype(np.float32), (high, wide, 1))

    def _lamps(self, at_s: float) -> Light:
        """Darkness, a street lamp, the vehicles' lights, and the light of one out of view that sweeps over a wall."""
        light = self._street_light.copy()
        for vehicle in self.vehicles:
            left, top, wide, high = vehicle.box(at_s)
            if not -4 * wide < left < WIDE + 3 * wide:
                continue
            nose = left + (wide if vehicle.way > 0 else 0) + self._margin
            beam = (nose + vehicle.way * wide * 0.9, top + high * 0.95 + self._margin)
            _glow(light, beam, (wide * 0.9, high * 0.4), 0.75)
            for part in (0.5, 0.75):
                _glow(light, (nose, top + part * high + self._margin), (high * 0.16, high * 0.16), 4.0)
            tail = (nose - vehicle.way * wide, top + 0.55 * high + self._margin)
            _glow(light, tail, (high * 0.12, high * 0.12), 1.2)
        if at_s % 31 > 27:
            part = (at_s % 31 - 27) / 4
            _glow(light, (self._margin + WIDE * part, self._margin + HIGH * 0.13), (70, 35), 0.5)
        return light

    @cached_property
    def _street_light(self) -> Light:
        light = np.full((*self._ground.shape[:2], 1), 0.1, np.float32)
        _glow(light, (self._margin + 0.8 * WIDE, self._margin + 0.5 * HIGH), (150, 90), 0.35)
        return light

    def _seen(self, canvas: Light, at_s: float, grain: np.random.Generator) -> Light:
        """What the camera shows of the canvas at an instant."""
        right, down, turn = 0.0, 0.0, 0.0
        if self.scene.turned_s is not None:
            part = min(max((at_s - self.scene.turned_s) / 1.5, 0.0), 1.0)
            right, down = 95 * part, 40 * part
        if "shake" in self.scene.hazards:
            right, down, turn = grain.normal(0, 3), grain.normal(0, 2), grain.normal(0, 0.15)
        about = cv2.getRotationMatrix2D((WIDE / 2 + self._margin, HIGH / 2 + self._margin), turn, 1.0)
        about[:, 2] -= np.array((self._margin + right, self._margin + down))
        return np.asarray(cv2.warpAffine(canvas, about, (WIDE, HIGH), flags=cv2.INTER_LINEAR), np.float32)


@dataclass(frozen=True, slots=True)
class Insect:
    """A blurred blob before the lens, on a way that turns at random; `speed` in pixels a second."""

    at_s: float
    lasts_s: float
    speed: float
    radius: float
    seed: int

    def draw(self, view: Light, at_s: float) -> None:
        age = at_s - self.at_s
        if not 0 <= age <= self.lasts_s:
            return
        chance = random.Random(self.seed)
        x, y, heading = chance.uniform(0.1, 0.9) * WIDE, chance.uniform(0.1, 0.9) * HIGH, chance.uniform(0, 6.28)
        for _ in range(round(age * PICTURES_PER_S)):
            heading += chance.gauss(0, 0.7)
            x += self.speed / PICTURES_PER_S * math.cos(heading)
            y += self.speed / PICTURES_PER_S * math.sin(heading)
        _glow(view, (x, y), (self.radius, self.radius), chance.choice((-110.0, 120.0)))


def _in_view(box: PixelBox) -> PixelBox | None:
    left, top, wide, high = box
    right, bottom = min(left + wide, WIDE), min(top + high, HIGH)
    left, top = max(left, 0.0), max(top, 0.0)
    if right <= left or bottom <= top or (right - left) * (bottom - top) < LEAST_SHOWN * wide * high:
        return None
    return left, top, right - left, bottom - top


def _fill(canvas: Light, box: PixelBox, colour: object, cover: float = 1.0) -> None:
    left, top, right, bottom = (max(round(edge), 0) for edge in box)
    part = canvas[top:bottom, left:right]
    part[:] = part * (1 - cover) + np.asarray(colour, np.float32) * cover


def _shade(canvas: Light, corners: list[tuple[float, float]], factor: float) -> None:
    points = np.array(corners, np.float32).round().astype(np.int32)
    left, top = np.maximum(points.min(0), 0)
    right, bottom = np.minimum(points.max(0) + 1, (canvas.shape[1], canvas.shape[0]))
    if right <= left or bottom <= top:
        return
    cover = np.zeros((bottom - top, right - left), np.float32)
    cv2.fillPoly(cover, [points - (left, top)], 1.0, cv2.LINE_AA)
    canvas[top:bottom, left:right] *= 1 - (1 - factor) * cover[..., None]


def _glow(field: Light, centre: tuple[float, float], spread: tuple[float, float], strength: float) -> None:
    """Add a soft blob."""
    (x, y), (wide, high) = centre, spread
    left, right = max(int(x - 2.5 * wide), 0), min(int(x + 2.5 * wide) + 1, field.shape[1])
    top, bottom = max(int(y - 2.5 * high), 0), min(int(y + 2.5 * high) + 1, field.shape[0])
    if right <= left or bottom <= top:
        return
    across = np.exp(-(((np.arange(left, right) - x) / wide) ** 2)).astype(np.float32)
    along = np.exp(-(((np.arange(top, bottom) - y) / high) ** 2)).astype(np.float32)
    field[top:bottom, left:right] += strength * (along[:, None] * across[None])[..., None]


def _rain(view: Light, grain: np.random.Generator) -> None:
    """Streaks that are elsewhere in every picture, some of them near the lens."""
    streaks = np.zeros((HIGH, WIDE), np.float32)
    for x, y, length in zip(
        grain.integers(0, WIDE, 260), grain.integers(-20, HIGH, 260), grain.integers(8, 26, 260), strict=True
    ):
        cv2.line(streaks, (int(x), int(y)), (int(x) + 3, int(y + length)), 1.0, 1, cv2.LINE_AA)
    for x, y in zip(grain.integers(0, WIDE, 3), grain.integers(-40, HIGH, 3), strict=True):
        cv2.line(streaks, (int(x), int(y)), (int(x) + 10, int(y) + 90), 1.0, 4, cv2.LINE_AA)
    view += streaks[..., None] * 55
