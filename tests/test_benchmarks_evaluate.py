"""The benchmark `evaluate` refuses unusable arguments before it plays any footage."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.benchmarks.evaluate import main


@pytest.fixture
def footage(tmp_path: Path) -> Path:
    file = tmp_path / "footage.avi"
    file.touch()
    return file


def test_a_site_file_with_a_mistake_is_refused_with_its_name(footage: Path, tmp_path: Path) -> None:
    file = tmp_path / "yard.toml"
    file.write_text("targets = []")
    result = CliRunner().invoke(main, [str(footage), str(file)])
    assert result.exit_code == 2, result.exception
    assert f"{file}: " in result.stderr
    assert "site" in result.stderr


@pytest.mark.parametrize("rate", ["0", "7"])
def test_a_rate_that_the_footage_cannot_give_is_refused(footage: Path, tmp_path: Path, rate: str) -> None:
    file = tmp_path / "yard.toml"
    file.write_text('site = "yard"')
    assert CliRunner().invoke(main, [str(footage), str(file), "--rate", rate]).exit_code == 2
