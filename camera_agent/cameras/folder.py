"""A folder of JPEGs as footage, sorted by name.

Instants, first rule that applies to the whole folder:

1. `pictures_per_s` is set: picture number i was taken i / `pictures_per_s` seconds after the first.
2. Every name holds a UTC instant, `20261122T070000Z` or `20261122T070000.250Z` (also written with `-` inside
   date or time, and `_` for the `T`): that one.
3. The file's modification time.

By 2 and 3 the first picture's instant is that of the recording, unless `started_at` is set.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from itertools import pairwise
from pathlib import Path

from camera_agent.capture.recording_bursts import Picture
from camera_agent.imaging.failure import CameraFailure
from camera_agent.imaging.frame import Seen
from camera_agent.imaging.masks import Form
from camera_agent.imaging.pillow import fit

_SUFFIXES = frozenset({".jpg", ".jpeg"})
_INSTANT = re.compile(r"(\d{4})-?(\d\d)-?(\d\d)[T_](\d\d)-?(\d\d)-?(\d\d)(?:\.(\d{1,6}))?Z")


class Folder:
    """The files are sent as they are where they are whole JPEGs and not too wide."""

    def __init__(self, path: Path, form: Form, *, pictures_per_s: float | None = None) -> None:
        self._path = path
        self._form = form
        self._pictures_per_s = pictures_per_s
        self._files: list[Path] = []
        self._instants_ms: list[int] = []

    def open(self) -> None:
        """List the folder. Raises `CameraFailure` when it holds no JPEG, or the instants do not rise with the
        names.
        """
        try:
            found = [file for file in self._path.iterdir() if file.suffix.lower() in _SUFFIXES]
        except OSError as error:
            raise CameraFailure(f"the folder cannot be read: {error.strerror}") from error
        self._files = sorted(found, key=lambda file: file.name)
        if not self._files:
            raise CameraFailure("the folder holds no file ending in .jpg or .jpeg")
        self._instants_ms = self._instants()
        for (earlier, earlier_ms), (later, later_ms) in pairwise(zip(self._files, self._instants_ms, strict=True)):
            if later_ms <= earlier_ms:
                names = f"{earlier.name} and {later.name}"
                raise CameraFailure(f"the instants of {names} do not rise with their names: set `pictures_per_s`")

    def fingerprint(self) -> str:
        return f"folder {self._pictures_per_s}"

    def started_ms(self) -> int | None:
        return self._instants_ms[0] if self._pictures_per_s is None else None

    def duration_s(self) -> float:
        return (self._instants_ms[-1] - self._instants_ms[0]) / 1000

    def pictures(self) -> Iterator[Picture]:
        for index, file in enumerate(self._files):
            at_s = (self._instants_ms[index] - self._instants_ms[0]) / 1000
            yield Picture(number=index, at_s=at_s, look=partial(self._read, file))

    def close(self) -> None:
        self._files, self._instants_ms = [], []

    def _instants(self) -> list[int]:
        if self._pictures_per_s is not None:
            return [round(index * 1000 / self._pictures_per_s) for index in range(len(self._files))]
        named = [_instant_in(file.name) for file in self._files]
        told = [at_ms for at_ms in named if at_ms is not None]
        if len(told) == len(self._files):
            return told
        return [file.stat().st_mtime_ns // 1_000_000 for file in self._files]

    def _read(self, file: Path) -> Seen:
        try:
            data = file.read_bytes()
        except OSError as error:
            raise CameraFailure(f"{file.name} cannot be read: {error.strerror}") from error
        try:
            return fit(data, self._form)
        except CameraFailure as failure:
            raise CameraFailure(f"{file.name}: {failure}") from failure


def _instant_in(name: str) -> int | None:
    """Milliseconds of Unix time, or None where the name holds no valid instant."""
    if (found := _INSTANT.search(name)) is None:
        return None
    try:
        at = datetime(*(int(digits) for digits in found.groups()[:6]), tzinfo=UTC)  # type: ignore[misc,arg-type]
    except ValueError:
        return None
    return int(at.timestamp()) * 1000 + int((found[7] or "0").ljust(6, "0")) // 1000
