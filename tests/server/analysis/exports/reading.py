"""Reading what was exported, in each form."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable
from typing import Any

from pyarrow import BufferReader, parquet

from server.analysis.exports import Row, Table, pieces


def read(content: bytes, form: str) -> list[dict[str, Any]]:
    """The rows of a file as its form has them: texts in CSV, JSON's types in JSON lines, Python's in Parquet."""
    if form == "csv":
        return list(csv.DictReader(io.StringIO(content.decode(), newline="")))
    if form == "jsonl":
        return [json.loads(line) for line in content.splitlines()]
    rows: list[dict[str, Any]] = parquet.read_table(BufferReader(content)).to_pylist(maps_as_pydicts="strict")
    return rows


def written(form: Any, table: Table, rows: Iterable[Row], notes: Iterable[str] = ()) -> bytes:
    return b"".join(pieces(form, table, rows, list(notes)))
