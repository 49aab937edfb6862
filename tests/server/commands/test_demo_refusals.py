"""`sectorwatch demo` refuses an unusable site file before it plays any footage."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from server.commands import demo

_BAD = {
    "no site": (b"targets = []", "site"),
    "no TOML": (b"site = ", "not valid TOML"),
    "no UTF-8": (b'site = "yard\xff"', "UTF-8"),
}


@pytest.mark.parametrize(("text", "reason"), _BAD.values(), ids=_BAD)
def test_a_site_file_that_cannot_be_used_is_refused_with_its_name(text: bytes, reason: str, tmp_path: Path) -> None:
    footage, file = tmp_path / "footage.avi", tmp_path / "yard.toml"
    footage.touch()
    file.write_bytes(text)
    result = CliRunner().invoke(demo.command, ["--footage", str(footage), "--site-file", str(file)])
    assert result.exit_code == 2, result.exception
    assert f"{file}: " in result.stderr
    assert reason in result.stderr
