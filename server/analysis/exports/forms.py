"""The forms that a table can have."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from importlib.util import find_spec
from typing import Literal, get_args

from server.analysis.exports.tables import Row, Table
from server.analysis.exports.text_forms import csv_pieces, json_pieces
from server.domain.errors import ConfigurationError

Form = Literal["csv", "jsonl", "parquet"]
FORMS: tuple[Form, ...] = get_args(Form)
MEDIA_TYPES: dict[Form, str] = {
    "csv": "text/csv",
    "jsonl": "application/x-ndjson",
    "parquet": "application/vnd.apache.parquet",
}


def fault_of(form: Form) -> str | None:
    """Why a form cannot be made here, with what mends it; None where it can."""
    if form == "parquet" and not _has_pyarrow():
        return "Parquet needs pyarrow, which is not installed: pip install 'sectorwatch[export]'"
    return None


def _has_pyarrow() -> bool:
    try:
        return find_spec("pyarrow") is not None
    except ValueError:  # it was made unavailable in this process
        return False


def pieces(form: Form, table: Table, rows: Iterable[Row], notes: Sequence[str] = ()) -> Iterator[bytes]:
    """A table in a form, in pieces that together are the file. No row is read before the first piece is asked for.

    `notes` say what the rows do not show; Parquet keeps them in the file. Raises ConfigurationError where what the form
    needs is not installed.
    """
    if fault := fault_of(form):
        raise ConfigurationError(fault)
    if form == "csv":
        return csv_pieces(table, rows)
    if form == "jsonl":
        return json_pieces(table, rows)
    from server.analysis.exports.parquet import parquet_pieces  # with it comes pyarrow, which takes 60 MB

    return parquet_pieces(table, rows, notes)
