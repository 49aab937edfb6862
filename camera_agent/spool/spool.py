"""Bursts that wait for the server: in memory first, on disk when they have to, bounded in bytes.

While the link is up, a burst waits for less than a second, and writing every burst would wear out an SD card in a year.
So a live camera's burst stays in memory until it has waited for `memory_s`, memory holds more than `memory_bytes`, or
the agent stops; then it is written to disk. A power cut or `kill -9` therefore costs at most the bursts of the last
`memory_s` that were not sent, and never half a burst. With `memory_s` 0 (`spool.sync = "always"`), and for recordings,
`put` returns when the burst is on disk.

A sent burst's file is deleted. If the power fails before the deletion reaches the disk, the burst is sent again, which
is safe. When `max_bytes` is reached or the disk is full, bursts are dropped by priority, oldest first, and counted.
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
from camera_agent.spool.entry import MAX_PRIORITY, SUFFIX, SpoolEntry, entry_of_burst, entry_of_file, keep_refused

_log = logging.getLogger(__name__)
_HEADER_BYTES = 64 * 1024
_DISK_RETRY_S = 10.0
_NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT})
_DROPPABLE: dict[str, Callable[[SpoolEntry], bool]] = {
    "spool_full": lambda entry: True,
    "memory_full": lambda entry: entry.burst is not None,
    "disk_full": lambda entry: entry.burst is None,
}
"""Why room is needed -> which bursts give it."""

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
        self._refused_folder = refused_folder
        self._max_refused = keep_refused
        self._memory_s = memory_s
        self._memory_bytes = memory_bytes
        self._next_order = max if send == "newest_first" else min
        self._monotonic_s = monotonic_s
        self._changed = threading.Condition()
        self._writer = threading.Lock()
        self._entries: dict[int, SpoolEntry] = {}
        self._last_order = 0
        self._disk_retry_at_s = float("-inf")
        self._sending: int | None = None
        self._turns = 0
        self._behind: set[int] = set()
        """Orders of the bursts that have their turn after all others of their camera."""
        self._last_turns: dict[str, int] = {}
        """Camera -> when it had its last turn, counted in turns."""
        self.dropped = 0
        """Bursts dropped for lack of room since this process started."""
        self.written_bytes = 0
        """Bytes written to disk since this process started."""

    def open(self) -> None:
        """Take over what an earlier process left; delete half-written files. Raises `OSError`, and `ValueError` for a
        file name of another form.
        """
        for folder in (self._folder, self._refused_folder):
            atomic_files.make_private(folder)
            atomic_files.remove_leftovers(folder)
        for path in sorted(self._folder.glob(f"*{SUFFIX}")):
            self._take_over(entry_of_file(path))
        self._last_order = max(self._entries, default=0)
        if self._entries:
            _log.info("spool_taken_over", extra={"bursts": len(self), "bytes": self.held_bytes})

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def held_bytes(self) -> int:
        with self._changed:
            return self._bytes()

    def entries_of(self, camera: str) -> list[SpoolEntry]:
        """The waiting bursts of one camera, oldest first."""
        with self._changed:
            return [entry for _, entry in sorted(self._entries.items()) if entry.camera == camera]

    def put(self, burst: Burst, *, to_disk: bool = False) -> bool:
        """Keep a burst until it is sent. With `to_disk`, it survives a power cut when this returns.

        Bursts of lower or equal priority are dropped to make room. A burst that already waits is not kept twice.
        Returns false when the burst could not be kept, which is logged and counted as dropped. Raises `OSError` for
        any fault of the disk but a full one.
        """
        with self._changed:
            if any(entry.burst_id == burst.envelope.burst_id for entry in self._entries.values()):
                return True
            entry = entry_of_burst(burst, self._last_order + 1, self._folder, self._monotonic_s())
            if not self._make_room(entry):
                return self._give_up(entry)
            self._last_order = entry.order
            self._entries[entry.order] = entry
            self._changed.notify_all()
            if not to_disk and self._memory_s > 0:
                self._fit_in_memory()
                return True
        is_kept = False
        try:
            is_kept = self._move_to_disk(entry)
        finally:
            with self._changed:
                if not is_kept and self._entries.get(entry.order) is entry:
                    del self._entries[entry.order]
        return is_kept or self._give_up(entry)

    def write_late(self, *, write_all: bool = False) -> None:
        """Write bursts to disk that have waited in memory too long, or exceed its bound, or all. Call it a few times a
        second.

        After a fault of the disk, bursts stay in memory, within its bound, and the disk is tried again later. Raises
        `OSError` at each try, unless the disk is full.
        """
        while (entry := self._late_entry(write_all=write_all)) is not None:
            is_written = False
            try:
                is_written = self._move_to_disk(entry)
            finally:
                if not is_written:
                    self._disk_retry_at_s = self._monotonic_s() + _DISK_RETRY_S
            if not is_written:
                return

    def next(self, *, without: Collection[str] = (), timeout_s: float = 0.0) -> SpoolEntry | None:
        """The burst to send now. Waits for one up to `timeout_s`.

        Cameras take turns, without those in `without`, whatever became of the burst that was given out: so none waits
        for another that has more bursts, or one that the server does not take. The burst is not dropped until it is
        removed or another one is asked for.
        """
        with self._changed:
            self._sending = None
            entry = self._changed.wait_for(lambda: self._first(without), timeout_s)
            if entry is not None:
                self._turns += 1
                self._sending, self._last_turns[entry.camera] = entry.order, self._turns
            return entry

    def retime(self, entry: SpoolEntry, envelope: Envelope) -> SpoolEntry:
        """Give a burst its final envelope, before it is first sent. Raises `OSError` and `Damaged` when it cannot be
        read.
        """
        with entry.open() as (_, frames):
            burst = Burst(envelope, tuple(b"".join(pieces) for pieces in frames))
        timed = entry_of_burst(burst, entry.order, self._folder, entry.put_s)
        if entry.burst is None:
            timed = self._replace_file(entry, timed)
        with self._changed:
            if entry.order in self._entries:
                self._entries[entry.order] = timed
        if timed.path != entry.path:
            entry.remove_file()  # it may have been written late meanwhile
        return timed

    def put_behind(self, entry: SpoolEntry) -> None:
        """Send the burst after all others of its camera: something between agent and server does not let it through."""
        with self._changed:
            self._behind.add(entry.order)

    def remove(self, entry: SpoolEntry) -> None:
        """Forget a burst that the server has."""
        with self._changed:
            self._sending = None
            self._behind.discard(entry.order)
            self._entries.pop(entry.order, None)
            self._changed.notify_all()
        entry.remove_file()

    def set_aside(self, entry: SpoolEntry, problem: str) -> None:
        """Move a burst that the server will never accept to the folder of refused bursts."""
        try:
            self.written_bytes += keep_refused(entry, problem, self._refused_folder, self._max_refused)
        except OSError as error:
            _log.warning("not_set_aside", extra={"burst": entry.burst_id, "cause": error})
        self.remove(entry)

    def wait_for_room(self, size_bytes: int, timeout_s: float) -> bool:
        """Wait until a burst of that size fits without dropping any. Into an empty spool, any burst fits."""
        limit_bytes = self._max_bytes - size_bytes - _HEADER_BYTES
        with self._changed:
            return self._changed.wait_for(lambda: not self._entries or self._bytes() <= limit_bytes, timeout_s)

    def _take_over(self, entry: SpoolEntry) -> None:
        """If the process ended during `retime`, a burst has two files; the timed one counts."""
        twin = self._entries.get(entry.order)
        if twin is not None:
            worse, entry = sorted((entry, twin), key=lambda each: each.is_timed)
            worse.path.unlink(missing_ok=True)
        self._entries[entry.order] = entry

    def _replace_file(self, entry: SpoolEntry, timed: SpoolEntry) -> SpoolEntry:
        """Replace a burst's file by the timed one. If the disk is full, the timed one is sent from memory."""
        try:
            timed.write()
            entry.path.unlink(missing_ok=True)
            atomic_files.flush_folder(self._folder)  # else the old file may come back, and be sent with other instants
        except OSError as error:
            _log.warning("spool_not_written", extra={"burst": entry.burst_id, "cause": error})
            return msgspec.structs.replace(timed, path=entry.path) if entry.path.exists() else timed
        self.written_bytes += timed.size_bytes
        return timed.on_disk()

    def _first(self, without: Collection[str]) -> SpoolEntry | None:
        orders: dict[str, int] = {}
        for order, entry in self._entries.items():
            if entry.camera not in without:
                orders[entry.camera] = self._next_order((order, orders.get(entry.camera, order)), key=self._rank)
        if not orders:
            return None
        longest_ago = min(self._last_turns.get(camera, 0) for camera in orders)
        due = [order for camera, order in orders.items() if self._last_turns.get(camera, 0) == longest_ago]
        return self._entries[self._next_order(due)]

    def _rank(self, order: int) -> tuple[bool, int]:
        """What `_next_order` compares within a camera."""
        return (order in self._behind) == (self._next_order is min), order

    def _late_entry(self, *, write_all: bool) -> SpoolEntry | None:
        """The oldest burst in memory, when it may not stay there."""
        with self._changed:
            in_memory = (entry for entry in self._entries.values() if entry.burst is not None)
            oldest = min(in_memory, key=lambda entry: entry.order, default=None)
            if oldest is None or write_all:
                return oldest
            now_s = self._monotonic_s()
            may_stay = now_s - oldest.put_s < self._memory_s and self._bytes(in_memory=True) <= self._memory_bytes
            return None if may_stay or now_s < self._disk_retry_at_s else oldest

    def _bytes(self, *, in_memory: bool = False) -> int:
        return sum(entry.size_bytes for entry in self._entries.values() if entry.burst is not None or not in_memory)

    def _fit_in_memory(self) -> None:
        """Drop bursts from memory while it exceeds its bound and the disk takes none. The lock is held."""
        while self._monotonic_s() < self._disk_retry_at_s and self._bytes(in_memory=True) > self._memory_bytes:
            if not self._drop("memory_full"):
                return

    def _make_room(self, entry: SpoolEntry) -> bool:
        while self._bytes() + entry.size_bytes > self._max_bytes:
            if not self._drop("spool_full", max_priority=entry.priority):
                return False
        return True

    def _drop(self, cause: str, *, max_priority: int = MAX_PRIORITY) -> bool:
        """Drop the oldest burst of the lowest priority, but not the one that is being sent. The lock is held.

        Returns false when there is none up to `max_priority`.
        """
        candidates = (
            (entry.priority, order)
            for order, entry in self._entries.items()
            if order != self._sending and _DROPPABLE[cause](entry) and entry.priority <= max_priority
        )
        lowest = min(candidates, default=None)
        if lowest is None:
            return False
        entry = self._entries.pop(lowest[1])
        entry.remove_file()
        self.dropped += 1
        _log.warning(
            "burst_dropped", extra={**entry.fields, "cause": cause, "dropped": self.dropped, "kind": entry.kind}
        )
        return True

    def _give_up(self, entry: SpoolEntry) -> bool:
        self.dropped += 1
        _log.error("burst_not_kept", extra={**entry.fields, "bytes": entry.size_bytes, "dropped": self.dropped})
        return False

    def _move_to_disk(self, entry: SpoolEntry) -> bool:
        """Write a burst in memory to its file, unless it is gone from memory by now. Returns false for a full disk."""
        with self._writer:
            if self._entries.get(entry.order) is not entry:
                return True
            if not self._write(entry):
                return False
            with self._changed:
                if self._entries.get(entry.order) is entry:
                    self._entries[entry.order] = entry.on_disk()
                else:  # sent or dropped while it was written
                    entry.remove_file()
        return True

    def _write(self, entry: SpoolEntry) -> bool:
        """Write a burst to its file, dropping others while the disk is full. Returns false if none is left to drop."""
        while True:
            try:
                entry.write()
            except OSError as error:
                with self._changed:
                    if error.errno not in _NO_SPACE:
                        raise
                    if not self._drop("disk_full", max_priority=entry.priority):
                        return False
            else:
                self.written_bytes += entry.size_bytes
                return True
