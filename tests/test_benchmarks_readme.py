"""Every benchmark that the README of the benchmarks names can be run, and it names every one there is."""

from __future__ import annotations

import re
import runpy
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent / "benchmarks"
TEXT = (FOLDER / "README.md").read_text(encoding="utf-8")
COMMANDS = sorted(set(re.findall(r"python -m tests\.benchmarks\.(\w+)", TEXT)))
MODULES = sorted(path.stem for path in FOLDER.glob("*.py") if path.stem != "__init__")


def test_the_readme_names_commands() -> None:
    assert len(COMMANDS) > 10


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", [name, "--help"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_module(f"tests.benchmarks.{name}", run_name="__main__")
    assert ended.value.code in (0, None)
    assert "usage:" in capsys.readouterr().out.lower()


@pytest.mark.parametrize("name", MODULES)
def test_every_module_is_named(name: str) -> None:
    assert re.search(rf"`{name}`|tests\.benchmarks\.{name}\b", TEXT)
