"""Two threads never have msgspec take one type apart at once, which would end the process (SIGSEGV, msgspec 0.22).

It takes a type apart at its first use, unless a decoder of the type was made before. So decoders are made as their
module is imported.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = sorted(path for package in ("server", "policies", "camera_agent") for path in (ROOT / package).rglob("*.py"))
BY_TYPE = re.compile(r"msgspec\.\w+\.decode\([^\n]*\btype=(?!dict\[str, Any\])")


@pytest.mark.parametrize(("line", "is_found"), [("decode(body, type=Burst)", True), ("decode(body)", False)])
def test_the_search_finds_what_decodes_by_a_type(line: str, is_found: bool) -> None:
    assert bool(BY_TYPE.search(f"msgspec.json.{line}")) == is_found


def test_nothing_decodes_by_a_type_without_a_decoder() -> None:
    found = [str(path.relative_to(ROOT)) for path in SOURCES if BY_TYPE.search(path.read_text(encoding="utf-8"))]
    assert len(SOURCES) > 200
    assert found == []


def test_no_request_and_no_site_policy_is_the_first_to_use_a_type(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.ready_types_script", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "statuses [201, 204, 200, 200, 200, 200, 200]\n"
