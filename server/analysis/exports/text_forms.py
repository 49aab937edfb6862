"""CSV and JSON lines, with the standard library and msgspec alone.

CSV is that of RFC 4180, in UTF-8. A cell without a value is empty, lists and mappings are JSON. Agents and
cards choose some texts, so one that a spreadsheet would take for a formula begins with `'`.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from itertools import islice
from typing import Any

import msgspec

from server.analysis.exports.tables import Kind, Row, Table

ROWS = 500
"""Rows of a piece."""

_encoder = msgspec.json.Encoder()


def csv_pieces(table: Table, rows: Iterable[Row]) -> Iterator[bytes]:
    """The names of the columns, then a line for each row."""
    text = io.StringIO()
    # Rows end with CR LF: else Python 3.11 puts no quotes around a text with a carriage return.
    writer = csv.writer(text)
    writer.writerow([column.name for column in table.columns])
    written = [(place, _WRITTEN[c.kind]) for place, c in enumerate(table.columns) if c.kind in _WRITTEN]
    waiting = iter(rows)
    while True:
        yield text.getvalue().encode()
        text.seek(0)
        text.truncate()
        if not (some := list(islice(waiting, ROWS))):
            return
        writer.writerows(_cells(row, written) for row in some)


def json_pieces(table: Table, rows: Iterable[Row]) -> Iterator[bytes]:
    """A JSON object for each row, on a line of its own; instants as RFC 3339 in UTC."""
    waiting = iter(rows)
    while some := list(islice(waiting, ROWS)):
        yield _encoder.encode_lines([table.nested(row) for row in some])


def _cells(row: Row, written: list[tuple[int, Callable[[Any], str]]]) -> list[Any]:
    cells: list[Any] = list(row)
    for place, write in written:
        if cells[place] is not None:
            cells[place] = write(cells[place])
    return cells


def _text(value: str) -> str:
    return f"'{value}" if value.startswith(_FORMULA) else value


def _instant(at: datetime) -> str:
    return at.isoformat().replace("+00:00", "Z")


def _json(value: object) -> str:
    return _encoder.encode(value).decode()


def _flag(value: bool) -> str:
    return "true" if value else "false"


_FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""With what a spreadsheet begins a formula (OWASP, CSV injection)."""

_WRITTEN: dict[Kind, Callable[[Any], str]] = {
    "text": _text,
    "instant": _instant,
    "texts": _json,
    "words": _json,
    "flag": _flag,
}
"""How CSV writes the kinds that Python does not write as is."""
