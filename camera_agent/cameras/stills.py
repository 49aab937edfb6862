"""The pictures in a folder: which files are pictures, their order, and whether they are those that were there before.

A picture is known by name, size, modification time and a digest of its head and tail. At most `_MAX_DIGESTS` pictures,
evenly chosen, have a digest, so that a folder of 100,000 is opened in seconds. The others follow these.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

_log = logging.getLogger(__name__)
_SUFFIXES = (".jpg", ".jpeg")
_MAX_DIGESTS = 256
_PIECE_BYTES = 4096
_NUMBER = re.compile(
    r"""((?:^|(?<=[_=(]))-[0-9]+   # a minus where no word comes before it
    |[0-9]{9,}\.[0-9]+             # seconds since 1970, whose fraction is a fraction
    |[0-9]+)""",
    re.VERBOSE,
)

SortKey = tuple[list[str | float | int], str]


class Still(msgspec.Struct, frozen=True, array_like=True):
    """One picture of a folder. `is_played`: an earlier session played it."""

    name: str
    size_bytes: int
    mtime_ns: int
    digest: str | None = None
    is_played: bool = False


msgspec.json.Decoder(Still)  # takes the type apart now: two threads that did so at once would end the process


def listed(folder: Path) -> list[Still]:
    """The pictures in `folder`, in order. Raises `OSError`.

    Names that begin with a dot or `~` are no pictures: editors and copying programs leave them beside the real ones.
    """
    found, passed_over = [], []
    with os.scandir(folder) as entries:
        for entry in entries:
            if not entry.name.lower().endswith(_SUFFIXES):
                continue
            if entry.name[0] in ".~" or not entry.is_file():
                passed_over.append(entry.name)
                continue
            stat = entry.stat()
            found.append(Still(entry.name, stat.st_size, stat.st_mtime_ns))
    if passed_over:
        fields = {"folder": folder, "count": len(passed_over), "such_as": shown(min(passed_over))}
        _log.info("names_passed_over", extra=fields)
    return sorted(found, key=lambda still: sort_key(still.name))


def sort_key(name: str) -> SortKey:
    """Sorts names with numbers by the numbers: `frame2` before `frame10`. Case does not matter."""
    parts = _NUMBER.split(name.rpartition(".")[0].casefold())
    numbered = [_number(part) if index % 2 else part for index, part in enumerate(parts)]
    return numbered, name


def encoded(pictures: Sequence[Still]) -> bytes:
    """The pictures as JSON, also with names that are not UTF-8."""
    return json.dumps(msgspec.to_builtins(pictures), separators=(",", ":")).encode()


def decoded(saved: bytes) -> list[Still]:
    """What `encoded` gave. Raises `msgspec.DecodeError` for anything else."""
    try:
        pictures = msgspec.convert(json.loads(saved), list[Still])
    except ValueError as error:
        raise msgspec.DecodeError(str(error)) from error
    if not pictures:
        raise msgspec.DecodeError("no picture is listed")
    return pictures


def shown(name: str) -> str:
    """The name for a message, also where it is not UTF-8."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def with_digests(folder: Path, pictures: Sequence[Still]) -> list[Still]:
    """The pictures, evenly chosen ones with a digest of their head and tail, the others without."""
    count = len(pictures)
    steps = max(1, min(count, _MAX_DIGESTS) - 1)
    chosen = {index * (count - 1) // steps for index in range(min(count, _MAX_DIGESTS))}
    return [
        msgspec.structs.replace(still, digest=(still.digest or _digest(folder / still.name)) if is_chosen else None)
        for still, is_chosen in ((still, index in chosen) for index, still in enumerate(pictures))
    ]


def unchanged(folder: Path, pictures: Sequence[Still], known: Mapping[str, Still]) -> set[str]:
    """The names of the known pictures that are there as they were.

    A new modification time alone changes nothing: copying gives one. A picture without a digest follows the digests of
    those whose time is kept, or changed, as its own is.
    """
    same: set[str] = set()
    followers: dict[bool, list[str]] = {True: [], False: []}
    kept, changed = {True: 0, False: 0}, {True: 0, False: 0}
    for still in pictures:
        before = known.get(still.name)
        if before is None or before.size_bytes != still.size_bytes:
            continue
        has_its_time = before.mtime_ns == still.mtime_ns
        if before.digest is None:
            followers[has_its_time].append(still.name)
        elif _digest(folder / still.name) == before.digest:
            same.add(still.name)
            kept[has_its_time] += 1
        else:
            changed[has_its_time] += 1
    for has_its_time, names in followers.items():
        if kept[has_its_time] > changed[has_its_time] or (has_its_time and not changed[True]):
            same.update(names)
    return same


def _number(text: str) -> float | int:
    return float(text) if "." in text else int(text)


def _digest(path: Path) -> str:
    """Of head and tail; the empty string for a file that cannot be read."""
    try:
        with path.open("rb") as file:
            head = file.read(_PIECE_BYTES)
            file.seek(max(len(head), file.seek(0, os.SEEK_END) - _PIECE_BYTES))
            return hashlib.blake2b(head + file.read(_PIECE_BYTES), digest_size=8).hexdigest()
    except OSError:
        return ""
