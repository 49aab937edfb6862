"""The line of a setting in a TOML text, for error messages, and suggestions for misspelt keys."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

Path = tuple[str | int, ...]

_TABLE = re.compile(r"^\s*(\[\[?)\s*([^\]]+?)\s*\]\]?\s*(?:#.*)?$")
_KEY = re.compile(r"""^\s*((?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*'))*)\s*=""")
_STEP = re.compile(r"\.([A-Za-z0-9_-]+)|\[(\d+)\]")


def line_of(text: str, path: Path) -> int | None:
    """The line (from 1) of the setting at `path`, or of the nearest table around it; None for an empty path.

    For a key in an inline table, this is the line of the key that holds the table.
    """
    lines = _lines(text)
    for length in range(len(path), 0, -1):
        if path[:length] in lines:
            return lines[path[:length]]
    return None


def steps(path: str) -> Path:
    """`$.cameras[0].burst` as `("cameras", 0, "burst")`."""
    return tuple(name or int(index) for name, index in _STEP.findall(path))


def spelled(path: Path) -> str:
    """`("cameras", 0, "name")` as `cameras[0].name`."""
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
    return text.removeprefix(".")


def suggestion(word: str, known: Iterable[str]) -> str:
    """`; did you mean `x`?`, or the empty string when no known word is similar."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"; did you mean `{close[0]}`?" if close else ""


def _lines(text: str) -> dict[Path, int]:
    lines: dict[Path, int] = {}
    counts: dict[Path, int] = {}
    table: Path = ()
    for number, line in enumerate(text.split("\n"), start=1):
        if header := _TABLE.match(line):
            table = _resolve(_parts(header[2]), counts, is_array=header[1] == "[[")
            lines.setdefault(table, number)
        elif key := _KEY.match(line):
            lines.setdefault(table + _parts(key[1]), number)
    return lines


def _resolve(names: Path, counts: dict[Path, int], *, is_array: bool) -> Path:
    """The header's names, each array of tables followed by the index of its last table so far."""
    path: Path = ()
    for position, name in enumerate(names):
        path += (name,)
        is_last = position == len(names) - 1
        if is_last and is_array:
            counts[path] = counts.get(path, -1) + 1
        if path in counts:
            path += (counts[path],)
    return path


def _parts(dotted: str) -> Path:
    return tuple(part.strip().strip("\"'") for part in dotted.split("."))
