"""Apache Parquet, by pyarrow: this module alone imports it, and `forms` imports this module only when asked for it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

import pyarrow
from pyarrow import parquet

from server.analysis.exports.tables import Column, Kind, Row, Table

_ROWS = 2048
"""Rows that are Python's at once."""
_GROUP = 32_768
"""Rows of a row group, which is in memory, in Arrow's form, until it is written."""

_TYPES: dict[Kind, Any] = {
    "text": pyarrow.string(),
    "instant": pyarrow.timestamp("us", tz="UTC"),
    "number": pyarrow.float64(),
    "integer": pyarrow.int64(),
    "flag": pyarrow.bool_(),
    "texts": pyarrow.list_(pyarrow.string()),
    "words": pyarrow.map_(pyarrow.string(), pyarrow.string()),
}


def parquet_pieces(table: Table, rows: Iterable[Row], notes: Sequence[str]) -> Iterator[bytes]:
    """The file in pieces, each when a row group is done. Its metadata `sectorwatch.notes` says what is not in it."""
    schema = _schema(table).with_metadata({"sectorwatch.table": table.name, "sectorwatch.notes": "\n".join(notes)})
    written = _Pieces()
    waiting = iter(rows)
    with parquet.ParquetWriter(pyarrow.PythonFile(written, "w"), schema, compression="zstd") as writer:
        while group := list(_batches(table, schema, waiting)):
            writer.write_table(pyarrow.Table.from_batches(group, schema), row_group_size=_GROUP)
            yield written.take()
    yield written.take()


class _Pieces:
    """A file that only grows, and gives what was written since the last time."""

    closed = False

    def __init__(self) -> None:
        self._written = bytearray()
        self._place = 0

    def write(self, data: Any) -> int:
        self._written += data
        self._place += len(data)
        return len(data)

    def tell(self) -> int:
        return self._place

    def flush(self) -> None:
        """Nothing waits."""

    def close(self) -> None:
        self.closed = True

    def take(self) -> bytes:
        taken = bytes(self._written)
        self._written.clear()
        return taken


def _schema(table: Table) -> Any:
    fields = []
    for name, columns in table.groups:
        parts = [pyarrow.field(each.name.rpartition(".")[2], _TYPES[each.kind]) for _, each in columns]
        is_structure = columns[0][1].name != name
        fields.append(pyarrow.field(name, pyarrow.struct(parts)) if is_structure else parts[0])
    return pyarrow.schema(fields)


def _batches(table: Table, schema: Any, rows: Iterator[Row]) -> Iterator[Any]:
    """The rows of one row group; none when there are no more."""
    left = _GROUP
    while left and (some := list(islice(rows, min(_ROWS, left)))):
        left -= len(some)
        columns = list(zip(*some, strict=True))
        yield pyarrow.RecordBatch.from_arrays([_array(parts, columns) for _, parts in table.groups], schema=schema)


def _array(parts: Sequence[tuple[int, Column]], columns: Sequence[tuple[Any, ...]]) -> Any:
    arrays = [
        pyarrow.array(map(_listed, columns[place]), _TYPES[each.kind], size=len(columns[place]))
        if each.kind in ("texts", "words")
        else pyarrow.array(columns[place], _TYPES[each.kind])
        for place, each in parts
    ]
    if "." not in parts[0][1].name:
        return arrays[0]
    names = [each.name.rpartition(".")[2] for _, each in parts]
    is_absent = [all(value is None for value in values) for values in zip(*(columns[p] for p, _ in parts), strict=True)]
    return pyarrow.StructArray.from_arrays(arrays, names, mask=pyarrow.array(is_absent, pyarrow.bool_()))


def _listed(value: Any) -> Any:
    """A list or mapping as Arrow takes it."""
    return list(value.items()) if isinstance(value, dict) else value
