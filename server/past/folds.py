"""Several policies over one stored history, read once: the fold that runs live, as often as there are policies."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from policies.events import Event
from policies.fold import REMEMBERED, State, advance, initial_state, remembered
from policies.judgement import Judgement, judge
from policies.rules import Rules
from policies.site_policy import CameraPolicy, SitePolicy
from policies.track import PATIENCE
from server.clock import SECOND_US
from server.records import Recorded

HistoryFrom = Callable[[int], Iterable[Recorded]]
"""A camera's frames from an instant (us) to before the stretch that is asked for."""

_BACK_US = (600 * SECOND_US, 3600 * SECOND_US, 6 * 3600 * SECOND_US, 86400 * SECOND_US, 7 * 86400 * SECOND_US)


class Folds(NamedTuple):
    """How many frames were read, over which span (us), and what each policy told, in its order."""

    frames: int
    first_us: int
    last_us: int
    events: tuple[tuple[Event, ...], ...]


class _Run:
    """One policy on its way through the history."""

    def __init__(self, policy: CameraPolicy) -> None:
        self.policy = policy
        self.state: State = initial_state()
        self.told: dict[str, Event] = {}


def folds(
    recorded: Iterable[Recorded],
    camera: str,
    policies: Sequence[SitePolicy],
    since_us: int | None = None,
) -> Folds:
    """What each of `policies` tells of a camera's whole history; only events confirmed from `since_us` on are kept.

    The history must begin with the camera's first frame, or where `begin_of` says, since what came before decides who
    is there. Memory holds the events and one state per policy, whatever the length of the history.
    """
    runs = [_Run(policy.camera(camera)) for policy in policies]
    frames = first_us = last_us = 0
    for one in recorded:
        seen = one.observation
        counts = since_us is None or seen.at_us >= since_us
        first_us = first_us or (seen.at_us if counts else 0)
        last_us, frames = seen.at_us, frames + counts
        for run in runs:
            run.state, events = advance(run.policy, run.state, seen)
            if counts:
                for event in events:
                    run.told.setdefault(event.id, event)
    return Folds(frames, first_us, last_us, tuple(tuple(run.told.values()) for run in runs))


def begin_of(history: HistoryFrom, camera: str, policies: Sequence[SitePolicy], since_us: int) -> int | None:
    """The latest instant (us) found from which folding is exact from `since_us` on; None: from the first frame alone.

    Where every policy decides, frame after frame, that nothing is there, for longer than any of them remembers a
    thing, each state ends empty, whatever it was: a fold that begins there has the very state of one over all before.
    """
    rules = [policy.camera(camera) for policy in policies]
    memory_us = max(map(_memory_us, rules))
    for back_us in _BACK_US:
        found = _quiet(history(since_us - back_us), rules, memory_us)
        if found is not None:
            return found
    return None


def _quiet(recorded: Iterable[Recorded], rules: Sequence[CameraPolicy], memory_us: int) -> int | None:
    """Where to begin for the last stretch of nothing that is longer than `memory_us`: before it by so many frames that
    those which come again in it are known again.
    """
    found = began_us = start_us = None
    frames: tuple[str, ...] = ()
    came_us: dict[str, int] = {}
    for seen in (one.observation for one in recorded):
        before, (frames, is_known) = frames, remembered(frames, seen.frame_sha256)
        first_us = came_us[before[0]] if before else seen.at_us
        came_us = {name: came_us.get(name, seen.at_us) for name in frames} | {seen.frame_sha256: seen.at_us}
        if is_known or len(before) < REMEMBERED:  # it tells nothing, or it may not: it may have come before all these
            continue
        if not all(_is_nothing(judge(policy, seen)) for policy in rules):
            began_us = None
            continue
        if began_us is None:
            began_us, start_us = seen.at_us, first_us
        if seen.at_us - began_us > memory_us:
            found = start_us
    return found


def _is_nothing(judged: Judgement) -> bool:
    return not judged.undecided and not any(c.present or c.kept for c in judged.candidates)


def _memory_us(policy: CameraPolicy) -> int:
    """How long after its last sight a policy may still have to say something of a thing."""
    parts = (policy, *(entry.policy for entry in policy.scheduled))
    every: list[Rules] = [rules for part in parts for rules in (part.rules, *(s.rules for s in part.sectors))]
    spans = ((r.movement.hidden_s * PATIENCE, r.movement.outside_s, r.presence.clear_s) for r in every)
    return int(sum(max(span) for span in zip(*spans, strict=True)) * SECOND_US)
