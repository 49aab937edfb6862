"""The thread that sends bursts, one at a time, until the server has each.

Cameras take turns. A lost connection delays every camera. A camera for which the server has no room now, or whose token
it does not accept, waits alone.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping

from camera_agent.clock import Clock, boot_id
from camera_agent.network.backoff import Backoff
from camera_agent.spool.entry import Damaged, SpoolEntry
from camera_agent.spool.spool import Spool
from camera_agent.status import StatusCounters
from camera_agent.uplink.byte_budget import ByteBudget, wire_bytes
from camera_agent.uplink.http_client import Accepted, HttpClient, Outcome, Refused, RetryLater, Unauthorised
from camera_agent.wall_clock import WallClock, was_clock_unset

_log = logging.getLogger(__name__)
_IDLE_S = 0.25
_RECHECK_S = 5.0


class Uplink:
    """`run` sends until `stop` is set, finishes the request under way, and closes the client."""

    def __init__(
        self,
        spool: Spool,
        client: HttpClient,
        tokens: Mapping[str, Callable[[], str | None]],
        counters: StatusCounters,
        clock: Clock,
        stop: threading.Event,
        *,
        wall_clock: WallClock | None = None,
        budgets: Mapping[str, ByteBudget] | None = None,
        retry: Backoff | None = None,
        token_retry: Callable[[], Backoff] = lambda: Backoff(first_s=30.0, max_s=600.0),
        camera_retry: Callable[[], Backoff] = lambda: Backoff(first_s=1.0, max_s=60.0),
    ) -> None:
        self._spool = spool
        self._client = client
        self._tokens = tokens
        self._counters = counters
        self._clock = clock
        self._stop = stop
        self._wall_clock = wall_clock or WallClock(clock)
        self._budgets = budgets or {}
        self._retry = retry or Backoff(first_s=1.0, max_s=60.0)
        self._token_retry = token_retry
        self._camera_retry = camera_retry
        self._held_until_s: dict[str, float] = {}
        self._sent_untimed: set[int] = set()
        """Orders of the bursts that were sent while their time was unknown."""
        self._token_backoffs: dict[str, Backoff] = {}
        self._camera_backoffs: dict[str, Backoff] = {}

    def run(self) -> None:
        while not self._stop.is_set():
            try:
                wait_s = self.send_next()
            except Exception:  # noqa: BLE001 - the thread must go on; the error is logged and the burst retried
                _log.exception("uplink_failed")
                wait_s = self._retry.next_s()
            if wait_s > 0:
                self._clock.wait_until(self._clock.monotonic_s() + wait_s, self._stop)
        self._client.close()

    def send_next(self) -> float:
        """Send the next burst, waiting a moment for one. Returns how long to wait before the next, in seconds."""
        now_s = self._clock.monotonic_s()
        held = {camera for camera, until_s in self._held_until_s.items() if now_s < until_s}
        entry = self._spool.next(without=held, timeout_s=_IDLE_S)
        if entry is None or not self._is_affordable(entry):
            return 0.0
        timed = self._with_time(entry)
        if timed is None:
            return 0.0
        if isinstance(timed, RetryLater):
            return self._handle(entry, timed, 0.0)
        if not timed.is_timed:
            self._sent_untimed.add(timed.order)
        began_s = self._clock.monotonic_s()
        outcome = self._send(timed)
        return self._handle(timed, outcome, self._clock.monotonic_s() - began_s)

    def _send(self, entry: SpoolEntry) -> Outcome:
        try:
            token = self._tokens[entry.camera]() if entry.camera in self._tokens else None
        except OSError as error:
            return Unauthorised(f"the token cannot be read: {error.strerror} {error.filename}")
        outcome = self._client.send_burst(entry, token)
        sent, on_wire = self._client.take_traffic()
        self._counters.add(bytes_sent=sent, wire_bytes=on_wire)
        if entry.camera in self._budgets:
            self._budgets[entry.camera].spend(on_wire)
        return outcome

    def _is_affordable(self, entry: SpoolEntry) -> bool:
        """Whether the camera's budget allows the burst now. If not, the camera's bursts wait for a while."""
        budget = self._budgets.get(entry.camera)
        wait_s = 0.0 if budget is None else budget.wait_s(wire_bytes(entry.size_bytes))
        if wait_s > 0:
            self._hold(entry.camera, min(wait_s, _RECHECK_S))
        return wait_s <= 0

    def _with_time(self, entry: SpoolEntry) -> SpoolEntry | RetryLater | None:
        """The burst with its final instants: one whose clock's error was unknown gets new ones if the time is known.

        Returns None for a burst that must wait until the time is known, and RetryLater where no answer comes.
        A burst that was sent keeps its instants, since the server may have it.
        """
        if entry.is_timed or entry.order in self._sent_untimed:
            return entry
        try:
            with entry.open() as (header, _):
                envelope = header.envelope
            is_of_this_boot = envelope.clock.boot_id == boot_id()
            timed = self._wall_clock.retimed(envelope)
            if timed is None and is_of_this_boot:
                silence = self._client.fetch_time()
                if silence is not None:
                    return silence
                timed = self._wall_clock.retimed(envelope)
            if timed is not None:
                return self._spool.retime(entry, timed)
        except (Damaged, OSError):
            return entry  # sending it fails in the same way, and is handled there
        if was_clock_unset(envelope) and is_of_this_boot:
            self._hold(entry.camera, _RECHECK_S)
            return None
        return entry

    def _handle(self, entry: SpoolEntry, outcome: Outcome, took_s: float) -> float:
        """Act on an outcome; return how long to wait."""
        if isinstance(outcome, RetryLater) and not outcome.is_of_camera:
            wait_s = self._retry.next_s(at_least_s=outcome.retry_after_s)
            _log.warning("sending_failed", extra={**entry.fields, "cause": outcome.cause, "retry_in_s": wait_s})
            self._counters.update(link="down", link_cause=outcome.cause)
            return wait_s
        if self._retry.failures:
            _log.info("link_back", extra={"failures": self._retry.failures})
            self._retry.reset()
        if isinstance(outcome, RetryLater):
            self._hold_for_room(entry, outcome)
            return 0.0
        self._camera_backoffs.pop(entry.camera, None)
        self._counters.update(link="up", link_cause=None)
        if isinstance(outcome, Unauthorised):
            self._hold_for_token(entry.camera, outcome.problem)
            return 0.0
        self._token_backoffs.pop(entry.camera, None)
        if isinstance(outcome, Refused):
            _log.error("burst_refused", extra={**entry.fields, "problem": outcome.problem})
            self._spool.set_aside(entry, outcome.problem)
            self._counters.add(refused=1)
            return 0.0
        self._sent_untimed.discard(entry.order)
        self._spool.remove(entry)  # also one that is gone: its file may be missing
        if isinstance(outcome, Accepted):
            fields = {"bytes": entry.size_bytes, "known": outcome.known, "events": len(outcome.receipt.events)}
            _log.info("burst_sent", extra={**entry.fields, **fields, "took_s": took_s})
            self._counters.add(sent=1, known=int(outcome.known), events=len(outcome.receipt.events))
        return 0.0

    def _hold(self, camera: str, wait_s: float) -> None:
        self._held_until_s[camera] = self._clock.monotonic_s() + wait_s

    def _hold_for_room(self, entry: SpoolEntry, outcome: RetryLater) -> None:
        """Leave this camera's bursts in the spool until the server may have room for it."""
        if outcome.is_of_burst:
            self._spool.put_behind(entry)
        backoff = self._camera_backoffs.setdefault(entry.camera, self._camera_retry())
        retry_in_s = backoff.next_s(at_least_s=outcome.retry_after_s)
        self._hold(entry.camera, retry_in_s)
        _log.warning("sending_failed", extra={**entry.fields, "cause": outcome.cause, "retry_in_s": retry_in_s})
        self._counters.update(link="down", link_cause=outcome.cause)

    def _hold_for_token(self, camera: str, problem: str) -> None:
        """Leave this camera's bursts in the spool for a while; the token may be corrected meanwhile."""
        retry_in_s = self._token_backoffs.setdefault(camera, self._token_retry()).next_s()
        self._hold(camera, retry_in_s)
        _log.error("unauthorised", extra={"camera": camera, "problem": problem, "retry_in_s": retry_in_s})
        self._counters.update(link_cause=f"{camera}: {problem}")
