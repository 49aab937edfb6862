"""Sends the outbox to the channels: after the commit, in order, at least once, each channel at its own pace.

A channel's position is one number in the store, claimed under a lease, so that one of several processes sends at a
time. A channel that fails is retried after a growing wait and loses nothing; the others go on.
"""

from __future__ import annotations

import logging
import threading
import uuid
from collections.abc import Sequence
from typing import Protocol

from server.delivery.channels import Channel
from server.domain.clock import SECOND_US
from server.domain.errors import SectorwatchError
from server.domain.records import Outgoing

log = logging.getLogger(__name__)

POLL_S = 1.0
LEASE_S = 30.0
FIRST_WAIT_S = 1.0
LONGEST_WAIT_S = 300.0
_BATCH = 100


class Outbox(Protocol):
    """The store's half of delivery; see `server.store.Store`."""

    def add_channel(self, name: str) -> None: ...
    def claim(self, channel: str, claimant: str, lease_us: int, limit: int) -> Sequence[Outgoing]: ...
    def delivered(self, channel: str, claimant: str, seq: int) -> None: ...
    def undelivered(self, channel: str, claimant: str, seq: int | None, failures: int, wait_us: int) -> None: ...
    def failures(self, channel: str) -> int: ...


class Dispatcher:
    """The sender. Constructing starts nothing; `run` is for a thread of its own."""

    def __init__(self, store: Outbox, channels: Sequence[Channel], *, poll_s: float = POLL_S) -> None:
        self._store = store
        self._channels = tuple(channels)
        self._poll_s = poll_s
        self._claimant = uuid.uuid4().hex
        self._woken = threading.Event()
        self._registered: set[str] = set()

    def wake(self) -> None:
        """Something may have been committed (or `run` has to look at its stop event): do not wait for the poll."""
        self._woken.set()

    def run(self, stop: threading.Event) -> None:
        """Deliver until `stop` is set: when woken, and every `poll_s` for what other processes committed."""
        failing = False
        while not stop.is_set():
            self._woken.clear()
            try:
                sent = self.drain_once()
            except Exception as error:
                if not failing:  # once, not every second while the database is down
                    is_foreseen = isinstance(error, SectorwatchError)
                    log.error("delivery failed", extra={"detail": error}, exc_info=None if is_foreseen else error)
                failing, sent = True, 0
            else:
                if failing:
                    log.warning("delivery resumed")
                failing = False
            if not sent:
                self._woken.wait(self._poll_s)

    def drain_once(self) -> int:
        """Send one batch on every channel that has any; the number of announcements sent."""
        return sum(self._drain(channel) for channel in self._channels)

    def _drain(self, channel: Channel) -> int:
        if channel.name not in self._registered:
            self._store.add_channel(channel.name)
            self._registered.add(channel.name)
        batch = self._store.claim(channel.name, self._claimant, round(LEASE_S * SECOND_US), _BATCH)
        sent: int | None = None
        for count, outgoing in enumerate(batch):
            try:
                channel.send(outgoing)
            except Exception as error:  # noqa: BLE001  a channel may raise anything
                self._back_off(channel.name, sent, error)
                return count
            sent = outgoing.seq
        if sent is not None:
            self._store.delivered(channel.name, self._claimant, sent)
        return len(batch)

    def _back_off(self, channel: str, sent: int | None, error: Exception) -> None:
        failures = 1 if sent is not None else self._store.failures(channel) + 1
        wait_s = min(FIRST_WAIT_S * 2 ** (failures - 1), LONGEST_WAIT_S)
        self._store.undelivered(channel, self._claimant, sent, failures, round(wait_s * SECOND_US))
        log.warning(
            "channel failed", extra={"channel": channel, "retry_s": wait_s, "failures": failures, "error": error}
        )
