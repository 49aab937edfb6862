"""`sectorwatch demo` and `evaluate` play no footage before what they were given can be used."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from server.commands import demo, evaluate

_BAD = {
    "no site": (b"targets = []", "site"),
    "no TOML": (b"site = ", "not valid TOML"),
    "no UTF-8": (b'site = "yard\xff"', "utf-8"),
}


@pytest.mark.parametrize(("text", "said"), _BAD.values(), ids=_BAD)
@pytest.mark.parametrize("name", ["demo", "evaluate"])
def test_a_site_file_that_cannot_be_used_is_told_with_its_name(
    name: str, text: bytes, said: str, tmp_path: Path
) -> None:
    footage, file = tmp_path / "footage.avi", tmp_path / "yard.toml"
    footage.touch()
    file.write_bytes(text)
    if name == "demo":
        result = CliRunner().invoke(demo.command, ["--footage", str(footage), "--site-file", str(file)])
    else:
        result = CliRunner().invoke(evaluate.command, [str(footage), str(file)])
    assert result.exit_code == 2, result.exception
    assert f"{file}: " in result.stderr
    assert said in result.stderr


def test_a_rate_of_nothing_is_refused(tmp_path: Path) -> None:
    footage, file = tmp_path / "footage.avi", tmp_path / "yard.toml"
    footage.touch()
    file.write_text('site = "yard"')
    assert CliRunner().invoke(evaluate.command, [str(footage), str(file), "--rate", "0"]).exit_code == 2
