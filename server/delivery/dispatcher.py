"""Sends the outbox to the channels: after the commit, in order, at least once, each channel in a thread of its own.

A channel's position is one number in the store, claimed under a lease, so that one of several processes sends at a
time. A channel that fails is retried after a growing wait and loses nothing; the others do not notice.
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from typing import Protocol, TypeGuard

from server.delivery.channel import Answered, Channel, Lasting, Undeliverable
from server.domain.clock import SECOND_US
from server.domain.errors import SectorwatchError
from server.domain.records import DeadLetter, Outgoing
from server.domain.secrets_in_text import without_secrets

log = logging.getLogger(__name__)

POLL_S = 1.0
LEASE_S = 30.0
FIRST_WAIT_S = 1.0
LONGEST_WAIT_S = 300.0
MOST_ATTEMPTS = 8
"""Of an announcement to a receiver that answers with an error: over some four minutes."""
_BATCH = 100
_LEASE_US = round(LEASE_S * SECOND_US)


class Letters(Protocol):
    """The store's dead letters; see `server.store.dead_letters`."""

    def add(self, channel: str, outgoing: Outgoing, error: str) -> None: ...
    def asked(self, channel: str, limit: int) -> Sequence[tuple[DeadLetter, Outgoing | None]]: ...
    def forget(self, channel: str, numbers: Sequence[int]) -> int: ...
    def refused_again(self, number: int, error: str) -> None: ...


class Outbox(Protocol):
    """The store's half of delivery; see `server.store.Store`."""

    @property
    def letters(self) -> Letters: ...
    def add_channel(self, name: str, from_start: bool = ...) -> None: ...
    def claim(self, channel: str, claimant: str, lease_us: int, limit: int) -> Sequence[Outgoing]: ...
    def hold(self, channel: str, claimant: str, lease_us: int) -> bool: ...
    def let_go(self, channel: str, claimant: str) -> None: ...
    def delivered(
        self, channel: str, claimant: str, seq: int, *, lease_us: int = ..., memory: str | None = ...
    ) -> bool: ...
    def undelivered(
        self, channel: str, claimant: str, seq: int | None, failures: int, wait_us: int, error: str = ...
    ) -> None: ...
    def failures(self, channel: str) -> int: ...
    def memory(self, channel: str) -> str | None: ...
    def remember(self, channel: str, claimant: str, memory: str) -> bool: ...


Sent = Callable[[str, Outgoing], None]
"""Is called with the name of a channel and each announcement that it has sent."""
Failed = Callable[[str], None]


class Dispatcher:
    """The sender on all channels. Constructing starts nothing; `run` is for a thread of its own.

    A channel that is new to the store gets what comes from now on; those in `from_start` get the whole log.
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
    ) -> None:
        claimant = uuid.uuid4().hex
        self._senders = [
            _Sender(
                store,
                channel,
                claimant,
                poll_s,
                from_start is None or channel.name in from_start,
                on_sent,
                on_failed,
            )
            for channel in channels
        ]

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the channels."""
        return tuple(sender.name for sender in self._senders)

    def wake(self) -> None:
        """Something may have been committed (or `run` has to look at its stop event): do not wait for the poll."""
        for sender in self._senders:
            sender.wake()

    def run(self, stop: threading.Event) -> None:
        """Deliver until `stop` is set: when woken, and every `poll_s` for what other processes committed."""
        threads = [
            threading.Thread(target=sender.run, args=(stop,), name=f"sectorwatch-channel-{sender.name}")
            for sender in self._senders
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def drain_once(self) -> int:
        """Send one batch on every channel that has any; the number of announcements dealt with."""
        return sum(sender.drain_once() for sender in self._senders)


class _Sender:
    """The sender on one channel."""

    def __init__(
        self,
        store: Outbox,
        channel: Channel,
        claimant: str,
        poll_s: float,
        from_start: bool,
        on_sent: Sent,
        on_failed: Failed,
    ) -> None:
        self.name = channel.name
        self._store = store
        self._channel = channel
        self._claimant = claimant
        self._poll_s = poll_s
        self._from_start = from_start
        self._on_sent = on_sent
        self._on_failed = on_failed
        self._woken = threading.Event()
        self._is_registered = False
        self._held_since_s: float | None = None
        self._remembered: str | None = None

    def wake(self) -> None:
        self._woken.set()

    def run(self, stop: threading.Event) -> None:
        failing = False
        while not stop.is_set():
            self._woken.clear()
            try:
                sent = self.drain_once()
            except Exception as error:
                if not failing:  # once, not every second while the database is down
                    is_foreseen = isinstance(error, SectorwatchError)
                    log.error(
                        "delivery failed",
                        extra={"channel": self.name, "detail": error},
                        exc_info=None if is_foreseen else error,
                    )
                failing, sent = True, 0
            else:
                if failing:
                    log.warning("delivery resumed", extra={"channel": self.name})
                failing = False
            if not sent:
                self._woken.wait(self._poll_s)
        self._end(lets_go=True)

    def drain_once(self) -> int:
        """Send one batch; how many announcements it had."""
        if not self._is_registered:
            self._store.add_channel(self.name, from_start=self._from_start)
            self._is_registered = True
        if is_lasting(self._channel) and not self._is_held(self._channel):
            return 0
        batch = self._store.claim(self.name, self._claimant, _LEASE_US, _BATCH)
        if batch:
            return self._send(batch)
        return self._send_again()

    def _is_held(self, channel: Lasting) -> bool:
        """Whether this process may speak for the channel, and the channel has said what it has to say by itself."""
        now_s = time.monotonic()
        if self._held_since_s is None or now_s - self._held_since_s > LEASE_S / 3:
            if not self._store.hold(self.name, self._claimant, _LEASE_US):
                self._end(lets_go=False)
                return False
            is_new, self._held_since_s = self._held_since_s is None, now_s
        else:
            is_new = False
        try:
            if is_new:
                self._remembered = self._store.memory(self.name)
                channel.begin(self._remembered)
            channel.refresh()
            memory = channel.memory
        except Exception as error:  # noqa: BLE001  a channel may raise anything
            self._back_off(None, error)
            return False
        if memory != self._remembered:
            self._store.remember(self.name, self._claimant, memory)
            self._remembered = memory
        return True

    def _send(self, batch: Sequence[Outgoing]) -> int:
        sent: int | None = None
        renewed_s = time.monotonic()
        for count, outgoing in enumerate(batch):
            try:
                self._channel.send(outgoing)
            except Undeliverable as error:
                self._bury(outgoing, error)
            except Answered as error:
                failures = 1 if sent is not None else self._store.failures(self.name) + 1
                if failures < MOST_ATTEMPTS:
                    self._back_off(sent, error)
                    return count
                self._bury(outgoing, error)
            except Exception as error:  # noqa: BLE001  a channel may raise anything
                self._back_off(sent, error)
                return count
            else:
                self._on_sent(self.name, outgoing)
            sent = outgoing.seq
            if time.monotonic() - renewed_s > LEASE_S / 3:
                renewed_s = time.monotonic()
                if not self._delivered(sent, keeps=True):
                    return count + 1  # another process has taken over
        if sent is not None:
            self._delivered(sent, keeps=is_lasting(self._channel))
        return len(batch)

    def _delivered(self, seq: int, *, keeps: bool) -> bool:
        memory = self._channel.memory if is_lasting(self._channel) else None
        is_mine = self._store.delivered(
            self.name, self._claimant, seq, lease_us=_LEASE_US if keeps else 0, memory=memory
        )
        if is_mine:
            self._remembered = memory
        return is_mine

    def _send_again(self) -> int:
        """Send the letters that a person asks for; how many there were."""
        letters = self._store.letters.asked(self.name, _BATCH)
        if not letters or not self._store.hold(self.name, self._claimant, _LEASE_US):
            return 0
        for count, (letter, outgoing) in enumerate(letters):
            try:
                if outgoing is not None:
                    self._channel.send(outgoing)
            except (Answered, Undeliverable) as error:
                self._store.letters.refused_again(letter.number, _said(error))
                self._on_failed(self.name)
                continue
            except Exception as error:  # noqa: BLE001  a channel may raise anything
                self._back_off(None, error)
                return count
            if outgoing is not None:
                self._on_sent(self.name, outgoing)
            self._store.letters.forget(self.name, [letter.number])
        if not is_lasting(self._channel):
            self._store.let_go(self.name, self._claimant)
        return len(letters)

    def _bury(self, outgoing: Outgoing, error: Exception) -> None:
        self._store.letters.add(self.name, outgoing, _said(error))
        self._on_failed(self.name)
        log.error(
            "announcement not delivered: `sectorwatch channels list` shows it",
            extra={"channel": self.name, "announcement": outgoing.seq, "cause": _said(error)},
        )

    def _back_off(self, sent: int | None, error: Exception) -> None:
        failures = 1 if sent is not None else self._store.failures(self.name) + 1
        wait_s = min(FIRST_WAIT_S * 2 ** min(failures - 1, 10), LONGEST_WAIT_S)
        self._store.undelivered(
            self.name, self._claimant, sent, failures, round(wait_s * SECOND_US), error=_said(error)
        )
        self._on_failed(self.name)
        self._end(lets_go=False)
        log.warning(
            "channel failed",
            extra={"channel": self.name, "retry_s": wait_s, "failures": failures, "error": _said(error)},
        )

    def _end(self, *, lets_go: bool) -> None:
        """This process no longer speaks for the channel."""
        if not is_lasting(self._channel) or self._held_since_s is None:
            return
        self._held_since_s = None
        try:
            self._channel.end()
            if lets_go:
                self._store.let_go(self.name, self._claimant)
        except Exception as error:  # noqa: BLE001  it is over in any case
            log.warning("channel not closed", extra={"channel": self.name, "error": _said(error)})


def is_lasting(channel: Channel) -> TypeGuard[Lasting]:
    """Whether a channel is one of those that are held."""
    return hasattr(channel, "refresh")


def _said(error: Exception) -> str:
    return without_secrets(f"{type(error).__name__}: {error}" if str(error) else type(error).__name__)
