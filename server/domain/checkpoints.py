"""Which checkpoints of a camera are worth keeping: many of the last minutes, few of last year.

Ages are taken in octaves (1 s, 2 s, 4 s, ...), and of each octave the oldest and the newest checkpoint stay. So a
late burst finds one at most a few times its own age back, and a camera has two per octave: under a hundred.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Generic, TypeVar

from server.domain.clock import SECOND_US

S = TypeVar("S")


def octave(age_us: int) -> int:
    """0 for under a second, 1 for under two, 2 for under four, and so on."""
    return (max(age_us, 0) // SECOND_US).bit_length()


def to_prune(instants_us: Iterable[int], newest_us: int) -> list[int]:
    """Those of the instants that thinning drops, seen from `newest_us`."""
    thinner = CheckpointThinner[None](newest_us)
    every = sorted(instants_us)
    for at_us in every:
        thinner.add(at_us, None)
    kept = thinner.states()
    return [at_us for at_us in every if at_us not in kept]


class CheckpointThinner(Generic[S]):
    """States passed on the way through one fold, thinned as they come so that memory stays flat."""

    def __init__(self, newest_us: int) -> None:
        self._newest_us = newest_us
        self._oldest: dict[int, tuple[int, S]] = {}
        self._latest: dict[int, tuple[int, S]] = {}

    def add(self, at_us: int, state: S) -> None:
        """Instants must come in rising order."""
        place = octave(self._newest_us - at_us)
        self._oldest.setdefault(place, (at_us, state))
        self._latest[place] = (at_us, state)

    def states(self) -> dict[int, S]:
        """What is left: instant -> state."""
        return dict([*self._oldest.values(), *self._latest.values()])
