"""`sectorwatch policy import`, `export` and `remove`, and what the other commands say of sites in the database."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from server.__main__ import command
from server.store import Store, open_store
from tests.server import new_sqlite

YARD = '# The yard.\nsite = "yard"\ntimezone = "Asia/Tokyo"\n'
SHED = 'site = "shed"\n'


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A server's folder with two files of sites and an empty database; sites are in the database by its settings."""
    given = {"DATA_DIR": str(tmp_path), "MODELS": "hog-people,frame-change", "PORT": "0", "SITES": "database"}
    for name, value in given.items():
        monkeypatch.setenv(f"SECTORWATCH_{name}", value)
    (tmp_path / "sites").mkdir()
    write(tmp_path, YARD)
    (tmp_path / "sites" / "shed.toml").write_text(SHED, encoding="utf-8")
    new_sqlite.provide(tmp_path / "sectorwatch.sqlite")
    return tmp_path


def write(folder: Path, text: str) -> None:
    (folder / "sites" / "yard.toml").write_text(text, encoding="utf-8")


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(command, [*map(str, arguments)])


def imported(folder: Path, *more: str) -> list[str]:
    result = run("policy", "import", folder / "sites", *more)
    assert result.exit_code == 0, result.output
    return result.stdout.splitlines()


def stored(folder: Path) -> Store:
    return open_store(f"sqlite:///{folder}/sectorwatch.sqlite")


def test_a_folder_is_imported_and_imported_again_and_exported_as_it_was(folder: Path) -> None:
    assert imported(folder) == ["shed: version 1 is in force", "yard: version 2 is in force"]
    assert imported(folder) == ["shed: unchanged, version 1 is in force", "yard: unchanged, version 2 is in force"]
    write(folder, f"{YARD}# more\n")
    assert imported(folder)[1] == "yard: version 3 is in force, in place of version 2 (by command line)"
    exported = run("policy", "export", folder / "out")
    assert exported.stdout.splitlines() == [str(folder / "out" / name) for name in ("shed.toml", "yard.toml")]
    assert {file.name: file.read_text() for file in (folder / "out").iterdir()} == {
        "shed.toml": SHED,
        "yard.toml": f"{YARD}# more\n",
    }
    lines = [(line.author, line.what, line.site) for line in reversed(stored(folder).audit.page())]
    assert lines[:2] == [("command line", "policy_proposed", "shed"), ("command line", "policy_put_in_force", "shed")]
    assert len(lines) == 6


def test_one_file_is_imported_alone(folder: Path) -> None:
    assert run("policy", "import", folder / "sites" / "yard.toml").stdout == "yard: version 1 is in force\n"


def test_files_that_are_imported_at_each_start_undo_no_change_that_was_made_since(folder: Path) -> None:
    imported(folder)
    (folder / "new.toml").write_text(f"{YARD}# changed\n", encoding="utf-8")
    assert run("policy", "propose", "yard", folder / "new.toml").exit_code == 0
    assert "Version 3 is in force" in run("policy", "put-in-force", "3").output
    [_, left] = imported(folder)
    assert left.startswith("yard: left as it is: this text was version 2, and version 3 (by command line) took its")
    assert stored(folder).policy_versions.number_judging("yard") == 3
    assert imported(folder, "--replace")[1] == "yard: version 4 is in force, in place of version 3 (by command line)"
    assert "The policy of `yard` is as it was before version 4" in run("policy", "take-back", "4").output
    assert stored(folder).policy_versions.number_judging("yard") == 3


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("yard.toml", 'site = "yard"\ntragets = []\n', "yard.toml, line 2: tragets: unknown key"),
        ("yard copy.toml", YARD, "site `yard` is also in yard copy.toml: keep one file per site"),
        ("barn.toml", "site = ", "barn.toml"),
    ],
)
def test_an_import_with_one_fault_changes_nothing(folder: Path, name: str, text: str, said: str) -> None:
    (folder / "sites" / name).write_text(text, encoding="utf-8")
    result = run("policy", "import", folder / "sites")
    assert result.exit_code == 78
    assert said in result.stderr
    assert "nothing is imported" in result.stderr
    assert stored(folder).counts()["policy_versions"] == 0


def test_a_folder_without_a_policy_is_no_import(folder: Path) -> None:
    (folder / "empty").mkdir()
    result = run("policy", "import", folder / "empty")
    assert (result.exit_code, "there is no site policy in" in result.stderr) == (2, True)


def test_a_removed_policy_keeps_its_versions_and_can_be_imported_again(folder: Path) -> None:
    imported(folder)
    assert "`yard` has no policy any more; it was version 2" in run("policy", "remove", "yard").stderr
    again = run("policy", "remove", "yard")
    assert (again.exit_code, "no policy of `yard` is in the database" in again.stderr) == (1, True)
    assert "taken back" in run("policy", "versions", "yard").stdout
    assert imported(folder)[1] == "yard: version 3 is in force"
    assert [line.what for line in stored(folder).audit.page()].count("policy_removed") == 1


def test_an_export_writes_into_no_folder_with_something_in_it(folder: Path) -> None:
    nothing = run("policy", "export", folder / "out")
    assert (nothing.exit_code, "no site policy is in the database" in nothing.stderr) == (1, True)
    imported(folder)
    taken = run("policy", "export", folder / "sites")
    assert (taken.exit_code, "name a new or an empty folder" in taken.stderr) == (1, True)
    assert (folder / "sites" / "yard.toml").read_text() == YARD


@pytest.mark.parametrize("arguments", [("import", "sites"), ("export", "out"), ("remove", "yard")])
def test_with_sites_in_a_folder_these_commands_say_how_to_have_them_in_the_database(
    folder: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, str]
) -> None:
    monkeypatch.setenv("SECTORWATCH_SITES", "folder")
    monkeypatch.chdir(folder)
    result = run("policy", *arguments)
    assert result.exit_code == 78
    assert 'set sites = "database" in the settings' in result.stderr


def test_doctor_names_the_import_until_there_is_a_policy(folder: Path) -> None:
    before = run("doctor").stdout
    assert "warn  sites      no site policy can be used" in before
    assert f"sectorwatch policy import {folder}/sites" in before
    imported(folder)
    after = run("doctor").stdout
    assert "ok    sites      shed, yard (in the database)" in after


def test_doctor_names_a_policy_of_another_release(folder: Path) -> None:
    imported(folder)
    with stored(folder).policy_versions.changing() as changing:
        changing._connection.exec_driver_sql("UPDATE policy_versions SET text = 'site = 1' WHERE site = 'yard'")
    result = run("doctor")
    assert result.exit_code == 1
    assert "fail  sites      yard: version 2 in the database: " in result.stdout


def test_a_folder_of_sites_is_refused_beside_sites_in_the_database(folder: Path) -> None:
    for arguments in (("doctor",), ("policy", "versions", "yard"), ("serve",)):
        result = run(*arguments, "--sites", folder / "sites")
        assert result.exit_code == 2
        assert '--sites names a folder, and the settings say sites = "database"' in result.stderr
