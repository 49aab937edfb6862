"""Several policies over one stored history, read once: the fold that runs live, as often as there are policies."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from policies.events import Event
from policies.fold import State, advance, initial_state
from policies.site_policy import CameraPolicy, SitePolicy
from server.records import Recorded

PolicyOf = Callable[[str], SitePolicy]


class Folds(NamedTuple):
    """How many frames were read, over which span (us), and what each policy told, in its order."""

    frames: int
    first_us: int
    last_us: int
    events: tuple[tuple[Event, ...], ...]


class _Run:
    """One policy on its way through the history; None stands for the policies in force when it was recorded."""

    def __init__(self, policy: CameraPolicy | None) -> None:
        self.policy = policy
        self.state: State = initial_state()
        self.told: dict[str, Event] = {}


def folds(
    recorded: Iterable[Recorded],
    camera: str,
    policies: Sequence[SitePolicy | None],
    policy_of: PolicyOf,
    since_us: int | None = None,
) -> Folds:
    """What each of `policies` tells of a camera's whole history; only events confirmed from `since_us` on are kept.

    The history must begin with the camera's first frame, since what came before decides who is there. Memory
    holds the events and one state per policy, whatever the length of the history.
    """
    runs = [_Run(None if policy is None else policy.camera(camera)) for policy in policies]
    in_force: dict[str, CameraPolicy] = {}
    frames = first_us = last_us = 0
    for one in recorded:
        seen = one.observation
        if one.policy not in in_force and None in policies:
            in_force[one.policy] = policy_of(one.policy).camera(camera)
        counts = since_us is None or seen.at_us >= since_us
        first_us = first_us or (seen.at_us if counts else 0)
        last_us, frames = seen.at_us, frames + counts
        for run in runs:
            run.state, events = advance(run.policy or in_force[one.policy], run.state, seen)
            if counts:
                for event in events:
                    run.told.setdefault(event.id, event)
    return Folds(frames, first_us, last_us, tuple(tuple(run.told.values()) for run in runs))
