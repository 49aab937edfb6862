"""A stretch of a camera hour by hour, the hours that matter most first, so that first figures are there at once.

Each hour is exact by itself: its fold begins where `exact_start` says, and keeps what is settled in it. What is folded
of a policy is remembered, so that moving a control back and forth folds nothing again.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple, Protocol

from policies.events import Event
from server.domain.times.clock import SECOND_US
from server.replays.job import Job, Replayed

HOUR_US = 3600 * SECOND_US
MOST_HOURS = 5000
MOST_EVENTS = 30_000
"""So much is remembered at most, of all policies together: some 60 MB; of one question an hour more."""
_TOO_MUCH = "this stretch has more events than are compared at once: choose a shorter one"
_LIMIT_S = 60.0
_AHEAD = 4
"""Hours that are begun before the one before them is done, so that every process has work while a page is drawn."""


class Asks(Protocol):
    def ask(self, job: Job, owner: str, wait_s: float = ..., ahead: Sequence[Job] = ...) -> Replayed: ...


class Hour(NamedTuple):
    """An hour, or a part of one (us)."""

    since_us: int
    until_us: int


class Tried(NamedTuple):
    """A policy by its digest and its text."""

    digest: str
    text: str


class FoldedHour(NamedTuple):
    """An hour under one policy: its frames, the first and the last (us), how long the camera was watched, and what was
    settled in it.
    """

    hour: Hour
    frames: int
    first_us: int
    last_us: int
    observed_us: int
    events: tuple[Event, ...]


class Hours(NamedTuple):
    """The hours that are folded, in order of time, for each policy. `left` hours are not; `why` says why none will be,
    and is empty while more come.
    """

    folded: tuple[tuple[FoldedHour, ...], ...]
    left: int
    why: str = ""

    def events(self, policy: int) -> list[Event]:
        """The events under one of the policies."""
        return [event for hour in self.folded[policy] for event in hour.events]

    def observed_us(self, blind_us: int) -> int:
        """How long the camera was watched in these hours, with the gaps between them that are within `blind_us`."""
        hours = [hour for hour in self.folded[0] if hour.frames]
        gaps = [after.first_us - before.last_us for before, after in pairwise(hours)]
        return sum(hour.observed_us for hour in hours) + sum(gap for gap in gaps if gap <= blind_us)


def hours_of(since_us: int, until_us: int, instants: Iterable[int] = ()) -> list[Hour]:
    """The hours of a stretch: those around `instants` first, then the others, each time the newest first."""
    first = since_us // HOUR_US * HOUR_US
    hours = [Hour(max(at, since_us), min(at + HOUR_US, until_us)) for at in range(first, until_us, HOUR_US)]
    wanted = {at_us // HOUR_US * HOUR_US for at_us in instants}
    return sorted(hours, key=lambda hour: (hour.since_us // HOUR_US * HOUR_US not in wanted, -hour.since_us))


_Key = tuple[str, str, str, str, Hour]


class HourByHour:
    """Folds hours through `replays`, and remembers them. Safe to use from several threads."""

    def __init__(self, replays: Asks) -> None:
        self._replays = replays
        self._lock = threading.Lock()
        self._known: OrderedDict[_Key, FoldedHour] = OrderedDict()
        self._events = 0

    def ask(
        self,
        site: str,
        camera: str,
        policies: Sequence[Tried],
        hours: Sequence[Hour],
        edition: Callable[[Hour], str],
        owner: str,
        wait_s: float = 0.8,
    ) -> Hours:
        """The hours that are folded after at most `wait_s`: ask again until none is left.

        `edition` names what is stored of an hour: it is folded again when that is another.
        """
        until_s = time.monotonic() + wait_s
        done: dict[Hour, list[FoldedHour]] = {}
        why, is_asking = "", True
        keys_of = {hour: [(site, camera, edition(hour), each.digest, hour) for each in policies] for hour in hours}
        asked = {key for keys in keys_of.values() for key in keys}
        for place, (hour, keys) in enumerate(keys_of.items()):
            known = self._look_up(keys)
            missing = [each for each, of_hour in zip(policies, known, strict=True) if of_hour is None]
            if missing and is_asking and self._is_too_much(asked):
                why, is_asking = _TOO_MUCH, False
            if missing and is_asking:
                job = Job(site, (camera,), tuple(each.text for each in missing), *hour, _LIMIT_S, edition=keys[0][2])
                ahead = self._ahead(site, camera, policies, list(keys_of.items())[place + 1 :])
                replayed = self._replays.ask(job, owner, max(0.0, until_s - time.monotonic()), ahead)
                why = replayed.why if replayed.is_over else ""
                is_asking = replayed.state == "done"
                if is_asking:
                    self._remember(site, camera, keys[0][2], missing, hour, replayed, asked)
                    known = self._look_up(keys)
            folded = [of_hour for of_hour in known if of_hour is not None]
            if len(folded) == len(policies):
                done[hour] = folded
        in_order = [done[hour] for hour in sorted(done)]
        return Hours(
            tuple(tuple(of_hour[place] for of_hour in in_order) for place in range(len(policies))),
            len(hours) - len(done),
            why if len(done) < len(hours) else "",
        )

    def _ahead(
        self, site: str, camera: str, policies: Sequence[Tried], hours: Sequence[tuple[Hour, list[_Key]]]
    ) -> list[Job]:
        """The jobs of the next hours that are not folded under all policies."""
        jobs: list[Job] = []
        for hour, keys in hours:
            if len(jobs) == _AHEAD:
                break
            pairs = zip(policies, self._look_up(keys), strict=True)
            texts = tuple(each.text for each, of_hour in pairs if of_hour is None)
            if texts:
                jobs.append(Job(site, (camera,), texts, *hour, _LIMIT_S, edition=keys[0][2]))
        return jobs

    def _is_too_much(self, asked: Collection[_Key]) -> bool:
        """Whether the hours of one question that are folded fill what may be remembered."""
        with self._lock:
            mine = [known for key in asked if (known := self._known.get(key)) is not None]
        return len(mine) >= MOST_HOURS or sum(len(each.events) for each in mine) >= MOST_EVENTS

    def _look_up(self, keys: Sequence[_Key]) -> list[FoldedHour | None]:
        with self._lock:
            for key in keys:
                if key in self._known:
                    self._known.move_to_end(key)
            return [self._known.get(key) for key in keys]

    def _remember(
        self,
        site: str,
        camera: str,
        edition: str,
        policies: Sequence[Tried],
        hour: Hour,
        replayed: Replayed,
        asked: Collection[_Key],
    ) -> None:
        """Keep an hour, and forget the oldest ones that are not `asked` for while there are too many."""
        [span] = replayed.spans
        with self._lock:
            for each, events in zip(policies, span.events, strict=True):
                folded = FoldedHour(hour, span.frames, span.first_us, span.last_us, span.observed_us, events)
                self._forget((site, camera, edition, each.digest, hour))
                self._known[site, camera, edition, each.digest, hour] = folded
                self._events += len(events)
            while len(self._known) > MOST_HOURS or self._events > MOST_EVENTS:
                oldest = next((key for key in self._known if key not in asked), None)
                if oldest is None:
                    break
                self._forget(oldest)

    def _forget(self, key: _Key) -> None:
        if (folded := self._known.pop(key, None)) is not None:
            self._events -= len(folded.events)
