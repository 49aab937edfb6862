"""The file is the truth: what people write into it by hand stays, and the versions follow it."""

from __future__ import annotations

from pathlib import Path

import pytest

from server.app import runtime_of
from server.domain.errors import Conflict
from server.domain.policy_versions import BY_FILE
from tests.server.pipeline.versions.folder import CHANGED, TEXT, Folder, in_folder
from tests.server.web_client import SITE, BrightnessEnsemble, make_app


def test_a_proposal_is_refused_once_the_file_was_edited_by_hand_and_the_edit_stays(yard: Folder) -> None:
    number = yard.propose()
    edited = TEXT.replace("# where people sit", "# where people eat")
    yard.file.write_text(edited)
    with pytest.raises(
        Conflict, match=r"yard\.toml has changed since version 1 was proposed: propose the change again"
    ):
        yard.versions.put_in_force(number, "ann")
    assert yard.file.read_text() == edited
    assert yard.standings() == [(number, "proposed")]


def test_taking_back_is_refused_once_the_file_was_edited_by_hand(yard: Folder) -> None:
    number = yard.propose()
    yard.versions.put_in_force(number, "ann")
    yard.file.write_text(CHANGED + "# and more\n")
    with pytest.raises(Conflict, match="would undo that change too"):
        yard.versions.take_back(number, "ann")
    assert yard.file.read_text().endswith("# and more\n")
    assert yard.standings() == [(number, "replaced")]


def test_a_faulty_file_is_mended_by_a_version(yard: Folder) -> None:
    assert yard.sites.policy("yard")
    yard.file.write_text("site = 'yard'\nno\n")
    yard.versions.put_in_force(yard.propose(), "ann")
    assert yard.sites.faults() == {}


def test_a_version_copied_into_the_file_by_hand_is_in_force_by_the_file(yard: Folder) -> None:
    number = yard.propose()
    yard.file.write_text(CHANGED)
    assert yard.standings() == [(number, "in force")]
    assert yard.versions.version(number).in_force_by == BY_FILE
    yard.versions.settle("yard")
    yard.file.write_text(TEXT)
    assert yard.standings() == [(number, "taken back")]
    yard.versions.settle("yard")
    yard.versions.settle("yard")
    assert yard.audit()[1:] == [
        (BY_FILE, "policy_put_in_force", "yard", "1"),
        (BY_FILE, "policy_taken_back", "yard", "1"),
    ]


def test_a_version_that_was_taken_back_and_is_written_into_the_file_by_hand_is_in_force_again(yard: Folder) -> None:
    number = yard.propose()
    yard.versions.put_in_force(number, "ann")
    yard.versions.take_back(number, "ann")
    yard.file.write_text(CHANGED)
    assert yard.standings() == [(number, "in force")]
    with pytest.raises(Conflict, match="in force already"):
        yard.versions.put_in_force(number, "ann")
    yard.versions.take_back(number, "bob")
    assert (yard.file.read_text(), yard.standings()) == (TEXT, [(number, "taken back")])


def test_a_proposal_that_was_copied_into_the_file_by_hand_is_in_force_already(yard: Folder) -> None:
    number = yard.propose()
    yard.file.write_text(CHANGED)
    with pytest.raises(Conflict, match="in force already"):
        yard.versions.put_in_force(number, "ann")
    kept = yard.store.policy_versions.version(number)
    assert kept.in_force_by == BY_FILE


def test_a_file_of_another_site_is_never_overwritten(yard: Folder) -> None:
    (yard.folder / "shed.toml").write_text('site = "garage"\n')
    with pytest.raises(Conflict, match="is no policy for `shed`"):
        yard.versions.propose("shed", 'site = "shed"\n', "ann")


def test_whoever_reads_the_versions_writes_nothing(yard: Folder, tmp_path: Path) -> None:
    number = yard.propose()
    yard.versions.put_in_force(number, "ann")
    (tmp_path / "other").mkdir()
    (tmp_path / "other/yard.toml").write_text(TEXT)
    there = in_folder(tmp_path / "other", yard.store)
    assert there.versions("yard")[0].taken_back_by == BY_FILE
    assert there.version(number).taken_back_by == BY_FILE
    assert yard.store.policy_versions.version(number).taken_back_by is None
    assert len(yard.audit()) == 2


def test_a_server_has_the_database_follow_the_file_at_its_start_and_when_the_file_changes(tmp_path: Path) -> None:
    runtime = runtime_of(make_app(tmp_path, BrightnessEnsemble()))
    changed = SITE + "# more\n"
    version = runtime.versions.propose("north-yard", changed, "ann")
    (tmp_path / "sites/north-yard.toml").write_text(changed)
    runtime._look_at_sites()
    assert runtime.store.policy_versions.version(version.number).in_force_by == BY_FILE
    (tmp_path / "sites/north-yard.toml").write_text(SITE)
    runtime._look_at_sites()
    assert runtime.store.policy_versions.version(version.number).taken_back_by == BY_FILE
