"""Folding stored frames: the same code live, after a late burst, and in `sectorwatch replay`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from policies.events import Event
from policies.fold import State, advance, decode_state, encode_state, initial_state
from policies.site.site_policy import CameraPolicy, SitePolicy
from server.domain.checkpoints import CheckpointThinner
from server.domain.records import Checkpoint, Folded, Recorded, Settled

PolicyOf = Callable[[str], SitePolicy]
"""Gives the policy of a digest."""


_NEAR = 200
"""Frames of an empty view."""


class Step(NamedTuple):
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


def refold(recorded: Iterable[Recorded], start: Checkpoint, policy_of: PolicyOf, newest_us: int) -> Folded:
    """The fold of a camera's frames after `start`; the newest frame is at `newest_us`.

    A checkpoint is made where a burst ends, unless another frame has the same instant, or the view is empty and the
    last checkpoint few frames ago: to fold these again is less work than to store another. Raises ValueError without
    frames.
    """
    thinner = CheckpointThinner[State](newest_us)
    settled: list[Settled] = []
    frames, kept, last = 0, 0, None
    for step in steps(recorded, start, policy_of):
        seen = step.recorded.observation
        frames += 1
        if last is not None and _ends_a_burst(last, step) and not (last.state.is_empty and frames - kept < _NEAR):
            thinner.add(last.recorded.observation.at_us, last.state)
            kept = frames
        settled += [Settled(event, seen.burst_id, place) for place, event in enumerate(step.events)]
        last = step
    if last is None:
        raise ValueError("nothing to fold")
    last_at_us = last.recorded.observation.at_us
    thinner.add(last_at_us, last.state)
    return Folded(
        frames=frames,
        things=len(last.state.tracks) + len(last.state.presences),
        last_at_us=last_at_us,
        seen_at_us=last.state.seen_us,
        state=encode_state(last.state),
        policy=last.recorded.policy,
        settled=tuple(settled),
        checkpoints={at_us: encode_state(state) for at_us, state in thinner.states().items()},
    )


def _ends_a_burst(last: Step, following: Step) -> bool:
    before, after = last.recorded.observation, following.recorded.observation
    return before.burst_id != after.burst_id and before.at_us < after.at_us
