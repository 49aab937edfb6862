"""One burst in the spool, and its file.

A file holds a line of JSON (`Header`) and the JPEGs, back to back. Its name says what is needed before it is sent:
`<order>.<kind>.<camera>.<burst_id>.burst`. The kind is the burst's reason, with `-untimed` appended when the clock's
error was unknown.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import msgspec

from camera_agent import atomic_files
from camera_agent.burst import Burst, Envelope

_log = logging.getLogger(__name__)
SUFFIX = ".burst"
_UNTIMED = "-untimed"
_PIECE_BYTES = 64 * 1024
_MAX_HEADER_BYTES = 1_000_000
_PRIORITIES = {"heartbeat": 0, "schedule": 1, "gate": 2}
_PRIORITY_UNKNOWN = 1
PASSING = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ESTALE})
"""Errors of the process or of a network disk, after which a file can be read another time."""
MAX_PRIORITY = max(_PRIORITIES.values())


class Header(msgspec.Struct, frozen=True):
    """The first line of a burst's file."""

    envelope: Envelope
    frame_bytes: tuple[int, ...]


_header_line = msgspec.json.Decoder(Header)


class Damaged(Exception):
    """A file of the spool is not what was written."""


class SpoolEntry(msgspec.Struct, frozen=True):
    """One burst in the spool: in memory with `burst`, else on disk. `path` is where its file is, or will be."""

    order: int
    kind: str
    camera: str
    burst_id: str
    size_bytes: int
    path: Path
    burst: Burst | None = None
    put_s: float = 0.0
    """When it was put, in monotonic seconds, for a burst in memory."""

    @property
    def priority(self) -> int:
        """What is dropped first has the lowest: heartbeat frames, then the schedule's bursts, then the gate's."""
        return _PRIORITIES.get(self.kind.removesuffix(_UNTIMED), _PRIORITY_UNKNOWN)

    @property
    def is_timed(self) -> bool:
        """Whether the clock's error was known when it was taken."""
        return not self.kind.endswith(_UNTIMED)

    @property
    def fields(self) -> dict[str, str]:
        """Its fields in a log record."""
        return {"camera": self.camera, "burst": self.burst_id}

    def on_disk(self) -> SpoolEntry:
        """The same burst, after `write`."""
        return msgspec.structs.replace(self, burst=None)

    def write(self, path: Path | None = None) -> None:
        """Write a burst in memory to its file, or to another path. Raises `OSError`; then there is no new file."""
        if self.burst is not None:
            atomic_files.write(path or self.path, (_first_line(self.burst), *self.burst.frames))

    def remove_file(self) -> None:
        """Delete its file, if any. A failure is logged: the burst is sent again after a restart, which is safe."""
        try:
            self.path.unlink(missing_ok=True)
        except OSError as error:  # a read-only disk also complains about files that do not exist
            if self.path.exists():
                _log.warning("spool_not_removed", extra={"burst": self.burst_id, "cause": error})

    @contextmanager
    def open(self) -> Iterator[tuple[Header, Iterator[Iterable[bytes]]]]:
        """Its header, and its frames in order, each to be read once in pieces: without a copy of a burst in memory, and
        a piece at a time from the disk.

        Raises `Damaged`, also while frames are read, and `FileNotFoundError` when it was dropped meanwhile.
        """
        if self.burst is not None:
            yield _header(self.burst), ([jpeg] for jpeg in self.burst.frames)
            return
        with self.path.open("rb") as file:
            line = file.readline(_MAX_HEADER_BYTES)
            try:
                header = _header_line.decode(line)
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                raise Damaged(str(error)) from error
            if len(line) + sum(header.frame_bytes) != self.path.stat().st_size:
                raise Damaged("the size of the file differs from its header")
            yield header, (_pieces(file, size_bytes) for size_bytes in header.frame_bytes)


def entry_of_file(path: Path) -> SpoolEntry:
    """The burst in a file that an earlier process wrote. Raises `ValueError` for a name of another form."""
    order, *kind, camera, burst_id = path.name.removesuffix(SUFFIX).split(".")
    return SpoolEntry(int(order), kind[0] if kind else "schedule", camera, burst_id, path.stat().st_size, path)


def entry_of_burst(burst: Burst, order: int, folder: Path, put_s: float) -> SpoolEntry:
    """A burst in memory; its file would go into `folder`."""
    envelope = burst.envelope
    is_timed = envelope.clock.synced or envelope.clock.uncertainty_s is not None
    kind = envelope.reason if is_timed else envelope.reason + _UNTIMED
    name = f"{order:012d}.{kind}.{envelope.camera}.{envelope.burst_id}{SUFFIX}"
    size_bytes = len(_first_line(burst)) + sum(len(frame) for frame in burst.frames)
    return SpoolEntry(order, kind, envelope.camera, envelope.burst_id, size_bytes, folder / name, burst, put_s)


def keep_refused(entry: SpoolEntry, problem: str, folder: Path, max_kept: int) -> int:
    """Move a burst that the server will never accept into `folder`, beside a text file with the reason.

    The last `max_kept` are kept. Returns the bytes written. Raises `OSError`.
    """
    if not max_kept:
        return 0
    kept = folder / entry.path.name
    if entry.burst is None:
        entry.path.replace(kept)
    else:
        entry.write(kept)
    kept.with_name(f"{kept.name}.txt").write_text(problem + "\n", encoding="utf-8")
    for old in sorted(folder.glob(f"*{SUFFIX}"))[:-max_kept]:
        old.unlink(missing_ok=True)
        old.with_name(f"{old.name}.txt").unlink(missing_ok=True)
    return 0 if entry.burst is None else entry.size_bytes


def _pieces(file: BinaryIO, size_bytes: int) -> Iterator[bytes]:
    while size_bytes > 0:
        try:
            piece = file.read(min(size_bytes, _PIECE_BYTES))
        except OSError as error:  # else it would count as a fault of the network, and be tried again for ever
            if error.errno in PASSING:
                raise
            raise Damaged(f"the file cannot be read: {error.strerror}") from error
        if not piece:
            raise Damaged("the file ends before its last frame")
        size_bytes -= len(piece)
        yield piece


def _header(burst: Burst) -> Header:
    return Header(burst.envelope, tuple(len(frame) for frame in burst.frames))


def _first_line(burst: Burst) -> bytes:
    return msgspec.json.encode(_header(burst)) + b"\n"
