"""Folding stored frames: the same code live, after a late burst, and in `sectorwatch replay`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import msgspec

from policies.events import Event
from policies.fold import State, advance, decode_state, encode_state, initial_state
from policies.observation import Observation
from policies.site.site_policy import CameraPolicy, SitePolicy
from server.domain.folding.checkpoints import CheckpointThinner
from server.domain.records import Checkpoint, Folded, Recorded, Settled

PolicyOf = Callable[[str], SitePolicy]
"""Gives the policy of a digest."""

WORK_OF_A_THING = 4
"""What a track or a presence adds to the work of a frame, in frames of an empty view."""


_NEAR = 200
"""Frames of an empty view."""


class Step(msgspec.Struct, frozen=True, gc=False):
    """One stored frame, the state after it, and the events it settled."""

    recorded: Recorded
    state: State
    events: tuple[Event, ...]


def steps(recorded: Iterable[Recorded], start: Checkpoint, policy_of: PolicyOf) -> Iterator[Step]:
    """Advance one camera over its stored frames, in order, each by the policy its burst was accepted under.

    Where frames are no longer kept, it goes on from the state that was kept of their end.
    """
    state = initial_state() if start.state is None else decode_state(start.state)
    policies: dict[str, CameraPolicy] = {}
    for each in recorded:
        policy = policies.get(each.policy)
        if policy is None:
            policy = policies[each.policy] = policy_of(each.policy).camera(each.observation.camera)
        if each.resumes is not None:
            state = decode_state(each.resumes)
        state, events = advance(policy, state, each.observation)
        yield Step(each, state, events)


class TooLong(Exception):
    """A fold takes more work than it may."""


class Fold:
    """The fold of one camera's frames after `start`, given one by one, in order; the newest frame is at `newest_us`.

    `work` grows with each frame, more with things in view.
    """

    def __init__(self, start: Checkpoint, policy_of: PolicyOf, newest_us: int) -> None:
        self.state = initial_state() if start.state is None else decode_state(start.state)
        self.work = 0
        self._policy_of = policy_of
        self._policies: dict[str, CameraPolicy] = {}
        self._thinner = CheckpointThinner[State](newest_us)
        self._frames = 0
        self._checked = 0
        self._last: Recorded | None = None

    def policy(self, recorded: Recorded) -> CameraPolicy:
        """The rules under which the frame's burst was accepted."""
        policy = self._policies.get(recorded.policy)
        if policy is None:
            camera = recorded.observation.camera
            policy = self._policies[recorded.policy] = self._policy_of(recorded.policy).camera(camera)
        return policy

    def add(self, recorded: Recorded) -> list[Settled]:
        """Advance over one frame; what it settled.

        A checkpoint is made where a burst ends, unless another frame has the same instant, or the view is empty and the
        last checkpoint few frames ago: to fold these again is less work than to store another.
        """
        seen, last = recorded.observation, self._last
        is_near = self.state.is_empty and self._frames + 1 - self._checked < _NEAR
        if last is not None and not is_near and _ends_a_burst(last.observation, seen):
            self._thinner.add(last.observation.at_us, self.state)
            self._checked = self._frames + 1
        if recorded.resumes is not None:
            self.state = decode_state(recorded.resumes)
        self.state, events = advance(self.policy(recorded), self.state, seen)
        self.work += 1 + WORK_OF_A_THING * (len(self.state.tracks) + len(self.state.presences))
        self._frames += 1
        self._last = recorded
        return [Settled(event, seen.burst_id, place) for place, event in enumerate(events)]

    def folded(self, settled: Sequence[Settled]) -> Folded | None:
        """The result with the events that all frames settled; None without a frame."""
        if self._last is None:
            return None
        last_at_us = self._last.observation.at_us
        self._thinner.add(last_at_us, self.state)
        return Folded(
            frames=self._frames,
            things=len(self.state.tracks) + len(self.state.presences),
            last_at_us=last_at_us,
            seen_at_us=self.state.seen_us,
            state=encode_state(self.state),
            policy=self._last.policy,
            settled=tuple(settled),
            checkpoints={at_us: encode_state(state) for at_us, state in self._thinner.states().items()},
        )


def refold(
    recorded: Iterable[Recorded], start: Checkpoint, policy_of: PolicyOf, newest_us: int, most: int | None = None
) -> Folded:
    """The fold of a camera's frames after `start`; the newest frame is at `newest_us`.

    Raises ValueError without frames, and TooLong when its `work` exceeds `most`.
    """
    fold, settled = Fold(start, policy_of, newest_us), list[Settled]()
    for each in recorded:
        settled += fold.add(each)
        if most is not None and fold.work > most:
            raise TooLong
    if (folded := fold.folded(settled)) is None:
        raise ValueError("nothing to fold")
    return folded


def _ends_a_burst(before: Observation, after: Observation) -> bool:
    return before.burst_id != after.burst_id and before.at_us < after.at_us
