"""One burst in the spool, and its file.

A file holds a line of JSON (`Header`) and the JPEGs, back to back. Its name says what is needed before it is sent:
`<order>.<kind>.<camera>.<burst_id>.burst`. The kind is the burst's reason, with `-untimed` appended when the clock's
error was unknown.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from enum import Enum, auto
from pathlib import Path
from typing import BinaryIO

import msgspec

from camera_agent import atomic_files
from camera_agent.burst import Burst, Envelope

SUFFIX = ".burst"
_UNTIMED = "-untimed"
_PIECE_BYTES = 64 * 1024
_MAX_HEADER_BYTES = 1_000_000
_PRIORITIES = {"heartbeat": 0, "schedule": 1, "gate": 2}
_PRIORITY_UNKNOWN = 1
MAX_PRIORITY = max(_PRIORITIES.values())


class EntryState(Enum):
    """Where a burst of the spool is."""

    ARRIVING = auto()
    """In memory, while it is written to disk; it cannot be sent or dropped yet."""
    MEMORY = auto()
    DISK = auto()


class Header(msgspec.Struct, frozen=True):
    """The first line of a burst's file."""

    envelope: Envelope
    frame_bytes: tuple[int, ...]


class Damaged(Exception):
    """A file of the spool is not what was written."""


class EntryReader:
    """An open burst: its envelope, and the bytes of its frames, once and in order."""

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


class _MemoryReader(EntryReader):
    """Gives the frames of a burst in memory without a copy."""

    def __init__(self, burst: Burst) -> None:
        super().__init__(io.BytesIO(), _header(burst))
        self._frames = iter(burst.frames)

    def pieces(self, size_bytes: int) -> Iterator[bytes]:
        yield next(self._frames)


class SpoolEntry(msgspec.Struct, frozen=True):
    """One burst in the spool. `burst` is there unless the state is DISK; `path` is where its file is, or will be."""

    order: int
    kind: str
    camera: str
    burst_id: str
    size_bytes: int
    path: Path
    state: EntryState = EntryState.DISK
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

    def on_disk(self) -> SpoolEntry:
        """The same burst, after `write`."""
        return msgspec.structs.replace(self, state=EntryState.DISK, burst=None)

    def frames(self) -> tuple[bytes, ...]:
        """All frames, in memory. Raises as `open` does."""
        if self.burst is not None:
            return self.burst.frames
        reader = self.open()
        try:
            return tuple(b"".join(reader.pieces(size)) for size in reader.frame_bytes)
        finally:
            reader.close()

    def write(self, path: Path | None = None) -> None:
        """Write a burst in memory to its file, or to another path. Raises `OSError`; then there is no new file."""
        if self.burst is not None:
            atomic_files.write(path or self.path, (_first_line(self.burst), *self.burst.frames))

    def open(self) -> EntryReader:
        """Begin to read it. Raises `Damaged`, and `FileNotFoundError` when it was dropped meanwhile."""
        if self.burst is not None:
            return _MemoryReader(self.burst)
        file = self.path.open("rb")
        try:
            line = file.readline(_MAX_HEADER_BYTES)
            header = msgspec.json.decode(line, type=Header)
            if len(line) + sum(header.frame_bytes) != self.path.stat().st_size:
                raise Damaged("the size of the file differs from its header")
        except (msgspec.DecodeError, UnicodeDecodeError, Damaged) as error:
            file.close()
            raise Damaged(str(error)) from error
        return EntryReader(file, header)


def entry_of_file(path: Path) -> SpoolEntry:
    """The burst in a file that an earlier process wrote. Raises `ValueError` for a name of another form."""
    order, *kind, camera, burst_id = path.name.removesuffix(SUFFIX).split(".")
    return SpoolEntry(int(order), kind[0] if kind else "schedule", camera, burst_id, path.stat().st_size, path)


def entry_of_burst(
    burst: Burst, order: int, folder: Path, put_s: float, state: EntryState = EntryState.MEMORY
) -> SpoolEntry:
    """A burst in memory; its file would go into `folder`."""
    envelope = burst.envelope
    is_timed = envelope.clock.synced or envelope.clock.uncertainty_s is not None
    kind = envelope.reason if is_timed else envelope.reason + _UNTIMED
    name = f"{order:012d}.{kind}.{envelope.camera}.{envelope.burst_id}{SUFFIX}"
    size_bytes = len(_first_line(burst)) + sum(len(frame) for frame in burst.frames)
    return SpoolEntry(order, kind, envelope.camera, envelope.burst_id, size_bytes, folder / name, state, burst, put_s)


def _header(burst: Burst) -> Header:
    return Header(burst.envelope, tuple(len(frame) for frame in burst.frames))


def _first_line(burst: Burst) -> bytes:
    return msgspec.json.encode(_header(burst)) + b"\n"
