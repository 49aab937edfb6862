"""Thinning of a camera's checkpoints: many of the last minutes, few of last year.

Ages are grouped by powers of two (1 s, 2 s, 4 s, ...), and each group keeps its oldest and its newest checkpoint. A
late burst finds a checkpoint at most a few times its own age back, and a camera has fewer than a hundred.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Generic, TypeVar

from server.domain.clock import SECOND_US

S = TypeVar("S")


def octave(age_us: int) -> int:
    """The group of an age: 0 below a second, 1 below two, 2 below four, and so on."""
    return (max(age_us, 0) // SECOND_US).bit_length()


def to_prune(instants_us: Iterable[int], newest_us: int) -> list[int]:
    """The instants that thinning drops, seen from `newest_us`."""
    thinner = CheckpointThinner[None](newest_us)
    every = sorted(instants_us)
    for at_us in every:
        thinner.add(at_us, None)
    kept = thinner.states()
    return [at_us for at_us in every if at_us not in kept]


class CheckpointThinner(Generic[S]):
    """Thins the states of one fold as they come, so that memory stays flat."""

    def __init__(self, newest_us: int) -> None:
        self._newest_us = newest_us
        self._oldest: dict[int, tuple[int, S]] = {}
        self._latest: dict[int, tuple[int, S]] = {}

    def add(self, at_us: int, state: S) -> None:
        """Instants must be added in rising order."""
        place = octave(self._newest_us - at_us)
        self._oldest.setdefault(place, (at_us, state))
        self._latest[place] = (at_us, state)

    def states(self) -> dict[int, S]:
        """The states that are kept: instant -> state."""
        return dict([*self._oldest.values(), *self._latest.values()])
