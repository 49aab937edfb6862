"""The advance of a camera in its turn: what is due is admitted and folded.

A burst ahead of the server's clock is kept but not admitted (`held`), because it would make every later burst late.
The next turn of its camera or `release_held` admits it once the clock has caught up.

A late burst is folded in its turn while that is quick, else outside of turns (`server.store.refolding`). One that comes
too late is kept, and changes no event.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from policies.site.site_policy import SitePolicy
from server.domain.folding.refold import TooLong, refold
from server.domain.records import Admitted, Checkpoint, Folded, Recorded
from server.domain.times.clock import SECOND_US, Clock
from server.domain.times.lateness import DEFAULT_LATENESS

MAX_SKEW_S = 300.0
_MOST_WORK = 5000
"""Of a late burst within its turn, in frames of an empty view: a tenth to a third of a second on a PC."""


class Turn(Protocol):
    """One camera's turn: see `server.store.turn`."""

    def admit(self, until_us: int, late_within_us: int | None = None) -> Admitted | None: ...
    def postpone(self) -> Admitted | None: ...
    def rewind(self, before_us: int) -> Checkpoint: ...
    def observations(self, after: Checkpoint) -> Iterator[Recorded]: ...
    def policy(self, digest: str) -> SitePolicy: ...
    def settle(self, after: Checkpoint, folded: Folded) -> None: ...


class Store(Protocol):
    """Where bursts are kept: see `server.store.store`."""

    def held(self, until_us: int) -> Sequence[tuple[str, str]]: ...
    def turn(self, site: str, camera: str) -> AbstractContextManager[Turn]: ...


class Advancing:
    """Advances cameras. Safe to use from several threads, and from several processes on the same store.

    A burst more than `max_skew_s` ahead of `clock` is held. One more than `late_within_us` of its site behind its
    camera's newest frame is kept, and never folded. `committed` is called after each turn of `release_held`.
    """

    def __init__(
        self,
        store: Store,
        clock: Clock,
        *,
        committed: Callable[[], None] = lambda: None,
        max_skew_s: float = MAX_SKEW_S,
        late_within_us: Callable[[str], int] = DEFAULT_LATENESS.within_us,
    ) -> None:
        self._store = store
        self._clock = clock
        self._committed = committed
        self._max_skew_us = round(max_skew_s * SECOND_US)
        self._late_within_us = late_within_us

    def advance(self, turn: Turn, site: str) -> Folded | None:
        """Fold what is due: a burst that was just kept, and held ones that the clock has caught up with.

        A late burst whose fold takes long waits for a refold outside of turns.
        """
        admitted = turn.admit(self._due_us(), self._late_within_us(site))
        if admitted is not None and admitted.late:
            try:
                return self._settled(turn, admitted, _MOST_WORK)
            except TooLong:
                admitted = turn.postpone()
        return None if admitted is None else self._settled(turn, admitted)

    def release_held(self) -> int:
        """Admit the held bursts that the clock has caught up with; the number of cameras that advanced."""
        advanced: set[tuple[str, str]] = set()
        while cameras := self._store.held(self._due_us()):
            for site, camera in cameras:
                with self._store.turn(site, camera) as turn:
                    self.advance(turn, site)
            advanced |= {*cameras}
            self._committed()
        return len(advanced)

    def _settled(self, turn: Turn, admitted: Admitted, most: int | None = None) -> Folded:
        start = turn.rewind(admitted.oldest_us)
        folded = refold(turn.observations(start), start, turn.policy, admitted.newest_us, most)
        turn.settle(start, folded)
        return folded

    def _due_us(self) -> int:
        return self._clock() + self._max_skew_us
