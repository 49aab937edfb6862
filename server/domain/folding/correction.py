"""The fold of a past that changes: beside it, the fold of the same past as it was.

Where both come to the same empty state, all that follows is the same in both, and neither need go on: a burst that
comes a week late is usually folded in by folding some minutes.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass

from policies.fold import State, advance, decode_state
from server.domain.folding.refold import Fold, PolicyOf
from server.domain.records import Checkpoint, Folded, Recorded, Settled


@dataclass(frozen=True, slots=True)
class Change:
    """The bursts (by burst_id) that come into the fold, and those that leave it; `last_us`: their last instant."""

    added: Set[str]
    removed: Set[str]
    last_us: int


class Correction:
    """The changed fold after `start`. Give it the frames of both folds, in order."""

    def __init__(self, start: Checkpoint, policy_of: PolicyOf, newest_us: int, change: Change) -> None:
        self._fold = Fold(start, policy_of, newest_us)
        self._change = change
        self._before: State | None = None
        self.position_us = start.at_us

    @property
    def agrees(self) -> bool:
        """Whether the folds are the same from the last frame on. Ask only where the next frame has another instant."""
        return self._before is None and self.position_us is not None and self.position_us > self._change.last_us

    def add(self, recorded: Recorded) -> list[Settled]:
        """Advance over one frame; what it settles in the changed fold."""
        seen, settled = recorded.observation, list[Settled]()
        is_added, is_removed = seen.burst_id in self._change.added, seen.burst_id in self._change.removed
        if self._before is None and (is_added or is_removed):
            self._before = self._fold.state
        if recorded.resumes is not None:  # both go on from the state that was kept
            self._fold.state = decode_state(recorded.resumes)
            self._before = None if self._before is None else self._fold.state
        if not is_removed:
            settled = self._fold.add(recorded)
        if self._before is not None and not is_added:
            self._before, _ = advance(self._fold.policy(recorded), self._before, seen)
            if not is_removed and self._fold.state.is_empty and self._before == self._fold.state:
                self._before = None
        self.position_us = seen.at_us
        return settled

    def folded(self, settled: Sequence[Settled]) -> Folded | None:
        """As `Fold.folded`."""
        return self._fold.folded(settled)
