"""Tests on PostgreSQL run or fail: they are never left out."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.server import databases


@pytest.fixture
def debian(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with nothing on PATH, and the folder where Debian's packages of PostgreSQL would be."""
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.delenv(databases.VARIABLE, raising=False)
    monkeypatch.setattr(databases, "_DEBIAN", tmp_path / "postgresql")
    return tmp_path / "postgresql"


def install(folder: Path) -> None:
    folder.mkdir(parents=True)
    for name in ("initdb", "pg_ctl", "postgres"):
        (folder / name).touch(mode=0o755)


def test_without_postgresql_a_test_that_needs_it_fails_with_the_way_to_get_it(debian: Path) -> None:
    wanted = "initdb, pg_ctl, postgres not found: run deploy/test as root"
    with pytest.raises(pytest.fail.Exception, match=wanted), databases.postgresql_database():
        pass


def test_postgresql_is_looked_for_in_the_folders_of_debians_packages(debian: Path) -> None:
    install(debian / "15/bin")
    assert databases.missing_postgresql() is None


def test_the_newest_of_several_versions_comes_first(debian: Path) -> None:
    for version in ("15", "9", "17"):
        install(debian / version / "bin")
    folders = databases.search_path().split(":")[1:]
    assert [Path(folder).parent.name for folder in folders] == ["17", "15", "9"]


def test_a_server_that_is_named_needs_no_programs(debian: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(databases.VARIABLE, "postgresql://tester@db/postgres")
    assert databases.missing_postgresql() is None
