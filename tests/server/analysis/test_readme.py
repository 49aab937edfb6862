"""Every example in the README of the analyses runs on a yard with a past."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

from server import analysis
from server.__main__ import SUBCOMMANDS, command
from tests.server.scenes import YARD, Yard

FOLDER = Path(next(iter(analysis.__path__)))
TEXT = (FOLDER / "README.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^\$ sectorwatch (.+)$", TEXT, re.M)
ANALYSES = {"replay", "compare", "explain", "verify", "annotate", "tune", "nuisances"}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder of the examples, which holds a changed policy."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("server.commands.folding.default_processes", lambda: 1)
    (tmp_path / "changed.toml").write_text(f'sensitivity = {{ rule = "any" }}\n{YARD}', encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize("example", EXAMPLES)
def test_every_example_runs(example: str, yard: Yard, url: str, folder: Path) -> None:
    event_id = yard.store.events()[0].event.id
    arguments = [event_id if word == "EVENT" else word for word in shlex.split(example)]
    result = CliRunner().invoke(command, [*arguments, "--database", url])
    assert result.exit_code == 0, result.output


def test_every_analysis_has_an_example() -> None:
    assert {example.split()[0] for example in EXAMPLES} == ANALYSES
    assert set(SUBCOMMANDS) >= ANALYSES


def test_every_module_is_named() -> None:
    others = [readme.parent for readme in FOLDER.glob("*/**/README.md")]  # those name their own
    files = [path for path in FOLDER.rglob("*.py") if not any(path.is_relative_to(other) for other in others)]
    modules = {path.stem for path in files} - {"__init__"}
    assert len(modules) > 20
    assert [name for name in sorted(modules) if f"`{name}`" not in TEXT] == []
