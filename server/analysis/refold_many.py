"""Several policies over one stored history, read once: the fold that runs live, for all of them together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from policies.events import Event
from policies.fold import REMEMBERED, remembered
from policies.fusion.judgement import NOTHING, Judgement
from policies.site.rules import Rules
from policies.site.site_policy import CameraPolicy, SitePolicy
from policies.together import Judges, Together
from policies.tracking.lifetime import OVERLOOKED_FACTOR
from server.domain.clock import SECOND_US
from server.domain.records import Recorded

HistoryFrom = Callable[[int], Iterable[Recorded]]
"""A camera's frames from an instant (us) to before the stretch that is asked for."""

_BACK_US = (600 * SECOND_US, 3600 * SECOND_US, 6 * 3600 * SECOND_US, 86400 * SECOND_US, 7 * 86400 * SECOND_US)


class Folds(NamedTuple):
    """How many frames were read, over which span (us), and what each policy told, in its order."""

    frames: int
    first_us: int
    last_us: int
    events: tuple[tuple[Event, ...], ...]


class Told:
    """What a fold tells from `since_us` on and had not told before, each event as it was told first.

    The fold must have begun where nothing was there: what it told before that, it cannot tell again.
    """

    def __init__(self, since_us: int | None) -> None:
        self._since_us = since_us
        self._before: set[str] = set()
        self._events: dict[str, Event] = {}

    def add(self, at_us: int, events: Iterable[Event]) -> None:
        """The events that the frame of an instant (us) settled."""
        if self._since_us is not None and at_us < self._since_us:
            self._before.update(event.id for event in events)
            return
        for event in events:
            if event.id not in self._before:
                self._events.setdefault(event.id, event)

    def events(self) -> list[Event]:
        return list(self._events.values())


def folds(
    recorded: Iterable[Recorded],
    camera: str,
    policies: Sequence[SitePolicy],
    since_us: int | None = None,
) -> Folds:
    """What each of `policies` tells of a camera's whole history; only events first told from `since_us` on are kept.

    The history must begin with the camera's first frame, or where `begin_of` says, since what came before decides who
    is there. Memory holds the events and one state per policy, whatever the length of the history.
    """
    together = Together([policy.camera(camera) for policy in policies])
    told = [Told(since_us) for _ in policies]
    frames = first_us = last_us = 0
    for one in recorded:
        seen = one.observation
        counts = since_us is None or seen.at_us >= since_us
        first_us = first_us or (seen.at_us if counts else 0)
        last_us, frames = seen.at_us, frames + counts
        for place, events in together.advance(seen):
            told[place].add(seen.at_us, events)
    return Folds(frames, first_us, last_us, tuple(tuple(one.events()) for one in told))


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
    judges = Judges(rules)
    found = began_us = start_us = None
    frames: tuple[str, ...] = ()
    came_us: dict[str, int] = {}
    for seen in (one.observation for one in recorded):
        before, (frames, is_known) = frames, remembered(frames, seen.frame_sha256)
        first_us = came_us[before[0]] if before else seen.at_us
        came_us = {name: came_us.get(name, seen.at_us) for name in frames} | {seen.frame_sha256: seen.at_us}
        if is_known or len(before) < REMEMBERED:  # it tells nothing, or it may not: it may have come before all these
            continue
        if not all(_is_nothing(judged) for judged in judges.gists(judges.in_force(seen), seen)):
            began_us = None
            continue
        if began_us is None:
            began_us, start_us = seen.at_us, first_us
        if seen.at_us - began_us > memory_us:
            found = start_us
    return found


def _is_nothing(judged: Judgement) -> bool:
    return judged is NOTHING or (not judged.undecided and not any(c.present or c.kept for c in judged.candidates))


def _memory_us(policy: CameraPolicy) -> int:
    """How long after its last sight a policy may still have to say something of a thing."""
    parts = (policy, *(entry.policy for entry in policy.scheduled))
    every: list[Rules] = [rules for part in parts for rules in (part.rules, *(s.rules for s in part.sectors))]
    spans = ((r.movement.hidden_s * OVERLOOKED_FACTOR, r.movement.outside_s, r.presence.clear_s) for r in every)
    return int(sum(max(span) for span in zip(*spans, strict=True)) * SECOND_US)
