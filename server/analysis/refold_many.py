"""Fold a stored history under several policies, as the server does live, in a single reading."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import NamedTuple

from msgspec.structs import replace

from policies.events import Event
from policies.fold import REMEMBERED, Judge, advance, initial_state, remembered
from policies.fusion.judge import relevant_judgement
from policies.fusion.judgement import NOTHING, Judgement
from policies.observation import Observation
from policies.site.rules import Movement, Presence, Rules
from policies.site.site_policy import CameraPolicy, SitePolicy
from policies.tracking.lifetime import OVERLOOKED_FACTOR
from policies.tracking.track import Track
from server.domain.records import Recorded
from server.domain.times.clock import SECOND_US

HistoryFrom = Callable[[int], Iterable[Recorded]]
"""Gives a camera's frames from an instant (us) to the begin of the stretch of interest."""

_LOOK_BACK_US = (600 * SECOND_US, 3600 * SECOND_US, 6 * 3600 * SECOND_US, 86400 * SECOND_US, 7 * 86400 * SECOND_US)


class FoldResult(NamedTuple):
    """The number of frames in the stretch, its first and last instant (us), and the events of each policy, in order.

    `observed_us` is how long the camera was watched: the time between frames that are no further apart than the
    `blind_s` of the first policy.
    """

    frames: int
    first_us: int
    last_us: int
    events: tuple[tuple[Event, ...], ...]
    observed_us: int = 0


class EventsSince:
    """Collects the events that a fold settles from `since_us` on, each in its first version.

    Give it all events of the fold: one that was settled before `since_us` is not counted again after it.
    """

    def __init__(self, since_us: int | None) -> None:
        self._since_us = since_us
        self._earlier: set[str] = set()
        self._events: dict[str, Event] = {}

    def add(self, at_us: int, events: Iterable[Event]) -> None:
        """Add the events that the frame of an instant (us) settled."""
        if self._since_us is not None and at_us < self._since_us:
            self._earlier.update(event.id for event in events)
            return
        for event in events:
            if event.id not in self._earlier:
                self._events.setdefault(event.id, event)

    def events(self) -> list[Event]:
        """The events in the order in which they were settled."""
        return list(self._events.values())


class ManyFolds:
    """One camera's history under several policies, frame by frame; only events settled from `since_us` on are kept.

    The history must begin with the camera's first frame, or at the instant that `exact_start` gives. Memory holds the
    events and one state per policy, whatever the length of the history.
    """

    def __init__(self, camera: str, policies: Sequence[SitePolicy], since_us: int | None = None) -> None:
        self._rules = [policy.camera(camera) for policy in policies]
        self._judges, self._judged = _shared_judges(self._rules)
        self._states = [initial_state() for _ in policies]
        self._collected = [EventsSince(since_us) for _ in policies]
        self._since_us = since_us
        self._blind_us = int(self._rules[0].rules.presence.blind_s * SECOND_US) if self._rules else 0
        self._frames = self._first_us = self._last_us = self._observed_us = 0

    def add(self, seen: Observation) -> None:
        """Advance every policy over the next frame."""
        is_inside = self._since_us is None or seen.at_us >= self._since_us
        if self._first_us and seen.at_us - self._last_us <= self._blind_us:
            self._observed_us += seen.at_us - self._last_us
        self._first_us = self._first_us or (seen.at_us if is_inside else 0)
        self._last_us = seen.at_us
        self._frames += is_inside
        self._judged.clear()
        for place, policy in enumerate(self._rules):
            self._states[place], events = advance(policy, self._states[place], seen, self._judges[place])
            if events:
                self._collected[place].add(seen.at_us, events)

    @property
    def tracks(self) -> tuple[Track, ...]:
        """The tracks after the last frame, under the first policy."""
        return self._states[0].tracks

    def result(self) -> FoldResult:
        """What the frames so far gave."""
        events = tuple(tuple(each.events()) for each in self._collected)
        return FoldResult(self._frames, self._first_us, self._last_us, events, self._observed_us)


def fold_history(
    history: Iterable[Recorded], camera: str, policies: Sequence[SitePolicy], since_us: int | None = None
) -> FoldResult:
    """The events of each policy over a camera's history, as `ManyFolds` gives them."""
    folds = ManyFolds(camera, policies, since_us)
    for recorded in history:
        folds.add(recorded.observation)
    return folds.result()


def _shared_judges(rules: Sequence[CameraPolicy]) -> tuple[list[Judge], dict[int, Judgement]]:
    """A judge for each policy, and what is judged of the frame: policies that judge alike share it. Clear it per frame.

    Most policies that `tune` tries differ only in movement and presence, and judging takes half the time of a fold.
    """
    judged: dict[int, Judgement] = {}
    judging = [_judging(policy) for policy in rules]

    def judge(first: int, policy: CameraPolicy, seen: Observation) -> Judgement:
        if first not in judged:
            judged[first] = relevant_judgement(policy, seen)
        return judged[first]

    judges: list[Judge] = [
        partial(judge, judging.index(each)) if judging.count(each) > 1 else relevant_judgement for each in judging
    ]
    return judges, judged


def _judging(policy: CameraPolicy) -> CameraPolicy:
    """The policy with only those settings on which its judgements depend."""

    def plain(rules: Rules) -> Rules:
        return replace(rules, presence=Presence(), movement=Movement())

    return replace(
        policy,
        digest="",
        rules=plain(policy.rules),
        sectors=tuple(replace(sector, rules=plain(sector.rules)) for sector in policy.sectors),
        scheduled=tuple(replace(entry, policy=_judging(entry.policy)) for entry in policy.scheduled),
    )


def exact_start(history: HistoryFrom, camera: str, policies: Sequence[SitePolicy], since_us: int) -> int | None:
    """The latest instant (us) at which a fold may begin and be exact from `since_us` on; None: at the first frame.

    Once every policy has decided "nothing here" for longer than any of them remembers a track or presence, every state
    is empty, whatever it was before. A fold that begins with such a stretch has the state of a fold over all frames.
    What is remembered of a scene goes back further, so a policy that asks for `moving` needs all frames.
    """
    rules = [policy.camera(camera) for policy in policies]
    if any(policy.asks_for_moving for policy in rules):
        return None
    memory_us = max(map(_memory_us, rules))
    starts_us = (_last_quiet_start(history(since_us - back_us), rules, memory_us) for back_us in _LOOK_BACK_US)
    return next((start_us for start_us in starts_us if start_us is not None), None)


def _last_quiet_start(history: Iterable[Recorded], rules: Sequence[CameraPolicy], memory_us: int) -> int | None:
    """Where a fold begins for the last quiet stretch longer than `memory_us`; None where there is no such stretch.

    The fold begins some frames before the stretch, so that it recognises frames that the camera repeats within it.
    """
    start_us = quiet_since_us = earliest_us = None
    frames: tuple[str, ...] = ()
    came_us: dict[str, int] = {}
    for seen in (recorded.observation for recorded in history):
        before, (frames, is_repeat) = frames, remembered(frames, seen.frame_sha256)
        oldest_us = came_us[before[0]] if before else seen.at_us
        came_us = {name: came_us.get(name, seen.at_us) for name in frames} | {seen.frame_sha256: seen.at_us}
        if (
            is_repeat or len(before) < REMEMBERED
        ):  # a repeat decides nothing; without a full memory, a frame may be a repeat
            continue
        if not all(_sees_nothing(policy, seen) for policy in rules):
            quiet_since_us = None
            continue
        if quiet_since_us is None:
            quiet_since_us, earliest_us = seen.at_us, oldest_us
        if seen.at_us - quiet_since_us > memory_us:
            start_us = earliest_us
    return start_us


def _sees_nothing(policy: CameraPolicy, seen: Observation) -> bool:
    judged: Judgement = relevant_judgement(policy, seen)
    return judged is NOTHING or (not judged.undecided and not any(c.present or c.kept for c in judged.candidates))


def _memory_us(policy: CameraPolicy) -> int:
    """How long (us) after its last detection a track or presence may still settle an event."""
    parts = (policy, *(entry.policy for entry in policy.scheduled))
    every: list[Rules] = [rules for part in parts for rules in (part.rules, *(s.rules for s in part.sectors))]
    spans = ((r.movement.hidden_s * OVERLOOKED_FACTOR, r.movement.outside_s, r.presence.clear_s) for r in every)
    return int(sum(max(span) for span in zip(*spans, strict=True)) * SECOND_US)
