"""A small word to the server about each camera, so that silence is never taken for an empty yard.

`POST /v1/heartbeats`, `application/json`, one per camera, with the bearer token of its bursts: every
`server.heartbeat_s` seconds (rarer where a camera has few bytes a day), at once when the camera's state changes, and
once more at a clean stop. Never spooled and never repeated: only the newest counts.

    {"site": "north-yard", "camera": "gate",
     "agent": {"version": "0.1.0", "sent_at": "2026-11-22T07:00:05.000Z", "started_at": "2026-11-22T06:00:00.000Z",
               "boot_id": "...", "every_s": 60.0},
     "clock": {"synced": true, "uncertainty_s": 0.012},
     "state": "watching", "cause": null, "detail": null, "since": "2026-11-22T06:00:03.000Z",
     "last_frame_at": "2026-11-22T07:00:04.000Z", "next_burst_by": "2026-11-22T07:00:20.000Z",
     "waiting": {"bursts": 0, "bytes": 0, "oldest_at": null},
     "counts": {"bursts": 360, "dropped": 0, "refused": 0, "uploaded_bytes": 41234567, "camera_bytes": 41234567}}

- `agent.every_s`: when the next one is due, counted from `sent_at`; where two fail to come, agent or link is down.
- `state`: `starting`, `watching`, `blind` (nothing that can be judged), `paused` (by wish), `finished` (a recording is
  over) or `stopped`; `cause` says why it is blind (`camera_failed`, `camera_hangs`, `camera_stuck`, `camera_dark`,
  `camera_covered`), paused (`outside_hours`, `over_budget`) or `stopped`; `detail` is for people.
- `next_burst_by`: the latest instant at which the next burst will have been taken, also the first one after a pause
  outside the hours; null when none is to be expected.
- `waiting`: this camera's bursts that the server does not have yet; `oldest_at` is the first one's `captured_at`.
- `counts`: since `started_at`; `uploaded_bytes` as they go over the wire, both ways, of the whole agent;
  `camera_bytes` what this camera took of it.

A 2xx is enough, its body is not read. A server that has no such door (404, 405, 501) is left alone for an hour.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import msgspec

from camera_agent import __version__
from camera_agent.cameras.health import CameraState, Condition
from camera_agent.clock import Clock, boot_id, iso_ms
from camera_agent.logs import line
from camera_agent.spool.entry import Damaged, Waiting
from camera_agent.status import Tally
from camera_agent.uplink.byte_budget import Budget, wire_bytes
from camera_agent.uplink.http_client import Beat
from camera_agent.wall_clock import Reading, Timekeeper

_log = logging.getLogger(__name__)
_LOOK_S = 0.5
_NO_SUCH_DOOR = frozenset({404, 405, 501})
_LEFT_ALONE_S = 3600.0
_MAX_DETAIL = 300
_STEPPED_S = 60.0


class By(msgspec.Struct, frozen=True):
    version: str
    sent_at: str
    started_at: str
    boot_id: str
    every_s: float


class Told(msgspec.Struct, frozen=True):
    synced: bool
    uncertainty_s: float | None


class Backlog(msgspec.Struct, frozen=True):
    bursts: int
    bytes: int
    oldest_at: str | None


class Counts(msgspec.Struct, frozen=True):
    bursts: int
    dropped: int
    refused: int
    uploaded_bytes: int
    camera_bytes: int


class Heartbeat(msgspec.Struct, frozen=True):
    """The document, field by field."""

    site: str
    camera: str
    agent: By
    clock: Told
    state: CameraState
    cause: str | None
    detail: str | None
    since: str
    last_frame_at: str | None
    next_burst_by: str | None
    waiting: Backlog
    counts: Counts


class Bursts(Protocol):
    """What it asks of the spool."""

    dropped: int

    def of(self, camera: str) -> list[Waiting]: ...


class Sender(Protocol):
    """One request; every way it can end is a value."""

    bytes_sent: int
    bytes_received: int

    def beat(self, document: bytes, token: str | None) -> Beat: ...

    def close(self) -> None: ...


class Subject(msgspec.Struct, frozen=True):
    """One camera: how it is, its token, its budget, and how often it is told of."""

    condition: Callable[[], Condition]
    token: Callable[[], str | None]
    budget: Budget
    every_s: float


class Heartbeats:
    """The thread that tells: `run` until asked to stop."""

    def __init__(
        self,
        site: str,
        subjects: Mapping[str, Subject],
        spool: Bursts,
        sender: Sender,
        tally: Tally,
        time: Timekeeper,
        clock: Clock,
        stop: threading.Event,
    ) -> None:
        self._site = site
        self._subjects = subjects
        self._spool = spool
        self._sender = sender
        self._tally = tally
        self._time = time
        self._clock = clock
        self._stop = stop
        self._begun_s = clock.monotonic_s()
        self._begun_unix_s: float | None = None
        self._due_s = dict.fromkeys(subjects, self._begun_s)
        self._told: dict[str, tuple[str, str | None]] = {}
        self._complained: set[int] = set()

    def run(self) -> None:
        """Tell until stopped, and then, once, that it was."""
        while not self._stop.is_set():
            try:
                self.tell_due()
            except Exception:  # noqa: BLE001 - a loop's top: told, and the next one is tried when it is due
                _log.exception(line("heartbeat_failed"))
            self._clock.wait_until(self._clock.monotonic_s() + _LOOK_S, self._stop)
        for camera in self._subjects:
            if self._clock.monotonic_s() >= self._due_s[camera] - self._subjects[camera].every_s:
                self._tell(camera, is_last=True)
        self._sender.close()

    def tell_due(self) -> None:
        """One heartbeat for each camera whose time has come or whose state has changed."""
        for camera, subject in self._subjects.items():
            condition = subject.condition()
            is_news = self._told.get(camera) != (condition.state, condition.cause)
            now_s = self._clock.monotonic_s()
            is_shut = self._due_s[camera] - now_s > subject.every_s
            if not self._stop.is_set() and not is_shut and (is_news or now_s >= self._due_s[camera]):
                self._tell(camera)

    def document(self, camera: str, *, is_last: bool = False) -> Heartbeat:
        """What there is to say of a camera now."""
        subject = self._subjects[camera]
        condition, reading = subject.condition(), self._time.reading()
        if is_last:
            condition = Condition("stopped", "stopped", None, self._clock.monotonic_s(), condition.last_frame_s)
        status = self._tally.read()

        def at(monotonic_s: float | None) -> str | None:
            return None if monotonic_s is None else iso_ms(round((monotonic_s + reading.ahead_s) * 1000))

        now_s = self._clock.monotonic_s()
        return Heartbeat(
            site=self._site,
            camera=camera,
            agent=By(__version__, at(now_s) or "", self._started_at(reading), boot_id(), subject.every_s),
            clock=Told(reading.synced, reading.uncertainty_s),
            state=condition.state,
            cause=condition.cause,
            detail=None if condition.detail is None else condition.detail[:_MAX_DETAIL],
            since=at(condition.since_s) or "",
            last_frame_at=at(condition.last_frame_s),
            next_burst_by=at(condition.next_burst_by_s),
            waiting=_backlog(self._spool.of(camera)),
            counts=Counts(
                status.bursts, self._spool.dropped, status.refused, status.wire_bytes, subject.budget.spent_bytes
            ),
        )

    def _started_at(self, reading: Reading) -> str:
        """When this run began, in the same words each time, since the server tells runs apart by it: what the clock is
        put right by since then is left out, unless it was stepped.
        """
        begun_s = self._begun_s + reading.ahead_s
        if self._begun_unix_s is None or abs(begun_s - self._begun_unix_s) > _STEPPED_S:
            self._begun_unix_s = begun_s
        return iso_ms(round(self._begun_unix_s * 1000))

    def _tell(self, camera: str, *, is_last: bool = False) -> None:
        subject = self._subjects[camera]
        document = self.document(camera, is_last=is_last)
        self._told[camera] = (document.state, document.cause)
        self._due_s[camera] = self._clock.monotonic_s() + subject.every_s
        try:
            token = subject.token()
        except OSError:
            return  # the uplink tells it
        sent_before, received_before = self._sender.bytes_sent, self._sender.bytes_received
        beat = self._sender.beat(msgspec.json.encode(document), token)
        sent, received = self._sender.bytes_sent - sent_before, self._sender.bytes_received - received_before
        on_wire = wire_bytes(sent) + wire_bytes(received)
        self._tally.count(wire_bytes=on_wire)
        subject.budget.spend(on_wire)
        self._heed(camera, beat)

    def _heed(self, camera: str, beat: Beat) -> None:
        self._due_s[camera] += beat.retry_after_s
        if beat.status in _NO_SUCH_DOOR:
            for each in self._due_s:
                self._due_s[each] = self._clock.monotonic_s() + _LEFT_ALONE_S
        if beat.status < 400 or beat.status in self._complained:  # no answer at all: the uplink tells it
            return
        self._complained.add(beat.status)
        _log.warning(line("heartbeat_not_taken", camera=camera, status=beat.status, problem=beat.problem or None))


def _backlog(waiting: Sequence[Waiting]) -> Backlog:
    return Backlog(len(waiting), sum(one.size_bytes for one in waiting), _captured_at(waiting[0]) if waiting else None)


def _captured_at(waiting: Waiting) -> str | None:
    try:
        opened = waiting.open()
    except (Damaged, OSError):
        return None
    opened.close()
    return opened.envelope.captured_at
