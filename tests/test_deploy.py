"""`deploy/demo` and `deploy/test`: what they say on a machine that lacks something, and that no test is left out."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.documentation import ROOT

SKIPS = re.compile(r"pytest\." + r"skip\b|skip" + r"if\b|import" + r"orskip|unit" + r"test\.skip")


@pytest.fixture
def bare(tmp_path: Path) -> dict[str, str]:
    """The environment of a machine whose only Python is too old."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("bash", "cat", "dirname", "env", "sha256sum"):
        program = shutil.which(name)
        assert program, name
        (folder / name).symlink_to(program)
    (folder / "python3").write_text("#!/usr/bin/env bash\nexit 1\n")
    (folder / "python3").chmod(0o755)
    return {"PATH": str(folder), "HOME": str(tmp_path), "SECTORWATCH_VENV": str(tmp_path / "venv")}


@pytest.mark.parametrize("command", ["demo", "test"])
def test_with_a_python_that_is_too_old_a_command_ends_with_one_line(command: str, bare: dict[str, str]) -> None:
    done = subprocess.run([f"{ROOT}/deploy/{command}"], env=bare, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("Python 3.11 or newer is needed")
    assert done.stderr.count("\n") == 1


def test_no_test_can_be_skipped() -> None:
    assert [path for path in (ROOT / "tests").rglob("*.py") if SKIPS.search(path.read_text(encoding="utf-8"))] == []
