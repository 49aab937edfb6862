"""Change the text of a site policy, with its comments and layout kept, and show the change as a diff."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from typing import Any

import tomlkit
from tomlkit.container import Container
from tomlkit.items import InlineTable, Table

Changes = Mapping[tuple[str, ...], object]
"""Setting (its path in the file) -> new value; None removes the setting."""


def applied(text: str, changes: Changes) -> str:
    """The policy's text with `changes` made for the whole site; the rest of the text stays as it is."""
    document = tomlkit.parse(text)
    for path, value in changes.items():
        *above, key = path
        table: Any = document
        for name in above:
            if name not in table:
                table[name] = tomlkit.inline_table()
            table = table[name]
        if value is not None:
            table[key] = value
        elif key in table:
            del table[key]
    _drop_empty(document, changes)
    return tomlkit.dumps(document)


def overruled(text: str, changes: Changes) -> list[str]:
    """The paths in schedules, cameras and sectors that set the same settings, so `changes` have no effect there."""
    read: Mapping[str, Any] = tomlkit.parse(text).unwrap()
    wanted = {path[0] for path in changes}
    paths: list[str] = []
    for number, entry in enumerate(read.get("schedule", []), 1):
        paths += [f"schedule.{entry.get('name', number)}.{key}" for key in sorted(wanted & entry.keys())]
    for camera, table in read.get("cameras", {}).items():
        paths += [f"cameras.{camera}.{key}" for key in sorted(wanted & table.keys())]
        for sector, inner in table.get("sectors", {}).items():
            paths += [f"cameras.{camera}.sectors.{sector}.{key}" for key in sorted(wanted & inner.keys())]
    return paths


def difference(before: str, after: str, name: str, new_name: str) -> Iterator[str]:
    """Both texts as a unified diff, line by line."""
    yield from difflib.unified_diff(before.splitlines(), after.splitlines(), name, new_name, lineterm="")


def _drop_empty(document: Container, changes: Changes) -> None:
    for name in {path[0] for path in changes if len(path) > 1}:
        table = document.get(name)
        if isinstance(table, InlineTable | Table) and not table:
            del document[name]
