"""One burst that waits: in memory, or as a file that can be read again a piece at a time.

A file is a line of JSON (`Header`) and the JPEGs, back to back. All that is needed before it is sent stands in its
name: `<order>.<kind>.<camera>.<burst_id>.burst`, where the kind is the burst's reason, with `-untimed` behind it
when the clock could not be believed while it was taken.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import msgspec

from camera_agent import atomic_files
from camera_agent.burst import Burst, Envelope

SUFFIX = ".burst"
_UNTIMED = "-untimed"
_PIECE_BYTES = 64 * 1024
_MAX_HEADER_BYTES = 1_000_000
_VALUES = {"heartbeat": 0, "schedule": 1, "gate": 2}
_VALUE_UNKNOWN = 1
MOST_VALUE = max(_VALUES.values())


class Header(msgspec.Struct, frozen=True):
    """The first line of a burst's file."""

    envelope: Envelope
    frame_bytes: tuple[int, ...]


class Damaged(Exception):
    """A file of the spool is not what was written."""


class Opened:
    """A waiting burst being read: the envelope, and each frame's bytes a piece at a time, once and in order."""

    def __init__(self, pieces: BinaryIO, header: Header) -> None:
        self._file = pieces
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


class _Held(Opened):
    """The same of a burst in memory; the frames are handed out as they are, without a copy."""

    def __init__(self, burst: Burst) -> None:
        super().__init__(io.BytesIO(), header_of(burst))
        self._frames = iter(burst.frames)

    def pieces(self, size_bytes: int) -> Iterator[bytes]:
        del size_bytes
        yield next(self._frames)


class Waiting(msgspec.Struct, frozen=True):
    """One burst in the spool: in memory where `burst` is there, else the file at `path`, which is where it would go."""

    order: int
    kind: str
    camera: str
    burst_id: str
    size_bytes: int
    path: Path
    burst: Burst | None = None
    put_s: float = 0.0
    """The monotonic instant at which it was put, for one in memory."""

    @property
    def value(self) -> int:
        """What is given up first has the least: proof of life, then the schedule's, then what the gate saw."""
        return _VALUES.get(self.kind.removesuffix(_UNTIMED), _VALUE_UNKNOWN)

    @property
    def is_timed(self) -> bool:
        """Whether the clock was known to be near the truth when it was taken."""
        return not self.kind.endswith(_UNTIMED)

    def frames(self) -> tuple[bytes, ...]:
        """All of it in memory. Raises as `open` does."""
        if self.burst is not None:
            return self.burst.frames
        opened = self.open()
        try:
            return tuple(b"".join(opened.pieces(size)) for size in opened.frame_bytes)
        finally:
            opened.close()

    def write(self, path: Path | None = None) -> None:
        """Put one in memory into its file, or into another. Raises `OSError`, and then there is nothing new."""
        if self.burst is not None:
            atomic_files.write(path or self.path, (first_line(self.burst), *self.burst.frames))

    def open(self) -> Opened:
        """Begin to read it. Raises `Damaged`, or `FileNotFoundError` when it was dropped meanwhile."""
        if self.burst is not None:
            return _Held(self.burst)
        file = self.path.open("rb")
        try:
            first = file.readline(_MAX_HEADER_BYTES)
            header = msgspec.json.decode(first, type=Header)
            if len(first) + sum(header.frame_bytes) != self.path.stat().st_size:
                raise Damaged("the file has not the size its header says")
        except (msgspec.DecodeError, UnicodeDecodeError, Damaged) as error:
            file.close()
            raise Damaged(str(error)) from error
        return Opened(file, header)


def header_of(burst: Burst) -> Header:
    return Header(burst.envelope, tuple(len(frame) for frame in burst.frames))


def first_line(burst: Burst) -> bytes:
    return msgspec.json.encode(header_of(burst)) + b"\n"


def kind_of(envelope: Envelope) -> str:
    is_timed = envelope.clock.synced or envelope.clock.uncertainty_s is not None
    return envelope.reason if is_timed else envelope.reason + _UNTIMED


def waiting_in(path: Path) -> Waiting:
    """The burst in a file that an earlier process left. Raises `ValueError` for a name that is none."""
    order, *kind, camera, burst_id = path.name.removesuffix(SUFFIX).split(".")
    return Waiting(int(order), kind[0] if kind else "schedule", camera, burst_id, path.stat().st_size, path)


def waiting_for(burst: Burst, order: int, folder: Path, put_s: float) -> Waiting:
    """The burst in memory, with the place its file will have."""
    envelope = burst.envelope
    kind = kind_of(envelope)
    name = f"{order:012d}.{kind}.{envelope.camera}.{envelope.burst_id}{SUFFIX}"
    size_bytes = len(first_line(burst)) + sum(len(frame) for frame in burst.frames)
    return Waiting(order, kind, envelope.camera, envelope.burst_id, size_bytes, folder / name, burst, put_s)
