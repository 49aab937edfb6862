"""A folder of JPEGs as a recording, sorted by name.

The instants follow the first rule that applies to the whole folder:

1. `pictures_per_s` is set: picture i was taken i / `pictures_per_s` seconds after the first.
2. Every name holds a UTC instant, `20261122T070000Z` or `20261122T070000.250Z` (also with `-` inside date or time, and
   `_` for the `T`): that instant.
3. The file's modification time.

By rules 2 and 3 the recording starts at the first picture's instant, unless `started_at` is set.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from itertools import pairwise
from pathlib import Path

from camera_agent.cameras.camera import RecordedPicture
from camera_agent.imaging.frame import CameraFailure, EncodedPicture, FrameFormat
from camera_agent.imaging.pillow import encode_bytes

_SUFFIXES = frozenset({".jpg", ".jpeg"})
_INSTANT = re.compile(r"(\d{4})-?(\d\d)-?(\d\d)[T_](\d\d)-?(\d\d)-?(\d\d)(?:\.(\d{1,6}))?Z")


class Folder:
    """A file that is a whole JPEG and not too wide is sent as it is."""

    def __init__(self, path: Path, frame_format: FrameFormat, *, pictures_per_s: float | None = None) -> None:
        self._path = path
        self._frame_format = frame_format
        self._pictures_per_s = pictures_per_s
        self._files: list[Path] = []
        self._instants_ms: list[int] = []

    def open(self) -> None:
        """List the folder. Raises `CameraFailure` for no JPEG, or instants that do not increase with the names."""
        try:
            files = [file for file in self._path.iterdir() if file.suffix.lower() in _SUFFIXES]
        except OSError as error:
            raise CameraFailure(f"the folder cannot be read: {error.strerror}") from error
        self._files = sorted(files, key=lambda file: file.name)
        if not self._files:
            raise CameraFailure("the folder holds no file ending in .jpg or .jpeg")
        self._instants_ms = self._instants()
        for (earlier, earlier_ms), (later, later_ms) in pairwise(zip(self._files, self._instants_ms, strict=True)):
            if later_ms <= earlier_ms:
                names = f"{earlier.name} and {later.name}"
                raise CameraFailure(f"the instants of {names} do not increase with their names: set `pictures_per_s`")

    def fingerprint(self) -> str:
        return f"folder {self._pictures_per_s}"

    def started_ms(self) -> int | None:
        return self._instants_ms[0] if self._pictures_per_s is None else None

    def duration_s(self) -> float:
        return (self._instants_ms[-1] - self._instants_ms[0]) / 1000

    def pictures(self) -> Iterator[RecordedPicture]:
        for index, file in enumerate(self._files):
            at_s = (self._instants_ms[index] - self._instants_ms[0]) / 1000
            yield RecordedPicture(index, at_s, partial(self._read, file))

    def close(self) -> None:
        self._files, self._instants_ms = [], []

    def _instants(self) -> list[int]:
        if self._pictures_per_s is not None:
            return [round(index * 1000 / self._pictures_per_s) for index in range(len(self._files))]
        named_ms = [at_ms for file in self._files if (at_ms := _instant_in(file.name)) is not None]
        if len(named_ms) == len(self._files):
            return named_ms
        return [file.stat().st_mtime_ns // 1_000_000 for file in self._files]

    def _read(self, file: Path) -> EncodedPicture:
        try:
            return encode_bytes(file.read_bytes(), self._frame_format)
        except OSError as error:
            raise CameraFailure(f"{file.name} cannot be read: {error.strerror}") from error
        except CameraFailure as failure:
            raise CameraFailure(f"{file.name}: {failure}") from failure


def _instant_in(name: str) -> int | None:
    """Milliseconds of Unix time, or None where the name holds no valid instant."""
    if (match := _INSTANT.search(name)) is None:
        return None
    try:
        at = datetime(*(int(digits) for digits in match.groups()[:6]), tzinfo=UTC)  # type: ignore[misc,arg-type]
    except ValueError:
        return None
    return int(at.timestamp()) * 1000 + int((match[7] or "0").ljust(6, "0")) // 1000
