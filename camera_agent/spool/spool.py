"""Bursts that wait for the server: in memory first, on the disk when they have to, bounded in bytes.

With the link up a burst waits for less than a second, and a card that is written for every burst wears out in a
year. So a burst of a live camera stays in memory until it has waited for `memory_s`, or memory holds more than
`memory_bytes`, or the agent is stopped; then it is written with `durable`. What the loss of power, or `kill -9`, can
cost is therefore what was taken in the last `memory_s` and not yet sent: nothing else, never half a burst. With
`memory_s` 0 (`spool.sync = "always"`), and for recordings always, `put` returns when the burst is on the disk.

Sending removes the file; a file that comes back because the power went before its removal reached the disk is
sent again, which is safe. When `max_bytes` is reached, or the disk is full, what matters least goes first: heartbeat
frames before the schedule's bursts before those of the gate, the oldest of a kind first; each is counted and told.
"""

from __future__ import annotations

import errno
import logging
import threading
import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Literal

import msgspec

from camera_agent import atomic_files
from camera_agent.burst import Burst, Envelope
from camera_agent.logs import line
from camera_agent.spool.entry import MOST_VALUE, SUFFIX, Waiting, waiting_for, waiting_in
from camera_agent.spool.refused import Refusals

_log = logging.getLogger(__name__)
_HEAD_BYTES = 64 * 1024
_DISK_RESTS_S = 10.0
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT})

SendOrder = Literal["oldest_first", "newest_first"]


class Spool:
    """Safe to use from several threads: many put, one sends."""

    def __init__(
        self,
        folder: Path,
        *,
        max_bytes: int,
        refused_folder: Path,
        keep_refused: int,
        memory_s: float = 0.0,
        memory_bytes: int = 0,
        send: SendOrder = "oldest_first",
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._refused = Refusals(refused_folder, keep_refused)
        self._memory_s = memory_s
        self._memory_bytes = memory_bytes
        self._is_newest_first = send == "newest_first"
        self._monotonic_s = monotonic_s
        self._changed = threading.Condition()
        self._waiting: dict[int, Waiting] = {}
        self._held_bytes = 0
        self._last_order = 0
        self._disk_rests_until_s = float("-inf")
        self._in_flight: int | None = None
        self.dropped = 0
        """Bursts given up for want of room since this process began."""
        self.written_bytes = 0
        """Written to the disk since this process began."""

    def open(self) -> None:
        """Take over what an earlier process left; half-written files go. Raises `OSError` when the folder cannot
        be used.
        """
        self._refused.open()
        atomic_files.make_own(self._folder)
        atomic_files.remove_leftovers(self._folder)
        for path in sorted(self._folder.glob(f"*{SUFFIX}")):
            self._take_over(waiting_in(path))
        self._last_order = max(self._waiting, default=0)
        if self._waiting:
            _log.info(line("spool_taken_over", bursts=len(self), bytes=self._held_bytes))

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def held_bytes(self) -> int:
        return self._held_bytes

    def of(self, camera: str) -> list[Waiting]:
        """What waits of one camera, oldest first."""
        with self._changed:
            return [self._waiting[order] for order in sorted(self._waiting) if self._waiting[order].camera == camera]

    def put(self, burst: Burst, *, to_disk: bool = False) -> bool:
        """Keep a burst until it is sent. With `to_disk` it survives the loss of power when this returns.

        What matters least is dropped to make room, in the byte bound and on a full disk. A burst that is already
        waiting is not kept twice. False when it could not be kept at all, which is logged and counted as
        dropped. Raises `OSError` for any other fault of the disk.
        """
        envelope = burst.envelope
        with self._changed:
            if any(waiting.burst_id == envelope.burst_id for waiting in self._waiting.values()):
                return True
            waiting = waiting_for(burst, self._last_order + 1, self._folder, self._monotonic_s())
            if not self._make_room(waiting):
                return self._give_up(waiting)
            self._last_order = waiting.order
            self._held_bytes += waiting.size_bytes
            if self._memory_s > 0 and not to_disk:
                self._waiting[waiting.order] = waiting
                self._changed.notify_all()
                self._fit_in_memory()
                return True
        return self._put_on_disk(waiting)

    def write_late(self, *, all_of_it: bool = False) -> None:
        """Write what has waited in memory too long, or is too much for it (or all of it) to the disk. Meant to be
        called a few times a second. A disk that is full, or takes nothing for another reason, is left alone for a
        while: bursts stay in memory, within its bound. Raises `OSError` for the other reasons, each time it was tried.
        """
        while (waiting := self._late(all_of_it=all_of_it)) is not None:
            is_written = False
            try:
                is_written = self._write(waiting)
            finally:
                if not is_written:
                    self._disk_rests_until_s = self._monotonic_s() + _DISK_RESTS_S
            if not is_written:
                return
            with self._changed:
                if self._waiting.get(waiting.order) is waiting:
                    self._waiting[waiting.order] = msgspec.structs.replace(waiting, burst=None)
                else:  # sent while it was being written
                    _remove_file(waiting)

    def next(self, *, without: Collection[str] = (), timeout_s: float = 0.0) -> Waiting | None:
        """The burst to send now, of any camera that is not in `without`, waited for up to `timeout_s`.

        Until it is removed or another is asked for, it is not dropped.
        """
        with self._changed:
            self._in_flight = None
            found = self._changed.wait_for(lambda: self._first(without), timeout_s)
            self._in_flight = None if found is None else found.order
            return found

    def retime(self, waiting: Waiting, envelope: Envelope) -> Waiting:
        """Give a burst the envelope it is to have for ever, before it is sent for the first time. Raises `OSError`
        and `Damaged` when it cannot be read.
        """
        burst = Burst(envelope, waiting.frames())
        timed = waiting_for(burst, waiting.order, self._folder, waiting.put_s)
        if waiting.burst is None:
            timed = self._exchange(waiting, timed)
        with self._changed:
            if waiting.order in self._waiting:
                self._held_bytes += timed.size_bytes - waiting.size_bytes
                self._waiting[waiting.order] = timed
        if timed.path != waiting.path:
            _remove_file(waiting)  # it may have been written since it was asked for
        return timed

    def remove(self, waiting: Waiting) -> None:
        """The server has it."""
        with self._changed:
            self._in_flight = None
            self._remove_from_list(waiting)
            self._changed.notify_all()
        _remove_file(waiting)

    def set_aside(self, waiting: Waiting, problem: str) -> None:
        """Move a burst that will never be accepted out of the way (`Refusals`)."""
        try:
            self.written_bytes += self._refused.keep(waiting, problem)
        except OSError as error:
            _log.warning(line("not_set_aside", burst=waiting.burst_id, cause=error))
        self.remove(waiting)

    def wait_for_room(self, size_bytes: int, timeout_s: float) -> bool:
        """Until a burst of that size fits without dropping any; a burst greater than the whole spool has room in
        an empty one.
        """
        needed_bytes = size_bytes + _HEAD_BYTES
        with self._changed:
            return self._changed.wait_for(
                lambda: not self._waiting or self._held_bytes + needed_bytes <= self._max_bytes, timeout_s
            )

    def _take_over(self, waiting: Waiting) -> None:
        """A burst whose clock was put right when the process ended is there twice: what is timed counts."""
        twin = self._waiting.get(waiting.order)
        if twin is not None:
            worse = waiting if twin.is_timed else twin
            worse.path.unlink(missing_ok=True)
            if worse is waiting:
                return
            self._remove_from_list(twin)
        self._waiting[waiting.order] = waiting
        self._held_bytes += waiting.size_bytes

    def _exchange(self, waiting: Waiting, timed: Waiting) -> Waiting:
        """Put the timed file in the place of the other, for good. Where the disk is full, it is sent from memory."""
        try:
            timed.write()
            waiting.path.unlink(missing_ok=True)
            atomic_files.flush_folder(self._folder)  # else it might come back, and be sent with other instants
        except OSError as error:
            _log.warning(line("spool_not_written", burst=waiting.burst_id, cause=error))
            return msgspec.structs.replace(timed, path=waiting.path) if waiting.path.exists() else timed
        self.written_bytes += timed.size_bytes
        return msgspec.structs.replace(timed, burst=None)

    def _first(self, without: Collection[str]) -> Waiting | None:
        orders = (order for order, waiting in self._waiting.items() if waiting.camera not in without)
        order = max(orders, default=None) if self._is_newest_first else min(orders, default=None)
        return None if order is None else self._waiting[order]

    def _late(self, *, all_of_it: bool) -> Waiting | None:
        """The oldest burst in memory, when it may not stay there."""
        with self._changed:
            held = (waiting for waiting in self._waiting.values() if waiting.burst is not None)
            oldest = min(held, key=lambda waiting: waiting.order, default=None)
            if oldest is None or all_of_it:
                return oldest
            if self._monotonic_s() < self._disk_rests_until_s:
                return None
            has_waited = self._monotonic_s() - oldest.put_s >= self._memory_s
            return oldest if has_waited or self._in_memory_bytes() > self._memory_bytes else None

    def _in_memory_bytes(self) -> int:
        return sum(waiting.size_bytes for waiting in self._waiting.values() if waiting.burst is not None)

    def _fit_in_memory(self) -> None:
        """While the disk takes nothing, memory must do, and it is small: drop what matters least. The lock is held."""
        is_needed = self._monotonic_s() < self._disk_rests_until_s
        while is_needed and self._in_memory_bytes() > self._memory_bytes:
            is_needed = self._drop_one("memory_full", is_in_memory=True)

    def _make_room(self, waiting: Waiting) -> bool:
        while self._held_bytes + waiting.size_bytes > self._max_bytes:
            if not self._drop_one("spool_full", worth=waiting.value):
                return False
        return True

    def _drop_one(self, cause: str, *, worth: int = MOST_VALUE, is_in_memory: bool | None = None) -> bool:
        """Give up what matters least, the oldest of it, unless it is being sent or matters more than `worth`; false
        when there is none. `is_in_memory`: only of what is there, or not there. The lock is held.
        """
        candidates = (
            one
            for order, one in self._waiting.items()
            if order != self._in_flight and one.value <= worth and is_in_memory in (None, one.burst is not None)
        )
        victim = min(candidates, key=lambda one: (one.value, one.order), default=None)
        if victim is None:
            return False
        _remove_file(victim)
        self._remove_from_list(victim)
        self.dropped += 1
        _log.warning(
            line(
                "burst_dropped",
                camera=victim.camera,
                burst=victim.burst_id,
                cause=cause,
                dropped=self.dropped,
                kind=victim.kind,
            )
        )
        return True

    def _give_up(self, waiting: Waiting) -> bool:
        self.dropped += 1
        said = line(
            "burst_not_kept",
            camera=waiting.camera,
            burst=waiting.burst_id,
            bytes=waiting.size_bytes,
            dropped=self.dropped,
        )
        _log.error(said)
        return False

    def _put_on_disk(self, waiting: Waiting) -> bool:
        is_kept = False
        try:
            is_kept = self._write(waiting)
        finally:
            with self._changed:
                if is_kept:
                    self._waiting[waiting.order] = msgspec.structs.replace(waiting, burst=None)
                    self._changed.notify_all()
                else:
                    self._held_bytes -= waiting.size_bytes
        return is_kept or self._give_up(waiting)

    def _write(self, waiting: Waiting) -> bool:
        """Write a burst in memory to its file, dropping what matters less while the disk is full."""
        while True:
            try:
                waiting.write()
            except OSError as error:
                with self._changed:
                    if error.errno not in _NO_ROOM:
                        raise
                    if not self._drop_one("disk_full", worth=waiting.value, is_in_memory=False):
                        return False
            else:
                self.written_bytes += waiting.size_bytes
                return True

    def _remove_from_list(self, waiting: Waiting) -> None:
        found = self._waiting.pop(waiting.order, None)
        if found is not None:
            self._held_bytes -= found.size_bytes


def _remove_file(waiting: Waiting) -> None:
    """Where the disk does not let its file go, it is told: the burst comes again after a restart, which is safe."""
    try:
        waiting.path.unlink(missing_ok=True)
    except OSError as error:  # one that is read only complains of what is not there, too
        if waiting.path.exists():
            _log.warning(line("spool_not_removed", burst=waiting.burst_id, cause=error))
