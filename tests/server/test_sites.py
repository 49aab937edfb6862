"""A site policy is in force from the moment its file is good, and stays when the file turns bad."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from server.errors import Broken, Later
from server.sites import Sites


def write(folder: Path, name: str, text: str) -> None:
    """Write a file so that its time differs from the earlier one's, however coarse the clock."""
    path = folder / name
    later = path.stat().st_mtime_ns + 1_000_000_000 if path.exists() else 0
    path.write_text(text, encoding="utf-8")
    if later:
        os.utime(path, ns=(later, later))


def test_a_site_is_found_by_its_key_whatever_its_file_is_called(tmp_path: Path) -> None:
    write(tmp_path, "anything.toml", 'site = "yard"')
    assert Sites(tmp_path).policy("yard").site == "yard"
    assert Sites(tmp_path).edition("yard").text == 'site = "yard"'
    assert Sites(tmp_path).sites() == ("yard",)


def test_an_unknown_site_is_told_to_come_back_and_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(Later, match='put a file with site = "yard"'):
        Sites(tmp_path).policy("yard")


def test_a_missing_folder_is_an_operators_fault(tmp_path: Path) -> None:
    with pytest.raises(Broken, match="no folder of site policies"):
        Sites(tmp_path / "nowhere").policy("yard")


def test_an_edited_file_is_in_force_at_the_next_question(tmp_path: Path) -> None:
    write(tmp_path, "yard.toml", 'site = "yard"')
    sites = Sites(tmp_path)
    before = sites.policy("yard").digest
    write(tmp_path, "yard.toml", 'site = "yard"\ntargets = ["vehicle"]')
    assert sites.policy("yard").digest != before
    assert sites.policy("yard").rules.targets == ("vehicle",)


def test_a_file_turned_bad_leaves_the_last_good_version_in_force_and_says_so_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path, "yard.toml", 'site = "yard"')
    sites = Sites(tmp_path)
    good = sites.edition("yard")
    write(tmp_path, "yard.toml", 'site = "yard"\ntragets = ["vehicle"]')
    with caplog.at_level(logging.ERROR):
        assert sites.edition("yard") == good
        assert sites.edition("yard") == good
        faults = sites.reload()
    assert "targets" in faults["yard.toml"]
    assert "line 2" in faults["yard.toml"]
    refusals = [record for record in caplog.records if record.getMessage() == "site policy refused"]
    assert [record.__dict__["in_force"] for record in refusals] == ["the last good version"]
    write(tmp_path, "yard.toml", 'site = "yard"')
    assert sites.reload() == {}


def test_while_a_file_cannot_be_read_its_site_s_bursts_are_to_come_back(tmp_path: Path) -> None:
    write(tmp_path, "yard.toml", "site = ")
    write(tmp_path, "other.toml", 'site = "other"')
    sites = Sites(tmp_path)
    assert sites.policy("other").site == "other"
    with pytest.raises(Broken, match=r"yard\.toml"):
        sites.policy("yard")


def test_a_link_to_nothing_is_its_own_fault_and_no_other_site_s(tmp_path: Path) -> None:
    write(tmp_path, "yard.toml", 'site = "yard"')
    (tmp_path / "dock.toml").symlink_to(tmp_path / "nowhere")
    sites = Sites(tmp_path)
    assert sites.policy("yard").site == "yard"
    assert list(sites.reload()) == ["dock.toml"]


def test_a_file_that_may_be_read_again_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(path: Path, **_: object) -> str:
        raise PermissionError(13, "Permission denied", str(path))

    write(tmp_path, "yard.toml", 'site = "yard"')
    sites = Sites(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(Path, "read_text", refused)
        with pytest.raises(Broken, match="Permission denied"):
            sites.policy("yard")
    file = tmp_path / "yard.toml"
    before_ns = file.stat().st_ctime_ns
    for _ in range(1_000_000):  # the file system's clock may be coarse
        file.chmod(0o640)
        if file.stat().st_ctime_ns != before_ns:
            break
    assert sites.policy("yard").site == "yard"


def test_of_two_files_for_one_site_the_first_by_name_counts_and_the_other_is_a_fault(tmp_path: Path) -> None:
    write(tmp_path, "a.toml", 'site = "yard"\ntargets = ["vehicle"]')
    write(tmp_path, "b.toml", 'site = "yard"')
    sites = Sites(tmp_path)
    assert sites.policy("yard").rules.targets == ("vehicle",)
    assert sites.reload() == {"b.toml": "site `yard` is also in a.toml"}


def test_a_file_that_takes_another_site_s_name_keeps_its_last_good_version(tmp_path: Path) -> None:
    write(tmp_path, "a.toml", 'site = "yard"')
    write(tmp_path, "b.toml", 'site = "dock"')
    sites = Sites(tmp_path)
    assert sites.sites() == ("dock", "yard")
    write(tmp_path, "b.toml", 'site = "yard"')
    assert sites.sites() == ("dock", "yard")


def test_a_file_taken_away_takes_its_site_away(tmp_path: Path) -> None:
    write(tmp_path, "yard.toml", 'site = "yard"')
    sites = Sites(tmp_path)
    assert sites.sites() == ("yard",)
    (tmp_path / "yard.toml").unlink()
    assert sites.sites() == ()
