"""Pictures, state and tokens are for the agent's user alone, and a token that others can read is named."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from camera_agent import atomic_files
from camera_agent.__main__ import command
from camera_agent.cli.doctor import examine
from camera_agent.config.load import load_settings
from camera_agent.state import lock_state


@pytest.fixture
def reachable(tmp_path: Path) -> Path:
    """A folder that other users can reach."""
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_uid == os.getuid() and not folder.stat().st_mode & 0o001:
            folder.chmod(folder.stat().st_mode | 0o011)
    return tmp_path


def settings_file(folder: Path, server: str = "", camera: str = 'snapshot = "http://127.0.0.1:9/x.jpg"') -> Path:
    path = folder / "agent.toml"
    path.write_text(
        f'site = "yard"\nstate_dir = "{folder}/state"\n[server]\nurl = "http://127.0.0.1:9"\n{server}\n'
        f'[[cameras]]\nname = "gate"\ntimeout_s = 1.0\n{camera}\n'
    )
    path.chmod(0o644)
    return path


@pytest.mark.parametrize(
    ("server", "camera", "held"),
    [
        ('token = "t0ken"', 'snapshot = "http://127.0.0.1:9/x.jpg"', "`token` of [server]"),
        ("", 'snapshot = "http://127.0.0.1:9/x.jpg"\ntoken = "t0ken"', "`token` of camera gate"),
        ("", 'snapshot = "http://u:t0ken@127.0.0.1:9/x.jpg"', "the address of camera gate"),
        ("", 'snapshot = "http://127.0.0.1:9/x.jpg?pwd=t0ken"', "the address of camera gate"),
    ],
)
def test_validate_and_doctor_name_a_token_in_settings_that_others_can_read(
    server: str, camera: str, held: str, reachable: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = settings_file(reachable, server, camera)
    warning = f"{file}: every user of this machine can read {held} in it: chmod o= {file}"
    assert command(["validate", str(file)]) == 0
    output = capsys.readouterr()
    assert f"warning: {warning}" in output.err
    assert "t0ken" not in output.out + output.err
    assert warning in [finding.text for finding in examine(load_settings(file), file) if finding.subject == "secrets"]
    file.chmod(0o640)
    assert command(["validate", str(file)]) == 0
    assert "warning" not in capsys.readouterr().err


def test_a_token_file_that_others_can_read_is_named(reachable: Path, capsys: pytest.CaptureFixture[str]) -> None:
    token = reachable / "gate.token"
    token.write_text("t0ken\n")
    token.chmod(0o644)
    file = settings_file(reachable, f'token_file = "{token}"')
    assert command(["validate", str(file)]) == 0
    assert f"warning: {token}: every user of this machine can read the token in it" in capsys.readouterr().err
    (reachable / "closed").mkdir(mode=0o700)
    token = token.rename(reachable / "closed" / "gate.token")
    assert command(["validate", str(settings_file(reachable, f'token_file = "{token}"'))]) == 0
    assert "every user" not in capsys.readouterr().err


def test_state_that_was_open_before_is_closed_and_files_are_for_their_user(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        state = tmp_path / "state"
        state.mkdir(mode=0o755)
        with lock_state(state):
            assert state.stat().st_mode & 0o777 == 0o700
        atomic_files.write(state / "position.json", [b"{}"])
        assert (state / "position.json").stat().st_mode & 0o777 == 0o600
        shared = tmp_path / "shared"
        shared.mkdir()
        shared.chmod(0o1777)
        atomic_files.make_private(shared)
        assert shared.stat().st_mode & 0o7777 == 0o1777
    finally:
        os.umask(before)


def test_a_key_for_redirects_belongs_to_cameras_whose_redirects_the_agent_follows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = settings_file(tmp_path, camera='rtsp = "rtsp://127.0.0.1:9/x"\nredirect_hosts = ["cam2"]')
    assert command(["validate", str(file)]) == 78
    assert "`redirect_hosts` is for a camera with `mjpeg` or `snapshot`" in capsys.readouterr().err
