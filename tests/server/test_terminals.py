"""Output to terminals without UTF-8, to full disks and to closed streams: escaped, or one line and an exit code."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from server.analysis.annotations import annotation_of
from server.store import open_store
from tests.server.launched import PATIENCE_S, ROOT
from tests.server.scenes import START_US, Yard, across
from tests.stand_ins import ManualClock

NOTE = "la café 猫 🐈"
LISTS = [
    ["events"],
    ["events", "--json"],
    ["annotate", "list"],
    ["annotate", "export"],
    ["db", "info", "--columns"],
    ["models", "list"],
    ["tokens", "list"],
    ["doctor"],
    ["explain", "--at", "2026-11-22T07:00:00Z"],
    ["--help"],
]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with a walk, a token, and an annotation in many letters."""
    folder = tmp_path_factory.mktemp("data")
    clock = ManualClock(START_US)
    store = open_store(f"sqlite:///{folder}/sectorwatch.sqlite", clock)
    store.upgrade()
    yard = Yard(folder / "sites", store, clock)
    for each in yard.walked(across, 6):
        yard.pipeline.process(each)
    event = store.events()[0].event
    store.annotations.add([annotation_of(store, event.id, "true", "ann", NOTE)])
    store.add_token("0123456789", "café", "yard", None, "0" * 64)
    store.close()
    return folder


def run(data: Path, arguments: list[str], shell: str = "", **environment: str) -> subprocess.CompletedProcess[bytes]:
    known = {"PATH": os.environ["PATH"], "HOME": str(data), "PYTHONPATH": str(ROOT), "SECTORWATCH_DATA_DIR": str(data)}
    models = {"SECTORWATCH_MODELS": "frame-change", "SECTORWATCH_PORT": "0"}
    typed = ["bash", "-o", "pipefail", "-c", f'"$@" {shell}', "-", sys.executable, "-m", "server", *arguments]
    return subprocess.run(
        typed, env=known | models | environment, cwd=data, capture_output=True, timeout=PATIENCE_S, check=False
    )


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_what_a_terminal_cannot_show_is_escaped_and_json_stays_json(data: Path, encoding: str) -> None:
    for arguments in (["annotate", "list"], ["annotate", "export"]):
        done = run(data, arguments, PYTHONIOENCODING=encoding)
        assert (done.returncode, done.stderr) == (0, b"")
        shown = done.stdout.decode(encoding)
        assert "\\u732b \\ud83d\\udc08" in shown
        assert ("café" in shown) == (encoding == "latin-1")
    assert json.loads(shown)["note"] == NOTE


def test_in_the_locale_c_nothing_fails(data: Path) -> None:
    plain = {"LANG": "C", "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    done = run(data, ["annotate", "list"], **plain)
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"la caf\\u00e9" in done.stdout


@pytest.mark.parametrize("arguments", LISTS, ids=" ".join)
def test_on_a_full_disk_every_command_ends_with_one_line(data: Path, arguments: list[str]) -> None:
    done = run(data, arguments, ">/dev/full")
    last = done.stderr.decode().splitlines()[-1]
    assert (done.returncode, last) == (1, "sectorwatch: cannot write the output: No space left on device")
    assert b"Traceback" not in done.stderr
    assert b"Exception" not in done.stderr


@pytest.mark.parametrize("arguments", [["events"], ["annotate", "export"]], ids=" ".join)
def test_a_list_that_goes_nowhere_is_no_success(data: Path, arguments: list[str]) -> None:
    closed = run(data, arguments, ">&-")
    assert (closed.returncode, closed.stderr) == (1, b"sectorwatch: cannot write the output: Bad file descriptor\n")
    gone = run(data, arguments, "| true")
    assert (gone.returncode, gone.stderr) == (1, b"")


def test_a_command_without_output_needs_no_place_for_it(data: Path) -> None:
    assert run(data, ["tokens", "revoke", "0123456789"], ">&-").returncode == 0
