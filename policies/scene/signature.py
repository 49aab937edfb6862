"""What the evidence of a scene means: how alike two are, and by how much one is moved against the other.

A signature has a bit for each place of four profiles of edges: upright edges by column in the upper and the lower part
of the view, level edges by row in its left and its right half. `server.ensemble.scene_evidence` makes it.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

COLUMNS, ROWS = 24, 16
PROFILES = (COLUMNS, COLUMNS, ROWS, ROWS)
BYTES = sum(PROFILES) // 8

FIRM = 0.75
"""A bit of which so many references agree counts."""
LEAST_FIRM = 30
FURTHEST = 0.4
"""The largest move that is looked for, in parts of the view."""
NEAREST = 2
"""Places: a camera that shakes moves the picture by less."""
FOUND = 0.74
"""A view that is moved agrees so well elsewhere."""
LEAST_GAIN = 0.12
"""By so much better than where it was."""
ALIGNED, STRICTER = 0.85, 1.3
"""The less the profiles of the other axis agree, the more the gain must be: what comes before a view changes both, and
a camera that is turned to a side changes one.
"""


class Profile(NamedTuple):
    """One profile of the references: which of its bits are set, which ones count, and how many places it has."""

    bits: int
    firm: int
    size: int

    def agreement(self, bits: int, move: int = 0) -> tuple[int, int]:
        """How many of the bits that count are alike where `bits` lie `move` places to the left; of how many."""
        mine, firm, other = self.bits, self.firm, bits
        if move >= 0:
            mine, firm = mine >> move, firm >> move
        else:
            other >>= -move
        firm &= (1 << self.size - abs(move)) - 1
        return (firm & ~(mine ^ other)).bit_count(), firm.bit_count()


def profiles_of(evidence: str) -> tuple[int, ...] | None:
    """The bits of the four profiles; None if this is no evidence."""
    try:
        raw = base64.urlsafe_b64decode(evidence + "=" * (-len(evidence) % 4))
    except (binascii.Error, ValueError):
        return None
    if len(raw) != BYTES:
        return None
    return tuple(_parted(int.from_bytes(raw, "little")))


def _parted(bits: int) -> Iterator[int]:
    for size in PROFILES:
        yield bits & (1 << size) - 1
        bits >>= size


@lru_cache(maxsize=256)
def reference_of(shown: tuple[str, ...]) -> tuple[Profile, ...]:
    """What these have in common."""
    every = [profiles for profiles in map(profiles_of, shown) if profiles is not None]
    return tuple(_common([each[n] for each in every], size) for n, size in enumerate(PROFILES))


def _common(bits: Sequence[int], size: int) -> Profile:
    counts = [sum(each >> place & 1 for each in bits) for place in range(size)]
    most = sum(1 << place for place, count in enumerate(counts) if 2 * count > len(bits))
    firm = sum(1 << place for place, n in enumerate(counts) if max(n, len(bits) - n) >= FIRM * len(bits))
    return Profile(most, firm, size)


def agreement(shown: tuple[str, ...], evidence: str) -> float | None:
    """The part of the places at which a signature is as these are; None if too few are alike among themselves."""
    profiles = profiles_of(evidence)
    if profiles is None:
        return None
    counts = [one.agreement(bits) for one, bits in zip(reference_of(shown), profiles, strict=True)]
    alike, firm = (sum(column) for column in zip(*counts, strict=True))
    return alike / firm if firm >= LEAST_FIRM else None


def move_of(shown: tuple[str, ...], evidence: str) -> tuple[int, int]:
    """By how many places the view is moved against what these show: columns to the left, rows up. (0, 0): it is not, or
    nothing shows that it is.
    """
    profiles = profiles_of(evidence)
    if profiles is None:
        return 0, 0
    reference = reference_of(shown)
    across, down = _best(reference[:2], profiles[:2]), _best(reference[2:], profiles[2:])
    return _move(across, down), _move(down, across)


class Best(NamedTuple):
    """Where the profiles of an axis agree best, how well, and how well they agree where they were."""

    place: int
    alike: float
    before: float


def _best(reference: Sequence[Profile], profiles: Sequence[int]) -> Best:
    furthest = int(FURTHEST * reference[0].size)
    alike = {move: _alike(reference, profiles, move) for move in range(-furthest, furthest + 1)}
    place = max(alike, key=lambda move: (alike[move], -abs(move), move))
    return Best(place, alike[place], alike[0])


def _move(axis: Best, other: Best) -> int:
    """By how many places the view is moved along an axis, given what the other one shows."""
    gain = LEAST_GAIN + STRICTER * max(ALIGNED - other.alike, 0.0)
    is_moved = abs(axis.place) >= NEAREST and axis.alike >= FOUND and axis.alike - axis.before >= gain
    return axis.place if is_moved else 0


def _alike(reference: Sequence[Profile], profiles: Sequence[int], move: int) -> float:
    counts = [one.agreement(bits, move) for one, bits in zip(reference, profiles, strict=True)]
    firm = sum(count for _, count in counts)
    return sum(alike for alike, _ in counts) / firm if firm >= LEAST_FIRM // 4 else 0.0
