"""`deploy/demo` and `deploy/test`: what they say on a machine that lacks something, and that no test is left out."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from tests.documentation import ROOT

SKIPS = re.compile(r"pytest\." + r"skip\b|skip" + r"if\b|import" + r"orskip|unit" + r"test\.skip")


PYTHON = """#!/usr/bin/env bash
case "$*" in
  *"sys.exit"*) exit {too_old} ;;
  *"print"*) echo 3.9.2 ;;
  "-m venv"*) {venv} ;;
  "-m pip"*) {pip} ;;
esac
"""
"""A Python that answers as prepare.sh asks it."""


def python(path: Path, *, too_old: int = 0, venv: str = "exit 1", pip: str = "exit 1") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(PYTHON.format(too_old=too_old, venv=venv, pip=pip))
    path.chmod(0o755)


@pytest.fixture
def bare(tmp_path: Path) -> dict[str, str]:
    """The environment of a machine with hardly more than bash."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("bash", "cat", "dirname", "env", "sha256sum", "tail", "grep", "rm", "mkdir", "mktemp", "sh"):
        program = shutil.which(name)
        assert program, name
        (folder / name).symlink_to(program)
    return {"PATH": str(folder), "HOME": str(tmp_path), "SECTORWATCH_VENV": str(tmp_path / "venv")}


def run(command: str, bare: dict[str, str], *before: str) -> subprocess.CompletedProcess[str]:
    typed = [*before, f"{ROOT}/deploy/{command}"]
    return subprocess.run(typed, env=bare, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("before", [(), ("sh",)])
@pytest.mark.parametrize("command", ["demo", "test"])
def test_with_a_python_that_is_too_old_a_command_ends_with_one_line(
    command: str, before: tuple[str, ...], bare: dict[str, str], tmp_path: Path
) -> None:
    python(tmp_path / "bin" / "python3", too_old=1)
    done = run(command, bare, *before)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("Python 3.11 or newer is needed; here python3 is 3.9.2: ")
    assert done.stderr.endswith(f"PYTHON=/path/to/python {ROOT}/deploy/{command}\n")
    assert done.stderr.count("\n") == 1


def test_a_python_that_is_named_and_too_old_or_missing_is_not_passed_over_for_another(
    bare: dict[str, str], tmp_path: Path
) -> None:
    python(tmp_path / "bin" / "python3")
    python(tmp_path / "bin" / "python3.9", too_old=1)
    assert "; here python3.9 is 3.9.2: " in run("demo", bare | {"PYTHON": "python3.9"}).stderr
    assert "; here is no /nowhere: " in run("demo", bare | {"PYTHON": "/nowhere"}).stderr


def test_an_environment_that_an_older_python_made_is_named_with_what_removes_it(
    bare: dict[str, str], tmp_path: Path
) -> None:
    python(tmp_path / "venv" / "bin" / "python", too_old=1)
    done = run("demo", bare)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert f"rm -r '{tmp_path}/venv'" in done.stderr


def test_without_venv_and_pip_the_package_that_brings_them_is_named(bare: dict[str, str], tmp_path: Path) -> None:
    python(tmp_path / "bin" / "python3")
    done = run("demo", bare)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "apt-get install python3-venv" in done.stderr


@pytest.mark.parametrize(
    ("said", "advice"),
    [
        ("OSError: [Errno 28] No space left on device", "The disk is full: make room"),
        ("Temporary failure in name resolution", "The package index cannot be reached: check the network"),
        ("error: something else", "The installation failed, see above"),
    ],
)
def test_what_keeps_pip_from_installing_ends_with_the_line_that_mends_it(
    bare: dict[str, str], tmp_path: Path, said: str, advice: str
) -> None:
    python(tmp_path / "venv" / "bin" / "python", pip=f"echo '{said}' >&2; exit 1")
    done = run("demo", bare)
    assert done.returncode == 1
    assert done.stderr.splitlines()[0] == said
    assert done.stderr.splitlines()[1].startswith(advice)


@pytest.mark.parametrize(("command", "code"), [("echo found 3 faults; exit 3", 3), ("echo no fault", 0)])
def test_what_runs_beside_other_steps_is_shown_when_it_is_joined_and_its_failure_ends_the_gate(
    command: str, code: int, tmp_path: Path
) -> None:
    steps = f"set -eu; . {ROOT}/deploy/prepare.sh; beside Types bash -c '{command}'; "
    steps += "step Stories echo told; joined; echo on"
    environment = os.environ | {"SECTORWATCH_VENV": str(tmp_path)}
    done = subprocess.run(["bash", "-c", steps], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == code
    said = [line for line in done.stdout.splitlines() if line and not line.startswith("   (")]
    assert said == ["== Stories", "told", "== Types", command.split(";")[0].removeprefix("echo "), *["on"][code:]]


@pytest.mark.parametrize(
    ("user", "named", "said"),
    [
        (1000, "", "apt-get install chromium"),
        (1000, "/nowhere/chromium", "/nowhere/chromium, which SECTORWATCH_TEST_CHROMIUM names"),
        (0, "/nowhere/chromium", "/nowhere/chromium, which SECTORWATCH_TEST_CHROMIUM names"),
    ],
    ids=["none", "a wrong one", "a wrong one as root"],
)
def test_without_a_browser_the_gate_ends_with_one_line_that_says_how_to_get_it(
    user: int, named: str, said: str, tmp_path: Path
) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, script in (("id", f"echo {user}"), ("apt-get", "exit 1")):
        (programs / name).write_text(f"#!/bin/sh\n{script}\n")
        (programs / name).chmod(0o755)
    (programs / "python").symlink_to(sys.executable)
    environment = {"PATH": f"{programs}:/nowhere", "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    environment |= {"SECTORWATCH_TEST_CHROMIUM": named} if named else {}
    bash, dirname = shutil.which("bash"), shutil.which("dirname")
    assert bash
    assert dirname
    (programs / "dirname").symlink_to(dirname)
    typed = [bash, "-c", f"set -eu; . {ROOT}/deploy/prepare.sh; provide_chromium; echo on"]
    done = subprocess.run(typed, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert said in done.stderr


def test_the_gate_takes_the_browser_that_is_there() -> None:
    steps = f"set -eu; . {ROOT}/deploy/prepare.sh; provide_chromium; echo on"
    done = subprocess.run(["bash", "-c", steps], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "on\n"), done.stderr


def test_the_tests_that_the_stories_leave_out_run_with_all_others() -> None:
    gate = (ROOT / "deploy" / "test").read_text(encoding="utf-8")
    [left_out] = re.findall(r"pytest tests/policies --ignore-glob '\*(\S+)'", gate)
    assert re.findall(r"find tests/policies .* ! -name '\*([^\s')]+)'", gate) == [left_out]
    assert len([*(ROOT / "tests" / "policies").glob(f"*{left_out}")]) > 1


HARDENED = (
    *("MemoryMax=", "SystemCallFilter=@system-service", "SystemCallFilter=~@privileged @resources"),
    *("SystemCallErrorNumber=EPERM", "SystemCallArchitectures=native", "RestrictSUIDSGID=yes", "RestrictRealtime=yes"),
    *("NoNewPrivileges=yes", "CapabilityBoundingSet=", "PrivateUsers=yes", "PrivateDevices=yes", "UMask=0077"),
)


@pytest.mark.parametrize("unit", ["sectorwatch.service", "camera-agent.service", "camera-agent@.service"])
def test_a_service_gets_no_more_rights_than_it_needs(unit: str, tmp_path: Path) -> None:
    text = (ROOT / "deploy" / "systemd" / unit).read_text(encoding="utf-8")
    lines = text.splitlines()
    assert [wanted for wanted in HARDENED if not any(line.startswith(wanted) for line in lines)] == []
    assert ("ProtectClock=yes" in lines) == (unit == "sectorwatch.service")  # an agent asks the clock's state
    assert "MemoryDenyWriteExecute=yes" not in lines  # see the next test
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        warnings.warn("systemd-analyze is not here: the exposure of the units is not measured", stacklevel=1)
        return
    file = tmp_path / unit.replace("@", "@gate")
    file.write_text(text, encoding="utf-8")
    typed = [analyze, "security", "--offline=true", "--threshold=15", "--no-pager", str(file)]
    done = subprocess.run(typed, capture_output=True, text=True, check=False)
    assert "Overall exposure level" in done.stdout, done.stderr
    assert done.returncode == 0, done.stdout


def test_the_server_computes_nothing_where_memory_is_never_writable_and_executable() -> None:
    """Why its unit has no MemoryDenyWriteExecute. When this fails, it can have it."""
    code = (
        "import ctypes, torch; assert ctypes.CDLL(None).prctl(65, 1, 0, 0, 0) == 0, 'Linux before 6.3'; "
        "print(torch.conv2d(torch.rand(1, 3, 224, 224), torch.rand(16, 3, 3, 3)).shape)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "could not create a primitive" in done.stderr or "Linux before 6.3" in done.stderr


def test_no_test_can_be_skipped() -> None:
    assert [path for path in (ROOT / "tests").rglob("*.py") if SKIPS.search(path.read_text(encoding="utf-8"))] == []
