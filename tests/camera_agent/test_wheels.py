"""Every dependency installs on a Raspberry Pi without a compiler. Needs the package index."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from pathlib import Path

from tests.camera_agent.conftest import CHECKOUT

PLATFORMS = ("manylinux2014_aarch64", "manylinux_2_28_aarch64")
"""Older than what Raspberry Pi OS has: Bookworm's C library is 2.36, Trixie's 2.41."""


def asked(python: str, folder: Path) -> subprocess.Popen[str]:
    """pip's report of the wheels that it would install for the agent on 64-bit ARM under that Python."""
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["agent"]]
    options = [option for platform in PLATFORMS for option in ("--platform", platform)]
    options += ["--only-binary=:all:", "--implementation", "cp", "--python-version", python]
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--quiet"),
            *("--report", str(folder / "report.json"), "--target", str(folder / "nowhere"), *options, *wanted),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_every_dependency_has_a_wheel_for_64_bit_arm_on_python_3_11_and_3_13(tmp_path: Path) -> None:
    running = {}
    for python in ("3.11", "3.13"):
        (tmp_path / python).mkdir()
        running[python] = asked(python, tmp_path / python)
    for python, pip in running.items():
        _, complaint = pip.communicate(timeout=600)
        assert pip.returncode == 0, f"no wheels for Python {python}, or no package index:\n{complaint}"
        report = json.loads((tmp_path / python / "report.json").read_text())
        urls = [found["download_info"]["url"] for found in report["install"]]
        assert all(url.endswith(("-any.whl", "aarch64.whl")) for url in urls)
        assert sum("aarch64" in url for url in urls) >= 4
        assert not (tmp_path / python / "nowhere").exists()
