"""`sectorwatch` finds its subcommands, and tells an error of ours in one line."""

from __future__ import annotations

import pkgutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from server import commands
from server.__main__ import SUBCOMMANDS, command
from server.commands import upkeep

_SHARED = {"cameras", "current_policy", "folding", "local_stack", "options", "upkeep"}
MODULES = {module.name for room in (commands, upkeep) for module in pkgutil.iter_modules(room.__path__)} - _SHARED


def test_the_overview_names_every_subcommand_there_is_and_no_other() -> None:
    assert set(SUBCOMMANDS) == MODULES


@pytest.mark.parametrize("name", sorted(MODULES))
def test_each_subcommand_explains_itself(name: str) -> None:
    shown = CliRunner().invoke(command, [name, "--help"])
    assert shown.exit_code == 0, shown.output
    assert "Usage:" in shown.output


def test_the_overview_says_what_each_subcommand_is_for() -> None:
    shown = CliRunner().invoke(command, ["--help"]).output
    for name, purpose in SUBCOMMANDS.items():
        assert name in shown
        assert purpose in " ".join(shown.split())


def test_an_unknown_subcommand_is_a_usage_error() -> None:
    assert CliRunner().invoke(command, ["sreve"]).exit_code == 2


def test_an_error_of_ours_is_one_line_without_a_traceback(tmp_path: Path) -> None:
    shown = CliRunner().invoke(command, ["tokens", "list", "--config", str(tmp_path / "nowhere.toml")])
    assert shown.exit_code == 78
    assert shown.stderr.splitlines() == [
        f"sectorwatch: settings file {tmp_path}/nowhere.toml: No such file or directory"
    ]
