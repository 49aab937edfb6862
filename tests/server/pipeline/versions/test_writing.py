"""How a version is written: the file keeps its form and its owner, and a failure in between loses nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import event

from server.domain.errors import ConfigurationError, SectorwatchError
from tests.server.launched import ROOT
from tests.server.pipeline.versions.folder import CHANGED, TEXT, Folder

ANOTHER_USER = (4242, 4343) if os.geteuid() == 0 else (os.geteuid(), os.getegid())
"""The user and group of the file: only root can give one to another user."""


@pytest.fixture
def foreign(yard: Folder) -> Folder:
    """A yard whose file, readable for its group only, belongs to another user."""
    yard.file.chmod(0o640)
    os.chown(yard.file, *ANOTHER_USER)
    return yard


def test_a_linked_file_stays_a_link_and_keeps_its_mode(yard: Folder, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere.toml"
    yard.file.rename(elsewhere)
    elsewhere.chmod(0o640)
    yard.file.symlink_to(elsewhere)
    yard.versions.put_in_force(yard.propose(), "ann")
    assert yard.file.is_symlink()
    assert elsewhere.read_text() == CHANGED
    assert elsewhere.stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize(
    ("mark", "encoding", "end"),
    [
        (b"\xef\xbb\xbf", "utf-8", "\r\n"),
        (b"", "utf-8", "\r\n"),
        (b"\xef\xbb\xbf", "utf-8", "\n"),
        (b"\xff\xfe", "utf-16-le", "\r\n"),
        (b"", "utf-8", "\r"),
    ],
)
def test_the_byte_order_mark_and_line_ends_of_the_file_stay_and_taking_back_restores_its_bytes(
    yard: Folder, mark: bytes, encoding: str, end: str
) -> None:
    def bytes_of(text: str) -> bytes:
        return mark + text.replace("\n", end).encode(encoding)

    yard.file.write_bytes(bytes_of(TEXT))
    number = yard.propose()
    yard.versions.put_in_force(number, "ann")
    assert yard.file.read_bytes() == bytes_of(CHANGED)
    yard.versions.take_back(number, "ann")
    assert yard.file.read_bytes() == bytes_of(TEXT)


def test_root_changes_the_file_of_another_user_and_that_user_still_owns_it(foreign: Folder) -> None:
    foreign.versions.put_in_force(foreign.propose(), "ann")
    found = foreign.file.stat()
    assert (found.st_uid, found.st_gid, found.st_mode & 0o777) == (*ANOTHER_USER, 0o640)
    assert foreign.file.read_text() == CHANGED


def test_a_file_that_root_makes_belongs_to_the_owner_of_its_folder(foreign: Folder) -> None:
    os.chown(foreign.folder, *ANOTHER_USER)
    version = foreign.versions.propose("shed", 'site = "shed"\n', "ann")
    foreign.versions.put_in_force(version.number, "ann")
    found = (foreign.folder / "shed.toml").stat()
    assert (found.st_uid, found.st_gid) == ANOTHER_USER


def test_a_file_that_cannot_be_given_to_its_owner_again_is_refused_and_stays(
    foreign: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = foreign.propose()

    def refused(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "chown", refused)
    with pytest.raises(
        ConfigurationError, match=rf"yard\.toml cannot be written .*it belongs to {ANOTHER_USER[0]}:{ANOTHER_USER[1]}"
    ):
        foreign.versions.put_in_force(number, "ann")
    assert (foreign.file.read_text(), foreign.file.stat().st_uid) == (TEXT, ANOTHER_USER[0])
    assert foreign.standings() == [(number, "proposed")]


_KILLED = """
import os, signal, sys
from pathlib import Path
from sqlalchemy import event
from server.store import open_store
from tests.server.pipeline.versions.folder import in_folder
url, folder, step = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
store = open_store(url)
versions = in_folder(folder, store)
event.listen(store._engine, "commit", lambda _: os.kill(os.getpid(), signal.SIGKILL))
getattr(versions, step)(1, "ann")
"""


@pytest.mark.parametrize(("step", "after"), [("put_in_force", "in force"), ("take_back", "taken back")])
def test_a_process_killed_between_file_and_database_leaves_the_file_as_the_truth(
    yard: Folder, url: str, step: str, after: str
) -> None:
    number = yard.propose()
    if step == "take_back":
        yard.versions.put_in_force(number, "ann")
    call = [sys.executable, "-c", _KILLED, url, str(yard.folder), step]
    done = subprocess.run(call, env=os.environ | {"PYTHONPATH": str(ROOT)}, check=False, timeout=60)
    assert done.returncode == -signal.SIGKILL
    assert yard.file.read_text() == (CHANGED if step == "put_in_force" else TEXT)
    yard.versions.settle("yard")
    assert yard.store.policy_versions.version(number).standing(yard.file.read_text()) == after
    assert yard.standings() == [(number, after)]
    assert [path.name for path in yard.folder.iterdir()] == ["yard.toml"]


def test_a_database_that_does_not_take_the_change_leaves_the_file_as_it_was(yard: Folder) -> None:
    number = yard.propose()

    def fail(_connection: object) -> None:
        raise OverflowError("too large")

    event.listen(yard.store._engine, "commit", fail)
    with pytest.raises(SectorwatchError, match="nothing was changed"):
        yard.versions.put_in_force(number, "ann")
    event.remove(yard.store._engine, "commit", fail)
    assert yard.file.read_text() == TEXT
    assert yard.standings() == [(number, "proposed")]
