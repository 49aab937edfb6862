"""The sending half: the oldest burst first, one at a time, until the server has it.

What holds everybody up (no link, a busy server) waits for all; a camera whose token is not accepted waits alone,
and its bursts stay in the spool.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Mapping
from typing import Protocol

from camera_agent.burst import Envelope
from camera_agent.clock import Clock, boot_id
from camera_agent.logs import line
from camera_agent.network.backoff import Backoff
from camera_agent.spool.entry import Damaged, Waiting
from camera_agent.status import Tally
from camera_agent.uplink.byte_budget import Budget, wire_bytes
from camera_agent.uplink.http_client import Accepted, Later, Outcome, Refused, Unauthorised
from camera_agent.wall_clock import Timekeeper, is_unset

_log = logging.getLogger(__name__)
_IDLE_S = 0.25
_LOOK_AGAIN_S = 5.0


class Bursts(Protocol):
    """What the uplink asks of the spool."""

    def next(self, *, without: Collection[str] = (), timeout_s: float = 0.0) -> Waiting | None: ...

    def remove(self, waiting: Waiting) -> None: ...

    def set_aside(self, waiting: Waiting, problem: str) -> None: ...

    def retime(self, waiting: Waiting, envelope: Envelope) -> Waiting: ...


class Sender(Protocol):
    """One request; every way it can end is a value."""

    bytes_sent: int
    bytes_received: int

    def post(self, waiting: Waiting, token: str | None) -> Outcome: ...

    def hear_time(self) -> None: ...


class Uplink:
    """The thread that sends: `run` until asked to stop, finishing what it is sending."""

    def __init__(
        self,
        spool: Bursts,
        sender: Sender,
        tokens: Mapping[str, Callable[[], str | None]],
        tally: Tally,
        clock: Clock,
        stop: threading.Event,
        *,
        time: Timekeeper | None = None,
        budgets: Mapping[str, Budget] | None = None,
        later: Backoff | None = None,
        refused_token: Callable[[], Backoff] = lambda: Backoff(first_s=30.0, most_s=600.0),
    ) -> None:
        self._spool = spool
        self._sender = sender
        self._tokens = tokens
        self._tally = tally
        self._clock = clock
        self._stop = stop
        self._time = time or Timekeeper(clock)
        self._budgets = budgets or {}
        self._later = later or Backoff(first_s=1.0, most_s=60.0)
        self._refused_token = refused_token
        self._held: dict[str, tuple[float, Backoff | None]] = {}

    def run(self) -> None:
        """Send until stopped."""
        while not self._stop.is_set():
            try:
                wait_s = self.send_one()
            except Exception:  # noqa: BLE001 - a loop's top: told, and tried again like a lost link
                _log.exception(line("uplink_failed"))
                wait_s = self._later.next_s()
            if wait_s > 0:
                self._clock.wait_until(self._clock.monotonic_s() + wait_s, self._stop)

    def send_one(self) -> float:
        """Send the oldest burst, waiting a moment for one; return how long to wait before the next, in seconds."""
        now_s = self._clock.monotonic_s()
        held = {camera for camera, (until_s, _) in self._held.items() if now_s < until_s}
        waiting = self._spool.next(without=held, timeout_s=_IDLE_S)
        if waiting is None:
            return 0.0
        if not self._is_affordable(waiting):
            return 0.0
        timed = self._timed(waiting)
        if timed is None:
            return 0.0
        begun_s = self._clock.monotonic_s()
        try:
            token = self._tokens[timed.camera]() if timed.camera in self._tokens else None
        except OSError as error:
            outcome: Outcome = Unauthorised(problem=f"the token cannot be read: {error.strerror} {error.filename}")
        else:
            outcome = self._post(timed, token)
        return self._act(timed, outcome, self._clock.monotonic_s() - begun_s)

    def _post(self, waiting: Waiting, token: str | None) -> Outcome:
        sent_before, received_before = self._sender.bytes_sent, self._sender.bytes_received
        outcome = self._sender.post(waiting, token)
        sent, received = self._sender.bytes_sent - sent_before, self._sender.bytes_received - received_before
        on_wire = wire_bytes(sent) + wire_bytes(received)
        self._tally.count(bytes_sent=sent, wire_bytes=on_wire)
        if waiting.camera in self._budgets:
            self._budgets[waiting.camera].spend(on_wire)
        return outcome

    def _is_affordable(self, waiting: Waiting) -> bool:
        """Whether the camera's budget allows it now; else its bursts wait until it does."""
        budget = self._budgets.get(waiting.camera)
        wait_s = 0.0 if budget is None else budget.wait_s(wire_bytes(waiting.size_bytes))
        if wait_s <= 0:
            return True
        self._held[waiting.camera] = (self._clock.monotonic_s() + min(wait_s, _LOOK_AGAIN_S), None)
        return False

    def _timed(self, waiting: Waiting) -> Waiting | None:
        """The burst as it is to be sent for ever: one that was taken by a clock of unknown error gets its instants
        now, if they are known by now. None for one that must wait until they are.
        """
        if waiting.is_timed:
            return waiting
        try:
            opened = waiting.open()
            opened.close()
            is_of_this_boot = opened.envelope.clock.boot_id == boot_id()
            better = self._time.retimed(opened.envelope)
            if better is None and is_of_this_boot:
                self._sender.hear_time()
                better = self._time.retimed(opened.envelope)
            if better is not None:
                return self._spool.retime(waiting, better)
        except (Damaged, OSError):
            return waiting  # sending it will tell
        if is_unset(opened.envelope) and is_of_this_boot:
            self._held[waiting.camera] = (self._clock.monotonic_s() + _LOOK_AGAIN_S, None)
            return None
        return waiting

    def _act(self, waiting: Waiting, outcome: Outcome, took_s: float) -> float:
        if isinstance(outcome, Later):
            wait_s = self._later.next_s(at_least_s=outcome.retry_after_s)
            said = line(
                "sending_failed",
                camera=waiting.camera,
                burst=waiting.burst_id,
                cause=outcome.cause,
                retry_in_s=wait_s,
            )
            _log.warning(said)
            self._tally.update(link="down", link_cause=outcome.cause)
            return wait_s
        if self._later.failures:
            _log.info(line("link_back", failures=self._later.failures))
            self._later.reset()
        self._tally.update(link="up", link_cause=None)
        if isinstance(outcome, Unauthorised):
            self._hold(waiting.camera, outcome.problem)
            return 0.0
        self._held.pop(waiting.camera, None)
        if isinstance(outcome, Refused):
            _log.error(line("burst_refused", camera=waiting.camera, burst=waiting.burst_id, problem=outcome.problem))
            self._spool.set_aside(waiting, outcome.problem)
            self._tally.count(refused=1)
        elif isinstance(outcome, Accepted):
            self._spool.remove(waiting)
            self._tell(waiting, outcome, took_s)
        else:
            self._spool.remove(waiting)  # dropped while we turned to it; if its file was taken away, forget it too
        return 0.0

    def _hold(self, camera: str, problem: str) -> None:
        """Leave this camera's bursts where they are for a while: the token may be put right meanwhile."""
        _, backoff = self._held.get(camera, (0.0, None))
        backoff = backoff or self._refused_token()
        retry_in_s = backoff.next_s()
        self._held[camera] = (self._clock.monotonic_s() + retry_in_s, backoff)
        _log.error(line("unauthorised", camera=camera, problem=problem, retry_in_s=retry_in_s))
        self._tally.update(link_cause=f"{camera}: {problem}")

    def _tell(self, waiting: Waiting, accepted: Accepted, took_s: float) -> None:
        events = accepted.receipt.events
        said = line(
            "burst_sent",
            camera=waiting.camera,
            burst=waiting.burst_id,
            bytes=waiting.size_bytes,
            known=accepted.known,
            events=len(events),
            took_s=took_s,
        )
        _log.info(said)
        self._tally.count(sent=1, known=int(accepted.known), events=len(events))
