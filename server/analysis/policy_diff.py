"""Change the text of a site policy, with its comments and layout kept, and show the change as a diff."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import tomlkit
from tomlkit.container import Container
from tomlkit.items import InlineTable, Table

Changes = Mapping[tuple[str, ...], object]
"""Setting (its path in the file) -> new value; None removes the setting."""


def applied(text: str, changes: Changes) -> str:
    """The policy's text with `changes` made; the rest of the text stays as it is."""
    document = tomlkit.parse(text)
    for path, value in changes.items():
        *above, key = path
        if value is not None:
            _table(document, above)[key] = value
        elif (table := _known(document, above)) is not None and key in table:
            del table[key]
    _drop_empty(document, changes)
    return tomlkit.dumps(document)


def _table(document: Container, path: Sequence[str]) -> Any:
    """The table at a path; what is not there is made: a table of its own for a camera, else within its line."""
    table: Any = document
    for depth, name in enumerate(path):
        if name not in table:
            is_camera = path[0] == "cameras" and depth < 2
            table[name] = tomlkit.table(is_super_table=depth == 0) if is_camera else tomlkit.inline_table()
        table = table[name]
    return table


def _known(document: Container, path: Sequence[str]) -> Any:
    """The table at a path, None if it is not there."""
    table: Any = document
    for name in path:
        if name not in table:
            return None
        table = table[name]
    return table


def overruled(text: str, changes: Changes, place: Sequence[str] = ()) -> list[str]:
    """The paths in schedules, cameras and sectors that set the same settings, so `changes` have no effect there.

    `place` is the path of the table that the changes are in: of the site, of a camera, or of a sector in it.
    """
    read: Mapping[str, Any] = tomlkit.parse(text).unwrap()
    wanted = {path[len(place)] for path in changes}
    paths: list[str] = []
    if "sectors" in place:
        return paths
    for number, entry in enumerate(read.get("schedule", []), 1):
        paths += [f"schedule.{entry.get('name', number)}.{key}" for key in sorted(wanted & entry.keys())]
    for camera, table in read.get("cameras", {}).items():
        if place:
            if place[1] != camera:
                continue
            table = {"sectors": table.get("sectors", {})}
        paths += [f"cameras.{camera}.{key}" for key in sorted(wanted & table.keys())]
        for sector, inner in table.get("sectors", {}).items():
            paths += [f"cameras.{camera}.sectors.{sector}.{key}" for key in sorted(wanted & inner.keys())]
    return paths


def difference(before: str, after: str, name: str, new_name: str) -> Iterator[str]:
    """Both texts as a unified diff, line by line."""
    yield from difflib.unified_diff(before.splitlines(), after.splitlines(), name, new_name, lineterm="")


def _drop_empty(document: Container, changes: Changes) -> None:
    for above in {path[:-1] for path in changes}:
        while above and isinstance(table := _known(document, above), InlineTable | Table) and not table:
            del _known(document, above[:-1])[above[-1]]
            above = above[:-1]
