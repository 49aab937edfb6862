"""Every benchmark that the README of the benchmarks names can be run, and it names every one there is."""

from __future__ import annotations

import re
import runpy
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent / "benchmarks"
TEXT = (FOLDER / "README.md").read_text(encoding="utf-8")
COMMANDS = sorted(set(re.findall(r"python -m tests\.benchmarks\.([\w.]*\w)", TEXT)))
MODULES = sorted(".".join(path.relative_to(FOLDER).with_suffix("").parts) for path in FOLDER.glob("**/[!_]*.py"))
ROOMS = dict(re.findall(r"^\| `(\w+)/` \| (.*)$", TEXT, re.M))


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
def test_every_module_is_named_as_a_command_or_as_a_part_of_its_room(name: str) -> None:
    room, _, module = name.rpartition(".")
    assert name in COMMANDS or f"`{module}`" in ROOMS[room]
