"""The steps of `deploy/install-agent`, and the units that it installs."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.camera_agent.conftest import CHECKOUT

DEPLOY = CHECKOUT / "deploy"


def dry_run(*arguments: str, path: str | None = None, typed: str = "") -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PATH": path or os.environ["PATH"]}
    command = ["/bin/bash", str(DEPLOY / "install-agent"), "--dry-run", *arguments]
    return subprocess.run(command, env=environment, input=typed, capture_output=True, text=True, check=False)


@pytest.fixture
def debian(tmp_path: Path) -> str:
    """A search path with stand-ins for Debian's package tools."""
    for name in ("apt-get", "apt-cache"):
        (tmp_path / name).write_text("#!/bin/sh\nexit 1\n")
        (tmp_path / name).chmod(0o755)
    return f"{tmp_path}:{os.environ['PATH']}"


def test_a_dry_run_prints_each_step_and_the_result(debian: str) -> None:
    done = dry_run(path=debian)
    assert (done.returncode, done.stderr) == (0, "")
    assert "   apt-get install -y --no-install-recommends python3-venv\n" in done.stdout
    assert "   ln -sfn /opt/sectorwatch/bin/camera-agent /usr/local/bin/camera-agent\n" in done.stdout
    assert "   install -m 640 -g video" in done.stdout
    would_be = done.stdout.split("== Nothing was done. It would be:\n")[1].splitlines()
    assert "  - units camera-agent.service and camera-agent@.service" in would_be


def test_a_token_is_not_shown(debian: str) -> None:
    assert "s3cret" not in dry_run(str(DEPLOY / "agent.example.toml"), "s3cret", path=debian).stdout


@pytest.mark.parametrize("typed", ["s3cret", "s3cret\n"])
def test_a_token_never_appears_in_a_list_of_processes(debian: str, typed: str) -> None:
    done = dry_run(str(DEPLOY / "agent.example.toml"), "-", path=debian, typed=typed)
    assert "s3cret" not in done.stdout + done.stderr
    assert "  - wrote the token, for root and the service only\n" in done.stdout


def test_a_missing_token_is_reported() -> None:
    assert dry_run(str(DEPLOY / "agent.example.toml"), "-").stderr == "no token came on standard input\n"


def test_missing_settings_and_unknown_options_are_reported() -> None:
    assert dry_run("nowhere.toml").stderr == "there are no settings at nowhere.toml\n"
    assert "unknown option --quick" in dry_run("--quick").stderr


@pytest.mark.parametrize(
    ("source", "gets"), [("device = 0", True), (" picamera=0", True), ('snapshot = "http://10.0.0.8/a.jpg"', False)]
)
def test_only_a_camera_at_this_machine_gets_its_devices(
    debian: str, tmp_path: Path, source: str, *, gets: bool
) -> None:
    settings = tmp_path / "agent.toml"
    settings.write_text(
        f'site = "yard"\n[server]\nurl = "http://server.example"\n[[cameras]]\nname = "gate"\n{source}\n'
    )
    done = dry_run(str(settings), path=debian)
    assert (done.returncode, done.stderr) == (0, "")
    for unit in ("camera-agent.service", "camera-agent@.service"):
        assert (f"/etc/systemd/system/{unit}.d/devices.conf\n" in done.stdout and "install -D" in done.stdout) == gets
    assert ("rm -f /etc/systemd/system/camera-agent.service.d/devices.conf" in done.stdout) != gets


def test_the_unit_and_the_template_differ_only_in_names() -> None:
    def commands(name: str) -> list[str]:
        return [line for line in (DEPLOY / "systemd" / name).read_text().splitlines() if not line.startswith("#")]

    replaced = {"camera-agent-%i": "camera-agent", "agent %i": "agent", "%i.toml": "agent.toml", "%i.token": "token"}
    template = "\n".join(commands("camera-agent@.service"))
    for instance, one in replaced.items():
        template = template.replace(instance, one)
    assert template.splitlines() == commands("camera-agent.service")
