"""The day of `soak`: what its cameras see and when, and which faults come when. Pure; a seed gives one day.

Instants of data are microseconds of Unix time. Instants of the run are seconds of the machine since its begin.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

DAY_S = 86_400
BEGIN_US = 1_795_305_600_000_000
"""2026-11-22T00:00:00Z."""

FRAMES = 4
FRAME_MS = 500
BURST_US = FRAMES * FRAME_MS * 1000
_VISIT = (3, 14)
_QUIET = 0.65
"""The part of a camera's series of bursts that nobody is in; they are short."""
_MOST_STEP_S = 900
_STEPPING = 0.4
"""The part of the cameras whose clock steps during the day."""

Kind = Literal["kill", "orphan", "stop", "link", "disk", "clock", "greedy"]
"""`kill` ends the server and its worker with SIGKILL, `orphan` the server alone, `stop` with SIGTERM. `clock` sets the
server's clock ahead or back.
"""
KINDS: tuple[Kind, ...] = ("kill", "orphan", "stop", "link", "disk", "clock", "greedy")
ENDING: frozenset[Kind] = frozenset({"kill", "orphan", "stop"})
"""Those that end the server's process: they come in the first half of the day."""
_EVERY_S = 12.0
_LENGTHS: dict[Kind, tuple[float, float]] = {
    "kill": (0.0, 0.0),
    "orphan": (0.0, 0.0),
    "stop": (0.0, 0.0),
    "link": (0.003, 0.04),
    "disk": (0.003, 0.012),
    "clock": (0.005, 0.04),
    "greedy": (0.005, 0.012),
}
"""As parts of the run."""
_SHORTEST_S = 2.0


@dataclass(frozen=True, slots=True)
class Taken:
    """A burst that a camera takes: `due_us` is the true instant, `captured_us` that of the camera's clock.

    `feet`: where in the picture (0..1, from the left) somebody stands in each frame; None: nobody is there.
    """

    camera: str
    number: int
    due_us: int
    captured_us: int
    feet: tuple[float | None, ...]

    @property
    def burst_id(self) -> str:
        return f"{self.camera}-{self.number:06d}"


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault between two instants of the run. `site`: whose link it is. `step_s`: how far the clock is set."""

    kind: Kind
    begin_s: float
    end_s: float
    site: str = ""
    step_s: int = 0


def bursts_of(camera: str, count: int, seed: int) -> list[Taken]:
    """A camera's bursts of the day in the order of taking. Visits are bursts without a gap between them."""
    chance = random.Random(f"{seed} {camera}")
    steps = _steps(chance)
    taken: list[Taken] = []
    for begin_us, feet in _visits(count, chance):
        for index, each in enumerate(feet):
            due_us = max(begin_us + index * BURST_US, taken[-1].due_us + BURST_US if taken else 0)
            step_us = next((step for since, until, step in steps if since <= due_us < until), 0)
            taken.append(Taken(camera, len(taken), due_us, due_us + step_us, each))
    return taken


def faults(seconds: float, sites: Sequence[str], seed: int) -> list[Fault]:
    """The faults of a run of so many seconds, in order; each kind comes once at least.

    Those that end the server come in the first half, so that one process lives through the second.
    """
    chance = random.Random(f"{seed} faults")
    early = _deal(list(KINDS), seconds * 0.05, seconds * 0.5, chance)
    late = _deal([kind for kind in KINDS if kind not in ENDING], seconds * 0.55, seconds * 0.95, chance)
    return [_fault(kind, begin_s, seconds, sites, chance) for kind, begin_s in (*early, *late)]


def _deal(kinds: Sequence[Kind], since_s: float, until_s: float, chance: random.Random) -> Iterator[tuple[Kind, float]]:
    count = max(len(kinds), round((until_s - since_s) / _EVERY_S))
    each_s = (until_s - since_s) / count
    deck: list[Kind] = []
    for number in range(count):
        deck = deck or chance.sample(kinds, len(kinds))
        yield deck.pop(), since_s + (number + chance.random()) * each_s


def _fault(kind: Kind, begin_s: float, seconds: float, sites: Sequence[str], chance: random.Random) -> Fault:
    length_s = chance.uniform(*_LENGTHS[kind]) * seconds
    end_s = begin_s + (max(_SHORTEST_S, length_s) if length_s else 0.0)
    step_s = chance.choice((-1, 1)) * chance.randint(60, _MOST_STEP_S)
    return Fault(
        kind,
        begin_s,
        end_s,
        site=chance.choice(sites) if kind == "link" else "",
        step_s=step_s if kind == "clock" else 0,
    )


def _steps(chance: random.Random) -> list[tuple[int, int, int]]:
    """When the camera's clock is wrong, and by how much (us)."""
    if chance.random() >= _STEPPING:
        return []
    since_us = BEGIN_US + round(chance.uniform(0.1, 0.7) * DAY_S * 1e6)
    step_us = chance.choice((-1, 1)) * chance.randint(60_000, _MOST_STEP_S * 1000) * 1000
    return [(since_us, since_us + round(chance.uniform(0.02, 0.2) * DAY_S * 1e6), step_us)]


def _visits(count: int, chance: random.Random) -> list[tuple[int, list[tuple[float | None, ...]]]]:
    """Where people stand, burst by burst, with the instant of each visit's begin; `count` bursts in all."""
    made: list[list[tuple[float | None, ...]]] = []
    left = count
    while left > 0:
        is_quiet = chance.random() < _QUIET
        length = min(left, chance.randint(1, 3) if is_quiet else chance.randint(*_VISIT))
        made.append([(None,) * FRAMES] * length if is_quiet else list(_walk(length, chance)))
        left -= length
    begins = sorted(chance.uniform(0.0, 0.985) for _ in made)
    return [(BEGIN_US + round(part * DAY_S * 1e6), feet) for part, feet in zip(begins, made, strict=True)]


def _walk(bursts: int, chance: random.Random) -> Iterator[tuple[float | None, ...]]:
    """Somebody comes in, walks to and fro or stays, and leaves."""
    frames = bursts * FRAMES
    comes, leaves = chance.uniform(0.05, 0.3) * frames, chance.uniform(0.7, 0.95) * frames
    at, speed = chance.uniform(0.1, 0.3), chance.uniform(0.0, 0.06)
    feet: list[float | None] = []
    for frame in range(frames):
        feet.append(round(at, 4) if comes <= frame < leaves else None)
        if not 0.1 <= at + speed <= 0.9:
            speed = -speed
        at += speed if comes <= frame else 0.0
    for begin in range(0, frames, FRAMES):
        yield tuple(feet[begin : begin + FRAMES])
