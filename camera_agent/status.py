"""What the agent did since it began, for the summary line and for `status.json` in the state folder."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Literal

import msgspec

from camera_agent import __version__, atomic_files

STATUS_FILE = "status.json"


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """Counts are since this process began. `bursts` and `frames` were taken; `sent` of them the server has
    (`known`: it had them already); `dropped` were given up for want of room, `refused` set aside; `waiting` are
    in the spool now. `wire_bytes` went over the wire both ways, packet heads included; `disk_bytes` the spool wrote.
    """

    version: str = __version__
    pid: int = 0
    state: Literal["running", "stopped", "finished", "failed"] = "running"
    started_at: str = ""
    written_at: str = ""
    bursts: int = 0
    frames: int = 0
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


class Tally:
    """The one `Status` that all threads add to."""

    def __init__(self, status: Status) -> None:
        self._lock = threading.Lock()
        self._status = status

    def count(self, **more: int) -> None:
        """Add to the named counts."""
        with self._lock:
            added = {name: getattr(self._status, name) + number for name, number in more.items()}
            self._status = msgspec.structs.replace(self._status, **added)

    def update(self, **fields: object) -> None:
        """Set the named fields."""
        with self._lock:
            self._status = msgspec.structs.replace(self._status, **fields)

    def read(self) -> Status:
        with self._lock:
            return self._status


def write_status(folder: Path, status: Status) -> None:
    """Replace `status.json`. Raises `OSError`."""
    atomic_files.publish(folder / STATUS_FILE, msgspec.json.format(msgspec.json.encode(status), indent=2) + b"\n")
