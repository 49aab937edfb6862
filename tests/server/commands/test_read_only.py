"""A data folder in which nothing can be written can still be read, by a process without root's privileges."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from server.store import Store, open_store
from tests.server.launched import ROOT
from tests.server.scenes import Yard, across
from tests.server.store.damage.files import file_of
from tests.stand_ins import ManualClock

_AS_ANYBODY = """
import json, sys
from click.testing import CliRunner
from server.__main__ import command
done = [CliRunner().invoke(command, arguments) for arguments in json.loads(sys.argv[1])]
print(json.dumps([[each.exit_code, each.output, repr(each.exception)] for each in done]))
"""


def asked(*commands: list[str]) -> list[tuple[int, str, str]]:
    """Exit code, output and exception of commands in one process, to which the modes of files apply even for root."""
    drop = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", "--"] if os.geteuid() == 0 else []
    call = [*drop, sys.executable, "-c", _AS_ANYBODY, json.dumps(commands)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(call, capture_output=True, text=True, check=True, env=environment, timeout=120)
    return [tuple(each) for each in json.loads(done.stdout.splitlines()[-1])]


@pytest.fixture
def store(tmp_path: Path, new_sqlite: Callable[[], str], clock: ManualClock) -> Iterator[Store]:
    """The database of a yard in which somebody walked; its newest bursts are in its log only."""
    yard = Yard(tmp_path / "sites", open_store(new_sqlite(), clock), clock)
    for one in yard.walked(across, 20):
        yard.pipeline.process(one)
    yield yard.store
    yard.store.close()


def read_only(store: Store, folder: Path, ends: tuple[str, ...]) -> Path:
    """The files of the database in a folder where nothing can be written."""
    file, data = file_of(store), folder / "data"
    data.mkdir()
    if "-wal" not in ends:
        store.close()
    for end in ("", *ends):
        shutil.copy(file.with_name(file.name + end), data / f"sectorwatch.sqlite{end}")
        (data / f"sectorwatch.sqlite{end}").chmod(0o400)
    data.chmod(0o500)
    return data


@pytest.mark.parametrize("ends", [(), ("-wal",), ("-wal", "-shm")], ids=["closed", "with a log", "with log and index"])
def test_what_is_in_a_read_only_folder_can_be_read_whole(
    ends: tuple[str, ...], store: Store, tmp_path: Path, clock: ManualClock
) -> None:
    events = [logged.event for logged in store.events()]
    data = read_only(store, tmp_path, ends)
    names = sorted(each.name for each in data.iterdir())
    at = ["--site", "yard", "--camera", "gate", "--at", "2026-11-22T07:00:05Z"]
    here = ["--data-dir", str(data)]
    copy = tmp_path / "copy.sqlite"
    listed, explained, verified, examined, copied, written = asked(
        ["events", "--json", *here],
        ["explain", *at, *here],
        ["verify", events[0].id, *here],
        ["doctor", *here],
        ["db", "backup", str(copy), *here],
        ["tokens", "add", "--site", "yard", "--name", "reader", *here],
    )
    assert listed[0] == 0, listed
    assert [json.loads(line)["id"] for line in listed[1].splitlines()] == [event.id for event in events]
    for done in (explained, verified, copied):
        assert done[0] == 0, done
    assert "integrity_check" in examined[1]
    assert "it can only be read" in examined[1]
    assert written[0] == 78
    assert "cannot be written by" in written[1]
    backup = open_store(f"sqlite:///{copy}", clock)
    assert [logged.event for logged in backup.events()] == events
    backup.close()
    assert sorted(each.name for each in data.iterdir()) == names
    data.chmod(0o700)


def test_a_database_of_another_user_is_named_with_its_owner(store: Store, tmp_path: Path) -> None:
    data = read_only(store, tmp_path, ())
    data.chmod(0o700)
    (data / "sectorwatch.sqlite").chmod(0)
    listed, upgraded = asked(["events", "--data-dir", str(data)], ["db", "upgrade", "--data-dir", str(data)])
    for done in (listed, upgraded):
        assert done[0] == 78, done
        assert "sectorwatch.sqlite cannot be read by" in done[1]
        assert "it belongs to" in done[1]
