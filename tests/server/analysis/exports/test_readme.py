"""The README of the exports lists the columns that are there, and its commands and queries run."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path

import duckdb
import pytest
from click.testing import CliRunner

from server.__main__ import command
from server.analysis import exports
from server.analysis.exports import TABLES
from server.commands.upkeep import export
from server.store import open_store
from tests.server.scenes import Yard, across
from tests.stand_ins import ManualClock

FOLDER = Path(next(iter(exports.__path__)))
TEXT = (FOLDER / "README.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^\$ sectorwatch (.+)$", TEXT, re.M)
QUERIES = re.findall(r"^```sql\n(.*?)^```", TEXT, re.M | re.S)


@pytest.fixture
def url(new_sqlite: Callable[[], str]) -> str:
    return new_sqlite()


@pytest.fixture
def folder(tmp_path: Path, url: str, clock: ManualClock, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working folder, beside a yard that somebody walked across."""
    store = open_store(url, clock)
    yard = Yard(tmp_path / "sites", store, clock)
    for each in yard.walked(across, 26):
        yard.pipeline.process(each)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    store.close()


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_every_column_is_listed_with_its_type_unit_and_meaning(table: exports.Table) -> None:
    section = TEXT.partition(f"\n## {table.name.capitalize()}\n")[2].partition("\n## ")[0]
    listed = re.findall(r"^\| `([^`]+)` \| (\w+) \| (.*?) ?\| (.+) \|$", section, re.M)
    assert listed == [(column.name, column.kind, column.unit, column.meaning) for column in table.columns]


def test_every_command_runs_and_every_query_finds_rows_in_what_they_wrote(folder: Path, url: str) -> None:
    for example in EXAMPLES:
        shown = CliRunner().invoke(command, [*shlex.split(example), "--database", url])
        assert shown.exit_code == 0, shown.output
    with duckdb.connect() as database:
        found = [database.execute(query).fetchall() for query in QUERIES]
    assert len(found) == 3
    assert all(found)


def test_every_subject_and_every_option_is_named() -> None:
    assert {example.split()[1] for example in EXAMPLES} == set(TABLES)
    options = {name for each in export.command.params for name in each.opts if name.startswith("--")}
    of_every_command = {"--config", "--database", "--sites", "--data-dir", "--withdrawn"}
    assert [name for name in sorted(options - of_every_command) if f"`{name}`" not in TEXT] == []


def test_every_module_is_named() -> None:
    modules = {path.stem for path in FOLDER.rglob("*.py")} - {"__init__"}
    assert [name for name in sorted(modules) if f"`{name}`" not in TEXT] == []
