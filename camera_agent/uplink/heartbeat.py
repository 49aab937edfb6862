"""Heartbeats: a short report per camera to the server, so that silence is never taken for an empty yard.

`POST /v1/heartbeats`, `application/json`, one per camera, with the bearer token of its bursts: every
`server.heartbeat_s` seconds (less often for a small byte budget), at once when the camera's state changes, and once
more at a clean stop. Heartbeats are not spooled or repeated: only the newest counts.

    {"site": "north-yard", "camera": "gate",
     "agent": {"version": "0.1.0", "sent_at": "2026-11-22T07:00:05.000Z", "started_at": "2026-11-22T06:00:00.000Z",
               "boot_id": "...", "every_s": 60.0},
     "clock": {"synced": true, "uncertainty_s": 0.012},
     "state": "watching", "cause": null, "detail": null, "since": "2026-11-22T06:00:03.000Z",
     "last_frame_at": "2026-11-22T07:00:04.000Z", "next_burst_by": "2026-11-22T07:00:20.000Z",
     "waiting": {"bursts": 0, "bytes": 0, "oldest_at": null},
     "counts": {"bursts": 360, "dropped": 0, "refused": 0, "uploaded_bytes": 41234567, "camera_bytes": 41234567,
                "damaged": 0, "mended": 0}}

- `agent.every_s`: when the next one is due, counted from `sent_at`. If two are missing, agent or link is down.
- `state`: `starting`, `watching`, `blind` (no picture can be judged), `paused` (by the settings), `finished` (a
  recording is over) or `stopped`. `cause` says why it is blind (`camera_failed`, `camera_hangs`, `camera_stuck`,
  `camera_dark`, `camera_covered`), paused (`outside_hours`, `over_budget`) or `stopped`; `detail` is for people.
- `next_burst_by`: by then the next burst is complete, also the first one after a pause outside the hours; null when
  none is expected.
- `waiting`: this camera's bursts that the server does not have yet; `oldest_at` is the first one's `captured_at`.
- `counts`: since `started_at`. `uploaded_bytes` is the whole agent's traffic on the wire in both directions,
  `camera_bytes` this camera's part of it. `damaged` pictures of this camera were passed over; `mended` ones had a
  faulty start or end.

Any 2xx answer is a success; its body is not read. A server without this endpoint (404, 405, 501) gets the next
heartbeat after an hour.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from camera_agent import __version__
from camera_agent.cameras.health import Condition
from camera_agent.clock import Clock, boot_id, iso_ms
from camera_agent.spool.entry import Damaged, SpoolEntry
from camera_agent.spool.spool import Spool
from camera_agent.status import StatusCounters
from camera_agent.uplink.byte_budget import ByteBudget
from camera_agent.uplink.http_client import HeartbeatAnswer, HttpClient
from camera_agent.wall_clock import Offset, WallClock

_log = logging.getLogger(__name__)
_POLL_S = 0.5
_NO_ENDPOINT = frozenset({404, 405, 501})
_NO_ENDPOINT_WAIT_S = 3600.0
_MAX_DETAIL = 300
_STEPPED_S = 60.0


class HeartbeatSource(msgspec.Struct, frozen=True):
    """What heartbeats need of one camera: its condition, token and budget, and its heartbeats' interval."""

    condition: Callable[[], Condition]
    token: Callable[[], str | None]
    budget: ByteBudget
    every_s: float


class Heartbeats:
    """The thread that sends heartbeats: `run` until `stop` is set."""

    def __init__(
        self,
        site: str,
        sources: Mapping[str, HeartbeatSource],
        spool: Spool,
        client: HttpClient,
        counters: StatusCounters,
        wall_clock: WallClock,
        clock: Clock,
        stop: threading.Event,
    ) -> None:
        self._site = site
        self._sources = sources
        self._spool = spool
        self._client = client
        self._counters = counters
        self._wall_clock = wall_clock
        self._clock = clock
        self._stop = stop
        self._started_s = clock.monotonic_s()
        self._started_unix_s: float | None = None
        self._due_s = dict.fromkeys(sources, self._started_s)
        self._sent_states: dict[str, tuple[str, str | None]] = {}
        self._logged_statuses: set[int] = set()

    def run(self) -> None:
        """Send until stopped, then one more for each camera that says so."""
        while not self._stop.is_set():
            try:
                self.send_due()
            except Exception:  # noqa: BLE001 - the thread must go on; the error is logged, the next one sent when due
                _log.exception("heartbeat_failed")
            self._clock.wait_until(self._clock.monotonic_s() + _POLL_S, self._stop)
        for camera in self._sources:
            if not self._is_suspended(camera):
                self._send(camera, is_last=True)
        self._client.close()

    def send_due(self) -> None:
        """Send one heartbeat for each camera that is due or whose state has changed."""
        for camera, source in self._sources.items():
            condition = source.condition()
            has_changed = self._sent_states.get(camera) != (condition.state, condition.cause)
            is_due = has_changed or self._clock.monotonic_s() >= self._due_s[camera]
            if is_due and not self._stop.is_set() and not self._is_suspended(camera):
                self._send(camera)

    def document(self, camera: str, *, is_last: bool = False) -> dict[str, Any]:
        """The heartbeat of a camera as of now."""
        source, status, offset = self._sources[camera], self._counters.read(), self._wall_clock.offset()
        condition, now_s = source.condition(), self._clock.monotonic_s()
        if is_last:
            condition = msgspec.structs.replace(
                condition, state="stopped", cause="stopped", detail=None, since_s=now_s, next_burst_by_s=None
            )

        def at(monotonic_s: float | None) -> str | None:
            return None if monotonic_s is None else iso_ms(round((monotonic_s + offset.ahead_s) * 1000))

        return {
            "site": self._site,
            "camera": camera,
            "agent": {
                "version": __version__,
                "sent_at": at(now_s),
                "started_at": self._started_at(offset),
                "boot_id": boot_id(),
                "every_s": source.every_s,
            },
            "clock": {"synced": offset.synced, "uncertainty_s": offset.uncertainty_s},
            "state": condition.state,
            "cause": condition.cause,
            "detail": condition.detail and condition.detail[:_MAX_DETAIL],
            "since": at(condition.since_s),
            "last_frame_at": at(condition.last_frame_s),
            "next_burst_by": at(condition.next_burst_by_s),
            "waiting": _backlog(self._spool.entries_of(camera)),
            "counts": {
                "bursts": status.bursts,
                "dropped": self._spool.dropped,
                "refused": status.refused,
                "uploaded_bytes": status.wire_bytes,
                "camera_bytes": source.budget.spent_bytes,
                "damaged": condition.damaged,
                "mended": condition.mended,
            },
        }

    def _is_suspended(self, camera: str) -> bool:
        """Whether the server asked to wait, or has no such endpoint: not even a change is sent then."""
        return self._due_s[camera] - self._clock.monotonic_s() > self._sources[camera].every_s

    def _started_at(self, offset: Offset) -> str:
        """When this run started, the same text each time: the server tells runs apart by it. Small corrections of the
        clock since then are left out.
        """
        started_s = self._started_s + offset.ahead_s
        if self._started_unix_s is None or abs(started_s - self._started_unix_s) > _STEPPED_S:
            self._started_unix_s = started_s
        return iso_ms(round(self._started_unix_s * 1000))

    def _send(self, camera: str, *, is_last: bool = False) -> None:
        source = self._sources[camera]
        document = self.document(camera, is_last=is_last)
        self._sent_states[camera] = (document["state"], document["cause"])
        self._due_s[camera] = self._clock.monotonic_s() + source.every_s
        try:
            token = source.token()
        except OSError:
            return  # the uplink logs it
        answer = self._client.send_heartbeat(msgspec.json.encode(document), token)
        _, on_wire = self._client.take_traffic()
        self._counters.add(wire_bytes=on_wire)
        source.budget.spend(on_wire)
        self._handle(camera, answer)

    def _handle(self, camera: str, answer: HeartbeatAnswer) -> None:
        self._due_s[camera] += answer.retry_after_s
        if answer.status in _NO_ENDPOINT:
            self._due_s = dict.fromkeys(self._sources, self._clock.monotonic_s() + _NO_ENDPOINT_WAIT_S)
        if answer.status < 400 or answer.status in self._logged_statuses:  # the uplink logs a missing answer
            return
        self._logged_statuses.add(answer.status)
        _log.warning(
            "heartbeat_not_taken",
            extra={"camera": camera, "status": answer.status, "problem": answer.problem or None},
        )


def _backlog(entries: Sequence[SpoolEntry]) -> dict[str, Any]:
    oldest_at = None
    with contextlib.suppress(IndexError, Damaged, OSError), entries[0].open() as (header, _):
        oldest_at = header.envelope.captured_at
    return {"bursts": len(entries), "bytes": sum(entry.size_bytes for entry in entries), "oldest_at": oldest_at}
