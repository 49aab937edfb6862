"""Sends on one channel: its batches, the letters that a person asks for, and what it says between announcements."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from typing import Protocol, TypeGuard

from server.delivery.channel import (
    Answered,
    Channel,
    Lasting,
    Later,
    Partial,
    Remembering,
    Repeating,
    TurnedAway,
    Undeliverable,
    in_words,
)
from server.domain.announcements import DeadLetter, Outgoing
from server.domain.errors import SectorwatchError
from server.domain.times.clock import SECOND_US

log = logging.getLogger(__name__)

LEASE_S = 30.0
FIRST_WAIT_S = 1.0
LONGEST_WAIT_S = 300.0
LASTING_WAIT_S = 30.0
"""The longest wait of a lasting channel: while it is away, its receivers take the server for dead."""
LONGEST_PAUSE_S = 3600.0
"""The longest pause that a receiver gets by asking for it."""
MOST_ATTEMPTS = 8
"""Of an announcement to a receiver that answers with an error: within some two minutes."""
TURNED_AWAY_S = 3 * 86_400.0
"""So long a receiver may turn a channel away before it is paused: its owner may be changing an address or a key."""
_BATCH = 100
_BATCH_S = LEASE_S / 3
_REFRESH_S = 1.0
"""A batch ends after so long, that of a lasting channel after the second: the lease and the pause are looked at."""
_LEASE_US = round(LEASE_S * SECOND_US)
_LONGEST_DOUBT_S = 60.0
_TIDY_S = 60.0


class Letters(Protocol):
    """The store's dead letters; see `server.store.delivery.dead_letters`."""

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
        self,
        channel: str,
        claimant: str,
        seq: int,
        *,
        lease_us: int = ...,
        memory: str | None = ...,
        is_well: bool = ...,
    ) -> bool: ...
    def undelivered(
        self,
        channel: str,
        claimant: str,
        seq: int | None,
        failures: int,
        wait_us: int,
        error: str = ...,
        memory: str | None = ...,
        is_turned_away: bool = ...,
    ) -> float: ...
    def troubled(self, channel: str, claimant: str, error: str | None) -> None: ...
    def recovered(self, channel: str, claimant: str) -> None: ...
    def pause(self, channel: str, *, error: str) -> None: ...
    def failures(self, channel: str) -> int: ...
    def memory(self, channel: str) -> str | None: ...
    def remember(self, channel: str, claimant: str, memory: str) -> bool: ...
    def amend_memory(self, channel: str, before: str, memory: str) -> bool: ...


Sent = Callable[[str, Outgoing], None]
"""Is called with the name of a channel and each announcement that it has sent for the first time."""
Failed = Callable[[str], None]


class Sender:
    """The sender on one channel."""

    def __init__(
        self,
        store: Outbox,
        channel: Channel,
        claimant: str,
        *,
        poll_s: float,
        from_start: bool,
        on_sent: Sent,
        on_failed: Failed,
        monotonic: Callable[[], float],
    ) -> None:
        self.name = channel.name
        self._store = store
        self._channel = channel
        self._claimant = claimant
        self._poll_s = poll_s
        self._from_start = from_start
        self._on_sent = on_sent
        self._on_failed = on_failed
        self._monotonic = monotonic
        self._batch_s = _REFRESH_S if is_lasting(channel) else _BATCH_S
        self._woken = threading.Event()
        self._is_registered = False
        self._is_begun = False
        self._is_refreshed = False
        self._may_have_failed = True  # in another process, or before the start
        self._remembered: str | None = None
        self._trouble: tuple[str, int] | None = ("", 0)  # the process before may have saved one
        self._tidied_s: float | None = None
        self._answers = (0, 0)
        """The announcement that the receiver last answered with an error, and how often."""

    def wake(self) -> None:
        self._woken.set()

    def run(self, stop: threading.Event) -> None:
        """Send until `stop` is set. An announcement that is being sent then is the last one."""
        failures = 0
        while not stop.is_set():
            self._woken.clear()
            try:
                sent = self.drain_once(stop.is_set)
            except Exception as error:
                if not failures:  # once, not every second while the database is down
                    is_foreseen = isinstance(error, SectorwatchError)
                    log.error(
                        "delivery failed",
                        extra={"channel": self.name, "detail": error},
                        exc_info=None if is_foreseen else error,
                    )
                failures, sent = failures + 1, 0
            else:
                if failures:
                    log.warning("delivery resumed", extra={"channel": self.name})
                failures = 0
            if not sent:
                self._woken.wait(min(self._poll_s * 2 ** min(failures, 6), _LONGEST_DOUBT_S))
        self._end()

    def drain_once(self, is_stopping: Callable[[], bool] = lambda: False) -> int:
        """Send one batch; how many announcements it dealt with."""
        if not self._is_registered:
            self._store.add_channel(self.name, from_start=self._from_start)
            self._is_registered = True
        if is_lasting(self._channel) and not self._is_held(self._channel):
            return 0
        was_refreshed, self._is_refreshed = self._is_refreshed, False
        batch = self._store.claim(self.name, self._claimant, _LEASE_US, _BATCH)
        count = self._send(batch, is_stopping) if batch else self._send_again(is_stopping)
        if is_lasting(self._channel) and self._is_begun and (count or not was_refreshed):
            self._refresh(self._channel)
        if not batch and not count:
            self._settle()
        return count

    def _is_held(self, channel: Lasting) -> bool:
        """Whether this process may speak for the channel, which has begun and has been refreshed once."""
        if not self._store.hold(self.name, self._claimant, _LEASE_US):
            self._end()
            self._tidy(channel)
            return False
        if self._is_begun:
            return True
        self._remembered, self._is_begun = self._store.memory(self.name), True
        self._may_have_failed = True  # in the process that held it before
        try:
            channel.begin(self._remembered)
        except Exception as error:  # noqa: BLE001  a channel may raise anything
            self._back_off(None, error)
            return False
        self._is_refreshed = self._refresh(channel)
        return self._is_refreshed

    def _tidy(self, channel: Lasting) -> None:
        """Erase from what a channel remembers while it is paused, or waits after a failure: once a minute."""
        now_s = self._monotonic()
        if not _is_remembering(channel) or (self._tidied_s is not None and now_s - self._tidied_s < _TIDY_S):
            return
        self._tidied_s = now_s
        before = self._store.memory(self.name)
        memory = None if before is None else channel.without_erased(before)
        if before is not None and memory is not None and memory != before:
            self._store.amend_memory(self.name, before, memory)

    def _refresh(self, channel: Lasting) -> bool:
        """Have the channel say what it has to say by itself; events do not wait for it. False where it fails, or the
        right to speak is lost.
        """
        try:
            channel.refresh()
            memory = channel.memory
        except Exception as error:  # noqa: BLE001  a channel may raise anything
            self._back_off(None, error)
            return False
        if memory != self._remembered:
            if not self._store.remember(self.name, self._claimant, memory):
                self._end()
                return False
            self._remembered = memory
        if _is_partial(channel):
            self._tell_trouble(channel.trouble)
        return True

    def _tell_trouble(self, trouble: tuple[str, int] | None) -> None:
        """Save that some of the channel's receivers fail, or that all take what they get."""
        if trouble == self._trouble:
            return
        self._store.troubled(self.name, self._claimant, trouble and trouble[0])
        self._trouble = trouble
        if trouble is not None:
            self._on_failed(self.name)

    def _send(self, batch: Sequence[Outgoing], is_stopping: Callable[[], bool]) -> int:
        sent: int | None = None
        begun_s = self._monotonic()
        count = 0
        for outgoing in batch:
            if is_stopping() or self._monotonic() - begun_s > self._batch_s:
                break
            try:
                self._send_one(outgoing)
            except Exception as error:  # noqa: BLE001  a channel may raise anything
                self._back_off(sent, error)
                return count
            sent, count = outgoing.seq, count + 1
        if sent is None:
            self._store.let_go(self.name, self._claimant)
        elif not self._delivered(sent):
            self._end()
        return count

    def _send_one(self, outgoing: Outgoing) -> None:
        """Send an announcement, or make it a dead letter. Raises an exception where it is to be sent again."""
        try:
            self._channel.send(outgoing)
        except Undeliverable as error:
            self._bury(outgoing, error)
        except Answered as error:
            seq, answers = self._answers
            self._answers = outgoing.seq, answers + 1 if seq == outgoing.seq else 1
            if self._answers[1] < MOST_ATTEMPTS:
                raise
            self._bury(outgoing, error)
        else:
            self._on_sent(self.name, outgoing)

    def _delivered(self, seq: int) -> bool:
        """Save the position, with what the channel remembers. False where another process has taken over."""
        memory, lease_us = None, 0
        if is_lasting(self._channel):
            memory, lease_us = self._channel.memory, _LEASE_US
        is_mine = self._store.delivered(
            self.name, self._claimant, seq, lease_us=lease_us, memory=memory, is_well=self._trouble is None
        )
        if is_mine:
            self._remembered, self._may_have_failed = memory, False
        return is_mine

    def _send_again(self, is_stopping: Callable[[], bool]) -> int:
        """Send the letters that a person asks for; how many there were."""
        letters = self._store.letters.asked(self.name, _BATCH)
        if not letters or not self._store.hold(self.name, self._claimant, _LEASE_US):
            return 0
        send_again = self._channel.send_again if _is_repeating(self._channel) else self._channel.send
        begun_s = self._monotonic()
        count = 0
        for letter, outgoing in letters:
            if is_stopping() or self._monotonic() - begun_s > self._batch_s:
                break
            try:
                if outgoing is not None:  # else it is no longer kept
                    send_again(outgoing)
            except (Answered, Undeliverable) as error:
                self._store.letters.refused_again(letter.number, in_words(error))
                self._on_failed(self.name)
            except Exception as error:  # noqa: BLE001  a channel may raise anything
                self._back_off(None, error)
                return count
            else:
                self._store.letters.forget(self.name, [letter.number])
            count += 1
        self._may_have_failed = True
        if not is_lasting(self._channel):
            self._store.let_go(self.name, self._claimant)
        return count

    def _settle(self) -> None:
        """Nothing waits: a failure that was is over."""
        if not self._may_have_failed:
            return
        if self._store.failures(self.name) and self._store.hold(self.name, self._claimant, _LEASE_US):
            self._store.recovered(self.name, self._claimant)
            self._trouble = None
            if not is_lasting(self._channel):
                self._store.let_go(self.name, self._claimant)
        self._may_have_failed = self._store.failures(self.name) > 0

    def _bury(self, outgoing: Outgoing, error: Exception) -> None:
        self._store.letters.add(self.name, outgoing, in_words(error))
        self._on_failed(self.name)
        log.error(
            f"announcement not delivered: `sectorwatch channels list --dead {self.name}` shows it",
            extra={"channel": self.name, "announcement": outgoing.seq, "cause": in_words(error)},
        )

    def _back_off(self, sent: int | None, error: Exception) -> None:
        """Save that sending failed after the announcement `sent` (None: at once), and leave the channel for a while."""
        if isinstance(error, Answered):
            failures = self._answers[1]
        else:
            failures = 1 if sent is not None else self._store.failures(self.name) + 1
        longest_s = LASTING_WAIT_S if is_lasting(self._channel) else LONGEST_WAIT_S
        wait_s = min(FIRST_WAIT_S * 2 ** min(failures - 1, 10), longest_s)
        if isinstance(error, Later):
            wait_s = max(wait_s, min(error.wait_s, LONGEST_PAUSE_S))
        memory = self._channel.memory if sent is not None and is_lasting(self._channel) else None
        self._may_have_failed = True
        turned_away_s = self._store.undelivered(
            self.name,
            self._claimant,
            sent,
            failures,
            round(wait_s * SECOND_US),
            error=in_words(error),
            memory=memory,
            is_turned_away=isinstance(error, TurnedAway),
        )
        self._on_failed(self.name)
        self._end()
        if turned_away_s >= TURNED_AWAY_S or (isinstance(error, TurnedAway) and error.is_gone):
            self._store.pause(self.name, error=f"paused by the server: {in_words(error)}")
            log.error(
                f"channel paused: mend it, then `sectorwatch channels resume {self.name}`",
                extra={"channel": self.name, "error": in_words(error)},
            )
            return
        log.warning(
            "channel failed",
            extra={"channel": self.name, "retry_s": wait_s, "failures": failures, "error": in_words(error)},
        )

    def _end(self) -> None:
        """This process no longer speaks for the channel."""
        if not is_lasting(self._channel) or not self._is_begun:
            return
        self._is_begun = False
        try:
            self._channel.end()
            self._store.let_go(self.name, self._claimant)
        except Exception as error:  # noqa: BLE001  it is over in any case
            log.warning("channel not closed", extra={"channel": self.name, "error": in_words(error)})


def is_lasting(channel: Channel) -> TypeGuard[Lasting]:
    """Whether a channel is one of those that are held."""
    return hasattr(channel, "refresh")


def _is_remembering(channel: Lasting) -> TypeGuard[Remembering]:
    return hasattr(channel, "without_erased")


def _is_partial(channel: Lasting) -> TypeGuard[Partial]:
    return hasattr(channel, "trouble")


def _is_repeating(channel: Channel) -> TypeGuard[Repeating]:
    return hasattr(channel, "send_again")
