"""Bursts waiting on the disk: one file each, oldest sent first, bounded in bytes.

A file is a line of JSON (`Header`) and the JPEGs, back to back. It is written with `durable`, so it is whole or
not there. Its name, `<order>.<camera>.<burst_id>.burst`, is all that is read at start. Sending removes it; a
file that comes back because the power went before its removal reached the disk is sent again, which is safe.

To put memory before the disk, keep what this class promises (`put`, `next`, `remove`, `set_aside`) and what
`Waiting.open` gives: nothing else is known to the other modules.
"""

from __future__ import annotations

import errno
import logging
import threading
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import BinaryIO

import msgspec

from camera_agent import durable
from camera_agent.burst import Burst, Envelope
from camera_agent.journal import line

_log = logging.getLogger(__name__)
_SUFFIX = ".burst"
_PIECE_BYTES = 64 * 1024
_MAX_HEADER_BYTES = 1_000_000
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT})


class Header(msgspec.Struct, frozen=True):
    """The first line of a burst's file."""

    envelope: Envelope
    frame_bytes: tuple[int, ...]


class Damaged(Exception):
    """A file of the spool is not what was written."""


class Opened:
    """A waiting burst being read: the envelope, and each frame's bytes a piece at a time, once and in order."""

    def __init__(self, file: BinaryIO, header: Header) -> None:
        self._file = file
        self.envelope = header.envelope
        self.frame_bytes = header.frame_bytes

    def pieces(self, size_bytes: int) -> Iterator[bytes]:
        """The next `size_bytes` bytes of frames. Raises `Damaged` when the file ends first."""
        left = size_bytes
        while left:
            piece = self._file.read(min(left, _PIECE_BYTES))
            if not piece:
                raise Damaged("the file ends before its last frame")
            left -= len(piece)
            yield piece

    def close(self) -> None:
        self._file.close()


class Waiting(msgspec.Struct, frozen=True):
    """One burst in the spool."""

    order: int
    camera: str
    burst_id: str
    size_bytes: int
    path: Path

    def open(self) -> Opened:
        """Begin to read it. Raises `Damaged`, or `FileNotFoundError` when it was dropped meanwhile."""
        file = self.path.open("rb")
        try:
            first = file.readline(_MAX_HEADER_BYTES)
            header = msgspec.json.decode(first, type=Header)
            if len(first) + sum(header.frame_bytes) != self.path.stat().st_size:
                raise Damaged("the file has not the size its header says")
        except (msgspec.DecodeError, Damaged) as error:
            file.close()
            raise Damaged(str(error)) from error
        return Opened(file, header)


class Spool:
    """Safe to use from several threads: many put, one sends."""

    def __init__(self, folder: Path, *, max_bytes: int, refused_folder: Path, keep_refused: int) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._refused_folder = refused_folder
        self._keep_refused = keep_refused
        self._changed = threading.Condition()
        self._waiting: dict[int, Waiting] = {}
        self._held_bytes = 0
        self._last_order = 0
        self._in_flight: int | None = None
        self.dropped = 0
        """Bursts given up for want of room since this process began."""

    def open(self) -> None:
        """Take over what an earlier process left; half-written files go. Raises `OSError` when the folder cannot
        be used.
        """
        for folder in (self._folder, self._refused_folder):
            folder.mkdir(parents=True, exist_ok=True)
            durable.remove_leftovers(folder)
        for path in self._folder.glob(f"*{_SUFFIX}"):
            order, camera, burst_id = path.name.removesuffix(_SUFFIX).split(".")
            waiting = Waiting(int(order), camera, burst_id, path.stat().st_size, path)
            self._waiting[waiting.order] = waiting
            self._held_bytes += waiting.size_bytes
        self._last_order = max(self._waiting, default=0)
        if self._waiting:
            _log.info(line("spool_taken_over", bursts=len(self), bytes=self._held_bytes))

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def held_bytes(self) -> int:
        return self._held_bytes

    def put(self, burst: Burst) -> bool:
        """Keep a burst until it is sent; when this returns it survives the loss of power.

        The oldest bursts are dropped to make room, in the byte bound and on a full disk. A burst that is already
        waiting is not kept twice. False when it could not be kept at all, which is logged and counted as
        dropped. Raises `OSError` for any other fault of the disk.
        """
        envelope = burst.envelope
        header = Header(envelope, tuple(len(frame) for frame in burst.frames))
        first = msgspec.json.encode(header) + b"\n"
        size_bytes = len(first) + sum(header.frame_bytes)
        with self._changed:
            if any(waiting.burst_id == envelope.burst_id for waiting in self._waiting.values()):
                return True
            if not self._make_room(size_bytes):
                return self._give_up(envelope, size_bytes)
            self._last_order += 1
            order = self._last_order
            self._held_bytes += size_bytes
        name = f"{order:012d}.{envelope.camera}.{envelope.burst_id}{_SUFFIX}"
        waiting = Waiting(order, envelope.camera, envelope.burst_id, size_bytes, self._folder / name)
        is_kept = False
        try:
            is_kept = self._write(waiting, (first, *burst.frames))
        finally:
            with self._changed:
                if is_kept:
                    self._waiting[order] = waiting
                else:
                    self._held_bytes -= size_bytes
                self._changed.notify_all()
        return is_kept or self._give_up(envelope, size_bytes)

    def next(self, *, without: Collection[str] = (), timeout_s: float = 0.0) -> Waiting | None:
        """The oldest burst of any camera that is not in `without`, waited for up to `timeout_s`.

        Until it is removed or another is asked for, it is not dropped.
        """
        with self._changed:
            self._in_flight = None
            found = self._changed.wait_for(lambda: self._oldest(without), timeout_s)
            self._in_flight = None if found is None else found.order
            return found

    def remove(self, waiting: Waiting) -> None:
        """The server has it."""
        waiting.path.unlink(missing_ok=True)
        self._forget(waiting)

    def set_aside(self, waiting: Waiting, problem: str) -> None:
        """Move a burst that will never be accepted out of the way, beside a text saying why; keep the last few
        only.
        """
        try:
            waiting.path.replace(self._refused_folder / waiting.path.name)
            (self._refused_folder / f"{waiting.path.name}.txt").write_text(problem + "\n", encoding="utf-8")
        except OSError as error:
            _log.warning(line("not_set_aside", burst=waiting.burst_id, cause=error))
            waiting.path.unlink(missing_ok=True)
        self._forget(waiting)
        refused = sorted(self._refused_folder.glob(f"*{_SUFFIX}"))
        for old in refused[: max(0, len(refused) - self._keep_refused)]:
            old.unlink(missing_ok=True)
            old.with_name(f"{old.name}.txt").unlink(missing_ok=True)

    def wait_for_room(self, size_bytes: int, timeout_s: float) -> bool:
        """Until a burst of that size fits without dropping any; a burst greater than the whole spool has room in
        an empty one.
        """
        with self._changed:
            return self._changed.wait_for(lambda: not self._waiting or self._fits(size_bytes), timeout_s)

    def _oldest(self, without: Collection[str]) -> Waiting | None:
        orders = (order for order, waiting in self._waiting.items() if waiting.camera not in without)
        order = min(orders, default=None)
        return None if order is None else self._waiting[order]

    def _fits(self, size_bytes: int) -> bool:
        return self._held_bytes + size_bytes + _PIECE_BYTES <= self._max_bytes

    def _make_room(self, size_bytes: int) -> bool:
        while self._held_bytes + size_bytes > self._max_bytes:
            if not self._drop_oldest("spool_full"):
                return False
        return True

    def _drop_oldest(self, cause: str) -> bool:
        """Give up the oldest burst that is not being sent; false when there is none. The lock is held."""
        order = min((order for order in self._waiting if order != self._in_flight), default=None)
        if order is None:
            return False
        victim = self._waiting[order]
        victim.path.unlink(missing_ok=True)
        del self._waiting[victim.order]
        self._held_bytes -= victim.size_bytes
        self.dropped += 1
        _log.warning(
            line("burst_dropped", camera=victim.camera, burst=victim.burst_id, cause=cause, dropped=self.dropped)
        )
        return True

    def _give_up(self, envelope: Envelope, size_bytes: int) -> bool:
        self.dropped += 1
        said = line(
            "burst_not_kept",
            camera=envelope.camera,
            burst=envelope.burst_id,
            bytes=size_bytes,
            dropped=self.dropped,
        )
        _log.error(said)
        return False

    def _write(self, waiting: Waiting, pieces: tuple[bytes, ...]) -> bool:
        while True:
            try:
                durable.write(waiting.path, pieces)
            except OSError as error:
                with self._changed:
                    if error.errno not in _NO_ROOM:
                        raise
                    if not self._drop_oldest("disk_full"):
                        return False
            else:
                return True

    def _forget(self, waiting: Waiting) -> None:
        with self._changed:
            self._in_flight = None
            if self._waiting.pop(waiting.order, None) is not None:
                self._held_bytes -= waiting.size_bytes
            self._changed.notify_all()
