"""A folder of JPEGs as a recording, sorted by name; numbers in names are compared as numbers.

The instants follow the first rule that applies to the whole folder:

1. `pictures_per_s` is set: picture i was taken i / `pictures_per_s` seconds after the first.
2. Every name holds a UTC instant, `20261122T070000Z` or `20261122T070000.250Z` (also with `-` inside date or time, and
   `_` for the `T`): that instant.
3. The file's modification time.

By rules 2 and 3 the recording starts at the first picture's instant, unless `started_at` is set.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Iterator, Sequence
from datetime import UTC, datetime
from functools import partial
from itertools import pairwise
from pathlib import Path

import msgspec

from camera_agent.cameras import stills
from camera_agent.cameras.camera import Recognised, RecordedPicture
from camera_agent.cameras.stills import Still
from camera_agent.imaging.frame import CameraFailure, EncodedPicture, FrameFormat
from camera_agent.imaging.pillow import encode_bytes

_log = logging.getLogger(__name__)
_INSTANT = re.compile(r"(\d{4})-?(\d\d)-?(\d\d)[T_](\d\d)-?(\d\d)-?(\d\d)(?:\.(\d{1,6}))?Z")


class Folder:
    """A file that is a whole JPEG and not too wide is sent as it is."""

    def __init__(self, path: Path, frame_format: FrameFormat, *, pictures_per_s: float | None = None) -> None:
        self._path = path
        self._frame_format = frame_format
        self._pictures_per_s = pictures_per_s
        self._stills: list[Still] = []
        self._instants_ms: list[int] = []

    def open(self) -> None:
        """List the folder. Raises `CameraFailure` for no JPEG, or instants that do not increase with the names."""
        try:
            self._stills = stills.listed(self._path)
        except OSError as error:
            raise CameraFailure(f"the folder cannot be read: {error.strerror}") from error
        if not self._stills:
            raise CameraFailure("the folder holds no file ending in .jpg or .jpeg")
        self._instants_ms = self._instants(self._stills)
        for (earlier, earlier_ms), (later, later_ms) in pairwise(zip(self._stills, self._instants_ms, strict=True)):
            if later_ms <= earlier_ms:
                names = f"{stills.shown(earlier.name)} and {stills.shown(later.name)}"
                raise CameraFailure(f"the instants of {names} do not increase with their names: set `pictures_per_s`")
        self._warn_of_names_without_instants()

    def fingerprint(self) -> str:
        return f"folder {self._pictures_per_s}"

    def content(self) -> bytes:
        return stills.encoded(stills.with_digests(self._path, self._stills))

    def recognise(self, saved: bytes, played_ms: int) -> Recognised:
        """The saved pictures are found by name, size, time and digest. They are left out wherever they are now."""
        if saved == self.content():
            return Recognised(True, saved, frozenset())
        before = stills.decoded(saved)
        before_ms = self._instants(before)
        played = {
            still.name: still
            for still, at_ms in zip(before, before_ms, strict=True)
            if still.is_played or at_ms - before_ms[0] <= played_ms
        }
        same = stills.unchanged(self._path, self._stills, played)
        continues = len(same) == len(played) and self._begins_with(before, before_ms, played)
        left_out = {still.name for still in before if still.is_played} if continues else same
        content = [
            msgspec.structs.replace(
                still,
                digest=played[still.name].digest if still.name in same else None,
                is_played=still.name in left_out,
            )
            for still in self._stills
        ]
        numbers = frozenset(number for number, still in enumerate(content) if still.is_played)
        return Recognised(continues, stills.encoded(stills.with_digests(self._path, content)), numbers)

    def started_ms(self) -> int | None:
        return self._instants_ms[0] if self._pictures_per_s is None else None

    def duration_s(self) -> float:
        return (self._instants_ms[-1] - self._instants_ms[0]) / 1000

    def pictures(self) -> Iterator[RecordedPicture]:
        for index, still in enumerate(self._stills):
            at_s = (self._instants_ms[index] - self._instants_ms[0]) / 1000
            yield RecordedPicture(index, at_s, partial(self._read, still.name))

    def shortfall(self) -> str:
        """Empty: a folder promises nothing, and each picture that cannot be read is logged."""
        return ""

    def close(self) -> None:
        self._stills, self._instants_ms = [], []

    def _instants(self, pictures: Sequence[Still]) -> list[int]:
        if self._pictures_per_s is not None:
            return [round(index * 1000 / self._pictures_per_s) for index in range(len(pictures))]
        named_ms = [at_ms for still in pictures if (at_ms := _instant_in(still.name)) is not None]
        if len(named_ms) == len(pictures):
            return named_ms
        return [still.mtime_ns // 1_000_000 for still in pictures]

    def _begins_with(self, before: Sequence[Still], before_ms: Sequence[int], played: Collection[str]) -> bool:
        """Whether the saved pictures, up to the last one played, are the first ones here, at the same instants."""
        end = max((index + 1 for index, still in enumerate(before) if still.name in played), default=0)
        names = [still.name for still in before[:end]]
        return names == [still.name for still in self._stills[:end]] and before_ms[:end] == self._instants_ms[:end]

    def _warn_of_names_without_instants(self) -> None:
        unnamed = [still.name for still in self._stills if _instant_in(still.name) is None]
        if self._pictures_per_s is None and 0 < len(unnamed) < len(self._stills):
            fields = {"folder": self._path, "without": len(unnamed), "such_as": stills.shown(unnamed[0])}
            _log.warning("file_times_used", extra={**fields, "cause": "not every name holds an instant"})

    def _read(self, name: str) -> EncodedPicture:
        try:
            return encode_bytes((self._path / name).read_bytes(), self._frame_format)
        except OSError as error:
            raise CameraFailure(f"{stills.shown(name)} cannot be read: {error.strerror}") from error
        except CameraFailure as failure:
            raise CameraFailure(f"{stills.shown(name)}: {failure}") from failure


def _instant_in(name: str) -> int | None:
    """Milliseconds of Unix time, or None where the name holds no valid instant."""
    if (match := _INSTANT.search(name)) is None:
        return None
    try:
        at = datetime(*(int(digits) for digits in match.groups()[:6]), tzinfo=UTC)  # type: ignore[misc,arg-type]
    except ValueError:
        return None
    return int(at.timestamp()) * 1000 + int((match[7] or "0").ljust(6, "0")) // 1000
