"""Thinning of a camera's checkpoints: many of the last minutes, few of last year.

Of the last hour, ages are grouped by powers of two (1 s, 2 s, 4 s, ...), and each group keeps its oldest and its newest
checkpoint. Besides, the oldest of each half hour stays for a week, and then the oldest of each six hours. So a late
burst finds a checkpoint at most a few times its own age back, and a question about the past one that is not far before.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Generic, TypeVar

from server.domain.times.clock import SECOND_US

S = TypeVar("S")

_HOUR_US = 3600 * SECOND_US
_WEEK_US = 7 * 24 * _HOUR_US
_YOUNG_SLOT_US = _HOUR_US // 2
_OLD_SLOT_US = 6 * _HOUR_US


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


def thin_before(newest_us: int) -> int:
    """Checkpoints before this instant were thinned for good, if they were thinned when `newest_us` was the newest."""
    return (newest_us - _WEEK_US) // _OLD_SLOT_US * _OLD_SLOT_US


class CheckpointThinner(Generic[S]):
    """Thins the states of one fold as they come."""

    def __init__(self, newest_us: int) -> None:
        self._newest_us = newest_us
        self._oldest: dict[tuple[int, int], tuple[int, S]] = {}
        self._latest: dict[int, tuple[int, S]] = {}

    def add(self, at_us: int, state: S) -> None:
        """Instants must be added in rising order."""
        age_us = self._newest_us - at_us
        slot_us = _YOUNG_SLOT_US if age_us < _WEEK_US else _OLD_SLOT_US
        self._oldest.setdefault((slot_us, at_us // slot_us), (at_us, state))
        if age_us < _HOUR_US:
            place = octave(age_us)
            self._oldest.setdefault((0, place), (at_us, state))
            self._latest[place] = (at_us, state)

    def states(self) -> dict[int, S]:
        """The states that are kept: instant -> state."""
        return dict([*self._oldest.values(), *self._latest.values()])
