"""The agent's counts since it started, for the summary line, Prometheus and `status.json`."""

from __future__ import annotations

import threading
from typing import Literal

import msgspec

from camera_agent import __version__


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """Counts since this process started.

    `bursts` and `frames` were taken. Of the pictures of live cameras, `damaged` were passed over, and `mended` had a
    faulty start or end. `sent` bursts were accepted by the server; `known` of those it already had. `dropped` bursts
    were deleted for lack of room, `refused` ones rejected by the server, `waiting` ones are in the spool now.
    `wire_bytes` counts both directions with packet headers; `disk_bytes` is what the spool wrote.
    """

    version: str = __version__
    pid: int = 0
    state: Literal["running", "stopped", "finished", "failed"] = "running"
    started_at: str = ""
    written_at: str = ""
    bursts: int = 0
    frames: int = 0
    damaged: int = 0
    mended: int = 0
    sent: int = 0
    known: int = 0
    events: int = 0
    dropped: int = 0
    refused: int = 0
    waiting: int = 0
    waiting_bytes: int = 0
    bytes_sent: int = 0
    wire_bytes: int = 0
    disk_bytes: int = 0
    link: Literal["unknown", "up", "down"] = "unknown"
    link_cause: str | None = None
    cameras: dict[str, str] = {}
    """Each camera's state, with its cause."""


class StatusCounters:
    """The current `Status`. Safe to use from several threads."""

    def __init__(self, status: Status) -> None:
        self._lock = threading.Lock()
        self._status = status

    def add(self, **counts: int) -> None:
        """Add to the named counts."""
        with self._lock:
            sums = {name: getattr(self._status, name) + count for name, count in counts.items()}
            self._status = msgspec.structs.replace(self._status, **sums)

    def update(self, **fields: object) -> None:
        """Set the named fields."""
        with self._lock:
            self._status = msgspec.structs.replace(self._status, **fields)

    def read(self) -> Status:
        with self._lock:
            return self._status
