"""Places where small things begin to move and stop again and again: a tree in the wind, a flag, a light that blinks.

The view has 16 x 9 cells. Each holds how often something that moved was given up there before it had gone anywhere, by
stretches of ten minutes of Unix time. What is older than half an hour is forgotten. Something that begins in such a
place must go further than elsewhere before it counts.
"""

from __future__ import annotations

from collections.abc import Iterable

from policies.geometry import Point

ACROSS, DOWN = 16, 9
SLOT_US = 600_000_000
SLOTS = 3
MOST_PLACES = 32
FEWEST = 4
"""Things that went nowhere, in a cell and those around it, that make it a nuisance."""
FURTHEST = 4.0
"""A thing that begins in the worst place must go so many times as far as elsewhere."""

Place = tuple[int, int, int]
"""A cell, a stretch of time, and how many things went nowhere there."""
Places = tuple[Place, ...]


def remembered_places(places: Places, at_us: int) -> Places:
    """The places without what is forgotten at an instant."""
    oldest = at_us // SLOT_US - SLOTS
    if all(slot > oldest for _, slot, _ in places):
        return places
    return tuple(place for place in places if place[1] > oldest)


def with_places(places: Places, at_us: int, points: Iterable[Point]) -> Places:
    """The places, of which only the worst are kept, with one more thing that went nowhere at each of these points."""
    slot = at_us // SLOT_US
    counts = {(cell, of): count for cell, of, count in remembered_places(places, at_us)}
    for x, y in points:
        key = (cell_of(x, y), slot)
        counts[key] = counts.get(key, 0) + 1
    worst = sorted(counts, key=lambda key: (-key[1], -counts[key], key[0]))[:MOST_PLACES]
    return tuple(sorted((cell, of, counts[cell, of]) for cell, of in worst))


def cell_of(x: float, y: float) -> int:
    across, down = min(int(max(x, 0.0) * ACROSS), ACROSS - 1), min(int(max(y, 0.0) * DOWN), DOWN - 1)
    return down * ACROSS + across


def times_as_far(places: Places, at_us: int, x: float, y: float) -> float:
    """How many times as far as elsewhere a thing that begins at a point must go."""
    if not places:
        return 1.0
    oldest, here = at_us // SLOT_US - SLOTS, cell_of(x, y)
    across, down = here % ACROSS, here // ACROSS
    found = sum(
        count
        for cell, slot, count in places
        if slot > oldest and abs(cell % ACROSS - across) <= 1 and abs(cell // ACROSS - down) <= 1
    )
    return 1.0 if found < FEWEST else min(1.0 + found / FEWEST, FURTHEST)
