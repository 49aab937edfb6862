"""The same rows in each form, without holding more of them than a piece takes."""

from __future__ import annotations

import json
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace

import msgspec
import pytest
from pyarrow import BufferReader, parquet, timestamp

from policies.events import Event, Provenance, instant
from server.analysis.exports import EVENTS, FORMS, MEDIA_TYPES, OCCUPANCY, TABLES, Form, Row, Table, event_row, pieces
from server.analysis.exports import parquet as module
from server.domain.records import LateBurst, LoggedEvent
from tests.server.analysis.exports.reading import read, written
from tests.server.scenes import START_US

PLAIN = LoggedEvent(
    seq=1,
    event=Event(
        id="5f3a91c2",
        kind="entered",
        site="yard",
        camera="gate",
        label="person",
        sector="west",
        direction="left",
        started_at=instant(START_US),
        confirmed_at=instant(START_US + 1_500_000),
        time_uncertainty_s=0.25,
        track="t1",
        score=0.9,
        votes={"eye": "for", "namer": "abstain"},
        margin=1.0,
        provenance=Provenance(("burst-1",), ("ab" * 32,), "ensemble-1", "policy-1", None),
    ),
    late=False,
    withdrawn_at_us=None,
    burst_id="burst-1",
)
WITHDRAWN = replace(PLAIN, withdrawn_at_us=1, supersedes=("0a",), superseded_by=LateBurst("burst-9", START_US))


def test_an_event_as_a_line_of_json_is_what_every_channel_sends() -> None:
    lines = written("jsonl", EVENTS, map(event_row, (PLAIN, WITHDRAWN))).splitlines()
    assert lines == [msgspec.json.encode(PLAIN.as_wire()), msgspec.json.encode(WITHDRAWN.as_wire())]


def test_csv_has_a_cell_for_each_column_and_an_empty_one_where_there_is_nothing() -> None:
    plain, withdrawn = read(written("csv", EVENTS, map(event_row, (PLAIN, WITHDRAWN))), "csv")
    assert list(plain) == [column.name for column in EVENTS.columns]
    assert (plain["started_at"], plain["confirmed_at"]) == ("2026-11-22T07:00:00Z", "2026-11-22T07:00:01.500000Z")
    assert (plain["line"], plain["superseded_by.at"]) == ("", "")
    assert (plain["withdrawn"], withdrawn["withdrawn"]) == ("false", "true")
    assert json.loads(plain["votes"]) == PLAIN.event.votes
    assert json.loads(withdrawn["supersedes"]) == ["0a"]
    assert withdrawn["superseded_by.burst_id"] == "burst-9"


@pytest.mark.parametrize("begin", ["=", "+", "-", "@", "\t", "\r"])
def test_a_text_that_a_spreadsheet_would_run_is_text_in_csv_and_what_it_was_elsewhere(begin: str) -> None:
    digest = f"{begin}HYPERLINK(1)"  # an agent names it
    made_by = msgspec.structs.replace(PLAIN.event.provenance, mask_digest=digest)
    logged = replace(PLAIN, event=msgspec.structs.replace(PLAIN.event, provenance=made_by))
    [row] = read(written("csv", EVENTS, [event_row(logged)]), "csv")
    assert (row["provenance.mask_digest"], row["site"], row["score"]) == (f"'{digest}", "yard", "0.9")
    [line] = read(written("jsonl", EVENTS, [event_row(logged)]), "jsonl")
    assert line["provenance"]["mask_digest"] == digest


def test_parquet_has_the_types_of_the_columns_and_says_what_is_not_in_it() -> None:
    content = written("parquet", EVENTS, map(event_row, (PLAIN, WITHDRAWN)), ["yard/gate: no longer kept"])
    plain, withdrawn = read(content, "parquet")
    assert plain["started_at"] == PLAIN.event.started_at
    assert plain["votes"] == PLAIN.event.votes
    assert plain["provenance"]["frame_sha256"] == ["ab" * 32]
    assert plain["superseded_by"] is None
    assert withdrawn["superseded_by"] == {"burst_id": "burst-9", "at": instant(START_US)}
    schema = parquet.read_schema(BufferReader(content))
    assert schema.field("confirmed_at").type == timestamp("us", tz="UTC")
    assert schema.metadata[b"sectorwatch.notes"] == b"yard/gate: no longer kept"


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_a_table_without_rows_is_a_whole_file_of_its_form(form: Form, table: Table) -> None:
    assert read(written(form, table, ()), form) == []


@pytest.mark.parametrize("form", FORMS)
def test_a_long_export_takes_no_more_memory_than_a_short_one(form: Form, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_GROUP", 2048)

    def rows(count: int) -> Iterator[Row]:
        for number in range(count):
            yield ("yard", "gate", "west", "person", instant(number), 60.0, 0.0, 60.0, float(number), 0.0)

    def peak(count: int) -> int:
        tracemalloc.start()
        try:
            for _ in pieces(form, OCCUPANCY, rows(count)):
                pass
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(10)
    assert peak(12_000) < peak(3_000) + 600_000, "9000 rows take 3 MB"


def test_rows_are_read_as_they_are_written() -> None:
    taken = 0

    def rows() -> Iterator[Row]:
        nonlocal taken
        for _ in range(10_000):
            taken += 1
            yield event_row(PLAIN)

    some = pieces("csv", EVENTS, rows())
    next(some)
    next(some)
    assert taken <= 1000


def test_without_pyarrow_text_is_written_and_parquet_names_the_extra() -> None:
    script = (
        "import sys; sys.modules['pyarrow'] = None\n"
        "from server.analysis.exports import OCCUPANCY, fault_of, pieces\n"
        "assert b''.join(pieces('csv', OCCUPANCY, [])).startswith(b'site,')\n"
        "print(fault_of('csv'), fault_of('parquet'))\n"
        "pieces('parquet', OCCUPANCY, [])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.stdout.startswith("None Parquet needs pyarrow")
    assert "pip install 'sectorwatch[export]'" in done.stderr


def test_exports_load_pyarrow_only_for_parquet() -> None:
    lines = (
        "import sys, server.analysis.exports as e",
        "b''.join(e.pieces('jsonl', e.EVENTS, []))",
        "print('pyarrow' in sys.modules)",
    )
    script = "\n".join(lines)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_each_form_has_a_media_type() -> None:
    assert set(MEDIA_TYPES) == set(FORMS)
