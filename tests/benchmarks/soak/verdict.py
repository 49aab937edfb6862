"""What `soak` proves and measures, of what was collected. Pure."""

from __future__ import annotations

import re
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

Wire = Mapping[str, Any]
"""An event as `GET /v1/events` gives it."""

Name = tuple[str, str]
"""Site and camera."""

_HISTORY = frozenset({"late", "withdrawn", "supersedes", "superseded_by"})
"""How the log came to an event: the order of arrival decides it."""

_SHOWN = 5
_WARM_UP = 0.2
_LEAST_S = 40.0
_MOST_DROPPED = 0.1
_WORKER_ENDS = re.compile(r"Worker \(pid:N\) (was sent|exited with code (?![34]\.))")
"""3 and 4: the worker did not start, and the server ends as well."""


def facts(event: Wire) -> dict[str, Any]:
    """All of an event that must not depend on the order in which bursts came."""
    return {key: value for key, value in event.items() if key not in _HISTORY}


def differences(log: Sequence[Wire], clean: Sequence[Wire], kept_from: Mapping[Name, datetime | None]) -> Iterator[str]:
    """Where a log is not that of the clean run, in sentences.

    `kept_from`: from where on a camera's events are kept. Of older ones some may be left; these must be right too.
    """
    logged = {event["id"]: event for event in log}
    if len(logged) != len(log):
        yield f"{len(log) - len(logged)} events are in the log twice"
    expected = {event["id"]: event for event in clean}
    missing = [event for name, event in expected.items() if name not in logged and _is_kept(event, kept_from)]
    extra = [event for name, event in logged.items() if name not in expected]
    changed = [event for name, event in logged.items() if name in expected and facts(event) != facts(expected[name])]
    for what, events in (
        ("missing from the log", missing),
        ("only in the log", extra),
        ("different in the log", changed),
    ):
        if events:
            yield f"{len(events)} events are {what}: {'; '.join(map(_shown, events[:_SHOWN]))}"


class Followed:
    """What somebody holds who follows the log: the last announcement of each event id.

    `again` counts the announcements that say the same as the one before them of that event.
    """

    def __init__(self) -> None:
        self.events: dict[str, Wire] = {}
        self.again = 0

    def hear(self, event: Wire) -> None:
        self.again += self.events.get(event["id"]) == event
        self.events[event["id"]] = event


def followed_differences(
    what: str, followed: Mapping[str, Wire], log: Sequence[Wire], kept_from: Mapping[Name, datetime | None]
) -> Iterator[str]:
    """Where somebody who followed the log holds other events than the log, in sentences.

    `followed`: the last announcement of each id, withdrawals included. Retention withdraws nothing: what it deleted may
    be held still.
    """
    held = {name: event for name, event in followed.items() if not event["withdrawn"]}
    logged = {event["id"]: event for event in log}
    missing = [event for name, event in logged.items() if name not in held and _is_kept(event, kept_from)]
    extra = [event for name, event in held.items() if name not in logged and _is_kept(event, kept_from)]
    changed = [event for name, event in logged.items() if name in held and facts(held[name]) != facts(event)]
    for how, events in (("misses", missing), ("still holds", extra), ("holds in another form", changed)):
        if events:
            yield f"{what} {how} {len(events)} events: {'; '.join(map(_shown, events[:_SHOWN]))}"


def _is_kept(event: Wire, kept_from: Mapping[Name, datetime | None]) -> bool:
    border = kept_from.get((event["site"], event["camera"]))
    return border is None or datetime.fromisoformat(event["confirmed_at"]) >= border


def _shown(event: Wire) -> str:
    return f"{event['kind']} {event['site']}/{event['camera']} {event['confirmed_at']} {event['id']}"


@dataclass(frozen=True, slots=True)
class Sample:
    """The server at an instant of the run (s): how often it has been started, and what it takes.

    `own_mb`: memory that is not of files (anonymous, proportional); others on the machine do not move it.
    `bounded_bytes`: of the sites that keep a part of the day only. `file_bytes`: of all files. `log_bytes`: of SQLite's
    write-ahead log.
    """

    at_s: float
    life: int
    own_mb: float
    rss_mb: float
    handles: int
    threads: int
    bounded_bytes: int
    file_bytes: int
    log_bytes: int


@dataclass(frozen=True, slots=True)
class Trend:
    """Medians of the first and of the last third of a series, and the largest value."""

    first: float
    last: float
    most: float

    @property
    def ratio(self) -> float:
        return self.last / self.first if self.first else float("inf") if self.last else 1.0


def trend(values: Sequence[float]) -> Trend:
    """The trend of a series of at least three values."""
    third = max(1, len(values) // 3)
    return Trend(statistics.median(values[:third]), statistics.median(values[-third:]), max(values))


def longest_life(samples: Sequence[Sample]) -> list[Sample]:
    """The samples of the process that lived longest, after its warm-up."""
    lives: dict[int, list[Sample]] = {}
    for sample in samples:
        lives.setdefault(sample.life, []).append(sample)
    longest = max(lives.values(), key=lambda life: life[-1].at_s - life[0].at_s, default=[])
    return longest[int(len(longest) * _WARM_UP) :]


_ALLOWED = {
    "own_mb": (1.05, 4.0),
    "rss_mb": (1.05, 4.0),
    "handles": (1.0, 12.0),
    "threads": (1.0, 36.0),
}
"""Of a trend: how many times the first third the last may be, and how much more. The 36 request threads of these
settings (`gunicorn_options`) start as they are needed.
"""


def trends(samples: Sequence[Sample]) -> dict[str, Trend]:
    """The trend of each figure that must be flat, over the longest life of a process; none of too short a life."""
    life = longest_life(samples)
    if not life or life[-1].at_s - life[0].at_s < _LEAST_S:
        return {}
    return {name: trend([float(getattr(sample, name)) for sample in life]) for name in _ALLOWED}


def unplanned_ends(ends: Mapping[str, int], log: Mapping[str, int], planned: Mapping[str, int]) -> Iterator[str]:
    """Ends of the server and of its worker that no fault brings about, in sentences.

    `ends`: exit codes of the server, and how often. `planned`: kinds of faults, and how often. A server that starts
    while the port is taken or the disk is full ends with 1. A fault that ends the server leaves nobody who logs the
    end of the worker, so each such line of the log is one too many.
    """
    kills, stops = planned.get("kill", 0) + planned.get("orphan", 0), planned.get("stop", 0)
    failed_starts = kills + stops + planned.get("disk", 0)
    for codes, most in ((("-9",), kills), (("0", "-15"), stops), (("1",), failed_starts)):
        count = sum(ends.get(code, 0) for code in codes)
        if count > most:
            yield f"the server ends {count} times with {' or '.join(codes)}, and {most} of them are planned"
    for code in sorted(set(ends) - {"-9", "0", "-15", "1"}):
        yield f"the server ends {ends[code]} times with {code}"
    for line, count in log.items():
        if count and _WORKER_ENDS.search(line):
            yield f"{count} times in the server's log: {line}"


def gaps(
    found: Mapping[str, Trend] | None, *, bursts: int, acknowledged: int, dropped: int, cameras: int, events: int
) -> Iterator[str]:
    """What keeps a run from showing anything, in sentences.

    `found`: the trends, None for a run that is too short for them. `bursts`: how many the cameras take. `events`: of
    the clean run.
    """
    if found is not None and not found:
        yield f"no process lives for {_LEAST_S:g} s after its warm-up: nothing shows whether anything grows"
    if dropped > bursts * _MOST_DROPPED:
        yield f"full spools dropped {dropped} of {bursts} bursts"
    if acknowledged < bursts * (1 - _MOST_DROPPED):
        yield f"only {acknowledged} of {bursts} bursts are acknowledged"
    if events < cameras:
        yield f"the clean run has {events} events for {cameras} cameras"


def growths(found: Mapping[str, Trend]) -> Iterator[str]:
    """Which figures are not flat, in sentences."""
    for name, each in found.items():
        times, more = _ALLOWED[name]
        if each.last > each.first * times + more:
            yield f"{name} grows from {each.first:.1f} to {each.last:.1f} ({each.ratio:.3f} times)"
