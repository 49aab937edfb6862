"""Other users of the machine can read neither the data nor a password, also where a folder or file was open before."""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner

from server.__main__ import command
from server.commands.doctor.access import secrets
from server.commands.serve import _close_data_folder
from server.domain.files.private_files import make_private_folder, readable_by_others
from server.domain.remembered import remember
from server.settings import ServerSettings
from server.store import open_store


def mode_of(path: Path) -> int:
    return path.stat().st_mode & 0o7777


@pytest.fixture(autouse=True)
def _open_by_default() -> object:
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.fixture
def reachable(tmp_path: Path) -> Path:
    """A folder that other users can reach."""
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_uid == os.getuid() and not folder.stat().st_mode & 0o001:
            folder.chmod(folder.stat().st_mode | 0o011)
    return tmp_path


@pytest.mark.parametrize("was_there", [False, True])
def test_database_journal_and_copy_are_for_their_user_alone(tmp_path: Path, *, was_there: bool) -> None:
    file = tmp_path / "data" / "sectorwatch.sqlite"
    if was_there:
        with closing(open_store(f"sqlite:///{file}")) as store:
            store.upgrade()
        for path in (file, file.parent):
            path.chmod(0o755)
        file.with_name(file.name + "-shm").touch(0o644)
    with closing(open_store(f"sqlite:///{file}")) as store:
        store.upgrade()
        store.add_token("id", "name", "yard", "gate", b"x" * 32)
        beside = [path for path in file.parent.iterdir() if path.name.startswith(file.name)]
        assert {path.name[len(file.name) :] for path in beside} >= {"", "-wal", "-shm"}
        assert {path.name: oct(mode_of(path)) for path in beside} == {path.name: oct(0o600) for path in beside}
    CliRunner().invoke(command, ["db", "backup", str(tmp_path / "copy"), "--database", f"sqlite:///{file}"])
    assert mode_of(tmp_path / "copy") == 0o600
    if not was_there:
        assert mode_of(file.parent) == 0o700


def test_serve_closes_a_data_folder_that_was_open_and_says_so_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "data"
    data.mkdir(mode=0o755)
    settings = ServerSettings(data_dir=data)
    _close_data_folder(settings)
    assert f"Other users could open the data folder {data}: now only its user can" in capsys.readouterr().err
    assert mode_of(data) == 0o700
    _close_data_folder(settings)
    assert capsys.readouterr().err == ""


def test_a_folder_that_all_users_share_stays_as_it_is(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    assert not make_private_folder(shared)
    assert mode_of(shared) == 0o1777


def test_doctor_names_open_data_and_a_password_that_others_can_read(reachable: Path) -> None:
    config, data = reachable / "server.toml", reachable / "data"
    config.write_text('database_url = "postgresql://sectorwatch:hunter2@db.example/sectorwatch"\n')
    data.mkdir()
    remember(data, {}, config)
    data.chmod(0o755)
    assert readable_by_others(config)
    found = [(each.level, each.what) for each in secrets(ServerSettings(data_dir=data))]
    assert found == [
        ("warn", f"other users can read the data: {data}"),
        ("warn", f"other users can read the password in the settings: {config}"),
    ]
    config.chmod(0o640)
    data.chmod(0o700)
    assert [each.level for each in secrets(ServerSettings(data_dir=data))] == ["ok"]


def test_validate_names_settings_with_a_password_that_others_can_read(reachable: Path) -> None:
    config = reachable / "server.toml"
    config.write_text('database_url = "postgresql://sectorwatch:hunter2@db.example/sectorwatch"\n')
    shown = CliRunner().invoke(command, ["validate", str(config)])
    assert f"Warning: {config}: other users can read the password in it: chmod o= {config}" in shown.stderr
    config.chmod(0o640)
    assert CliRunner().invoke(command, ["validate", str(config)]).stderr == ""
