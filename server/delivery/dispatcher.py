"""Sends the outbox to the channels: after the commit, in order, at least once, each channel in a thread of its own.

A channel's position is one number in the store, claimed under a lease, so that one of several processes sends at a
time. A channel that fails is retried after a growing wait and loses nothing; the others do not notice.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Sequence

from server.delivery.channel import Channel
from server.delivery.sender import Failed, Outbox, Sender, Sent

POLL_S = 1.0


class Dispatcher:
    """The sender on all channels. Constructing starts nothing; `run` is for a thread of its own.

    A channel that is new to the store gets what comes from now on; those in `from_start` (None: all) get the whole log.
    `monotonic` is the clock that says how long a batch takes.
    """

    def __init__(
        self,
        store: Outbox,
        channels: Sequence[Channel],
        *,
        poll_s: float = POLL_S,
        from_start: Sequence[str] | None = None,
        on_sent: Sent = lambda _channel, _outgoing: None,
        on_failed: Failed = lambda _channel: None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        claimant = uuid.uuid4().hex
        self._senders = [
            Sender(
                store,
                channel,
                claimant,
                poll_s=poll_s,
                from_start=from_start is None or channel.name in from_start,
                on_sent=on_sent,
                on_failed=on_failed,
                monotonic=monotonic,
            )
            for channel in channels
        ]
        self._threads: dict[str, threading.Thread] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the channels."""
        return tuple(sender.name for sender in self._senders)

    @property
    def running(self) -> tuple[str, ...]:
        """The names of the channels whose thread has not ended."""
        return tuple(name for name, thread in self._threads.items() if thread.is_alive())

    def wake(self) -> None:
        """Something may have been committed (or `run` has to look at its stop event): do not wait for the poll."""
        for sender in self._senders:
            sender.wake()

    def run(self, stop: threading.Event) -> None:
        """Deliver until `stop` is set: when woken, and every `poll_s` for what other processes committed.

        It returns when every channel has ended. No process waits at its exit for one that hangs.
        """
        for sender in self._senders:
            name = f"sectorwatch-channel-{sender.name}"
            self._threads[sender.name] = threading.Thread(target=sender.run, args=(stop,), name=name, daemon=True)
        for thread in self._threads.values():
            thread.start()
        for thread in self._threads.values():
            thread.join()

    def drain_once(self) -> int:
        """Send one batch on every channel that has any; the number of announcements dealt with."""
        return sum(sender.drain_once() for sender in self._senders)
