"""The benchmark `evaluate` refuses unusable arguments before it plays any footage."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.benchmarks.events.evaluate import Scorer, main, row_of


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


def test_a_row_has_a_dash_where_the_truth_has_nothing_to_score(tmp_path: Path) -> None:
    nothing = {"f1": None, "precision": None, "recall": None, "tp": 0, "fp": 0, "fn": 0}
    scores = {"groups": {"overall": nothing | {"direction_accuracy": None}, "presence": nothing}}
    scorer, truth = tmp_path / "score_events.py", tmp_path / "truth.json"
    scorer.write_text(f"print({json.dumps(json.dumps(scores))})")
    truth.write_text('{"camera": "gate"}')
    phases = [tmp_path / "0.jsonl", tmp_path / "1.jsonl"]
    assert row_of("all", Scorer(scorer, truth), phases, 5.0).split() == ["all", *"----", "0", "0", *"---"]
