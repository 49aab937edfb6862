"""A site policy is in force from the moment its file is good, and stays when the file turns bad."""

from __future__ import annotations

import logging
import os
import threading
from pathlib import Path

import pytest

from server.app import runtime_of
from server.domain.errors import ConfigurationError, DatabaseUnavailable, RetryLater
from server.pipeline.site_policies import Sites, Standing
from tests.server.web_client import BrightnessEnsemble, make_app


def write(folder: Path, name: str, text: str) -> None:
    """Write a file so that its time differs from the earlier one's, however coarse the clock."""
    path = folder / name
    later = path.stat().st_mtime_ns + 1_000_000_000 if path.exists() else 0
    path.write_text(text, encoding="utf-8")
    if later:
        os.utime(path, ns=(later, later))


class Hearing(logging.Handler):
    """Hears `what` said in the log, inside the block."""

    def __init__(self, what: str) -> None:
        super().__init__()
        self.heard = threading.Event()
        self.addFilter(lambda record: record.getMessage() == what)

    def emit(self, _record: logging.LogRecord) -> None:
        self.heard.set()

    def __enter__(self) -> None:
        logging.getLogger("server").addHandler(self)

    def __exit__(self, *_: object) -> None:
        logging.getLogger("server").removeHandler(self)


def refusals(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [record for record in caplog.records if record.getMessage() == "site policy refused"]


def told(record: logging.LogRecord) -> tuple[str, str]:
    return record.__dict__["file"], record.__dict__["in_force"]


def test_a_site_is_found_by_its_key_whatever_its_file_is_called(tmp_path: Path) -> None:
    write(tmp_path, "anything.toml", 'site = "yard"')
    assert Sites(tmp_path).policy("yard").site == "yard"
    assert Sites(tmp_path).edition("yard").text == 'site = "yard"'
    assert Sites(tmp_path).sites() == ("yard",)


def test_a_file_with_a_byte_order_mark_as_some_editors_write_it_is_read(tmp_path: Path) -> None:
    write(tmp_path, "yard.toml", '\ufeffsite = "yard"')
    assert Sites(tmp_path).edition("yard").text == 'site = "yard"'


def test_an_unknown_site_is_told_to_come_back_and_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(RetryLater, match='put a file with site = "yard"'):
        Sites(tmp_path).policy("yard")


def test_a_missing_folder_is_an_operators_fault(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"nowhere: No such file or directory: it has to be a folder"):
        Sites(tmp_path / "nowhere").policy("yard")


def test_while_the_folder_is_away_all_last_good_versions_stay_in_force_and_it_is_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "sites"
    folder.mkdir()
    write(folder, "yard.toml", 'site = "yard"')
    sites = Sites(folder)
    good = sites.edition("yard")
    folder.rename(tmp_path / "away")
    assert (sites.edition("yard"), sites.sites(), list(sites.faults())) == (good, ("yard",), [folder])
    assert [told(record) for record in refusals(caplog)] == [(str(folder), "the last good version")]
    (tmp_path / "away").rename(folder)
    assert sites.faults() == {}


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
        faults = sites.faults()
    assert "targets" in faults[tmp_path / "yard.toml"]
    assert "line 2" in faults[tmp_path / "yard.toml"]
    assert [told(record) for record in refusals(caplog)] == [(str(tmp_path / "yard.toml"), "the last good version")]
    write(tmp_path, "yard.toml", 'site = "yard"')
    assert sites.faults() == {}


def test_while_a_file_cannot_be_read_its_site_s_bursts_are_to_come_back(tmp_path: Path) -> None:
    write(tmp_path, "yard.toml", "site = ")
    write(tmp_path, "other.toml", 'site = "other"')
    sites = Sites(tmp_path)
    assert sites.policy("other").site == "other"
    with pytest.raises(ConfigurationError, match=r"yard\.toml"):
        sites.policy("yard")


@pytest.mark.parametrize("text", [f"a = {'[' * 100_000}", f"a = {'1' * 5000}", "site = \x00"])
def test_what_the_reader_of_toml_chokes_on_is_the_file_s_fault_and_no_other_site_s(tmp_path: Path, text: str) -> None:
    write(tmp_path, "dock.toml", text)
    write(tmp_path, "yard.toml", 'site = "yard"')
    sites = Sites(tmp_path)
    assert sites.policy("yard").site == "yard"
    assert "not valid TOML" in sites.faults()[tmp_path / "dock.toml"]


def test_a_link_to_nothing_is_its_own_fault_and_no_other_site_s(tmp_path: Path) -> None:
    write(tmp_path, "yard.toml", 'site = "yard"')
    (tmp_path / "dock.toml").symlink_to(tmp_path / "nowhere")
    sites = Sites(tmp_path)
    assert sites.policy("yard").site == "yard"
    assert list(sites.faults()) == [tmp_path / "dock.toml"]


def test_a_file_that_may_be_read_again_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(path: Path, *_: object) -> int:
        raise PermissionError(13, "Permission denied", str(path))

    write(tmp_path, "yard.toml", 'site = "yard"')
    sites = Sites(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr("server.domain.files.text_files.os.open", refused)
        with pytest.raises(ConfigurationError, match="Permission denied"):
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
    assert sites.faults() == {
        tmp_path / "b.toml": "site `yard` is also in a.toml, which stays in force: keep one file per site"
    }


def test_of_two_files_for_one_site_the_one_in_force_last_stays_and_the_log_names_both(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path, "yard.toml", 'site = "yard"')
    sites = Sites(tmp_path)
    assert sites.file("yard") == tmp_path / "yard.toml"
    for name in ("a.toml", "y.toml"):
        write(tmp_path, name, 'site = "yard"\ntargets = ["vehicle"]')
    assert sites.policy("yard").rules.targets == ("person",)
    for record in refusals(caplog):
        assert told(record) in {(str(tmp_path / name), "yard.toml") for name in ("a.toml", "y.toml")}
        assert record.__dict__["todo"] == "keep one file per site"
    write(tmp_path, "yard.toml", 'site = "yard"\ntragets = ["vehicle"]')
    assert sites.policy("yard").rules.targets == ("person",)
    (tmp_path / "yard.toml").unlink()
    assert sites.policy("yard").rules.targets == ("vehicle",)
    assert sites.file("yard") == tmp_path / "a.toml"


def test_after_a_restart_the_file_whose_policy_judged_last_stays(tmp_path: Path) -> None:
    write(tmp_path, "a.toml", 'site = "yard"\ntargets = ["vehicle"]')
    write(tmp_path, "yard copy.toml", '# mine\nsite = "yard"')
    assert Sites(tmp_path, {"yard": 'site = "yard"'}.get).file("yard") == tmp_path / "yard copy.toml"
    assert Sites(tmp_path, {"yard": "of another version"}.get).file("yard") == tmp_path / "a.toml"


def test_after_a_restart_without_an_answer_of_the_database_the_shorter_name_counts(tmp_path: Path) -> None:
    def away(_site: str) -> str:
        raise DatabaseUnavailable("the database does not answer")

    for name in ("Kopie von yard.toml", "yard - Copy.toml", "yard (1).toml", "yard.toml"):
        write(tmp_path, name, 'site = "yard"')
    assert Sites(tmp_path, away).file("yard") == tmp_path / "yard.toml"


LEFTOVERS = (
    *("._yard.toml", ".yard.toml", ".yard.toml.swp", ".sync-conflict.toml", "~$yard.toml", "#yard.toml#", "yard.toml~"),
    *(
        "yard~.toml",
        "yard.toml.bak",
        "yard.toml.tmp",
        "yard.toml.txt",
        "yard.sync-conflict-20261129-061812-ABCDEFG.toml",
    ),
    *("yard (conflicted copy 2026-11-29 061812).toml", "yard (Ann's conflicted copy).toml", "yard.Conflict.toml"),
    *("yard (SFConflict ann@example 2026-11-29).toml", "yard_conflict-20261129-061812.toml"),
)


@pytest.mark.parametrize("name", LEFTOVERS)
def test_what_editors_synchronisers_and_other_systems_leave_is_passed_over(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    (tmp_path / name).write_bytes(b"\x00\x05\x16\x07")
    write(tmp_path, "yard.toml", 'site = "yard"')
    sites = Sites(tmp_path)
    assert (sites.sites(), sites.faults(), list(sites.passed_over())) == (("yard",), {}, [tmp_path / name])
    assert sites.policy("yard").site == "yard"
    [warning] = [record for record in caplog.records if record.getMessage() == "site policy passed over"]
    assert warning.__dict__["file"] == str(tmp_path / name)


def test_files_that_are_no_policies_by_name_are_left_alone(tmp_path: Path) -> None:
    for name in ("README", ".keep", "notes.txt"):
        write(tmp_path, name, "")
    assert (Sites(tmp_path).passed_over(), Sites(tmp_path).faults()) == ({}, {})


def test_an_editor_s_dangling_link_a_folder_and_a_pipe_are_passed_over_and_nobody_waits_for_them(
    tmp_path: Path,
) -> None:
    (tmp_path / ".#yard.toml").symlink_to("ann@example.4711:1764396000")
    (tmp_path / "old.toml").mkdir()
    os.mkfifo(tmp_path / "pipe.toml")
    (tmp_path / "null.toml").symlink_to("/dev/null")
    write(tmp_path, "yard.toml", 'site = "yard"')
    sites = Sites(tmp_path)
    assert (sites.sites(), sites.faults()) == (("yard",), {})
    assert {file.name for file in sites.passed_over()} == {".#yard.toml", "old.toml", "pipe.toml", "null.toml"}


def test_a_link_to_itself_and_a_huge_file_are_their_own_faults(tmp_path: Path) -> None:
    (tmp_path / "loop.toml").symlink_to("loop.toml")
    with (tmp_path / "huge.toml").open("wb") as huge:
        huge.truncate(64 * 1024 * 1024)
    write(tmp_path, "yard.toml", 'site = "yard"')
    sites = Sites(tmp_path)
    assert sites.sites() == ("yard",)
    assert {file.name: what for file, what in sites.faults().items()} == {
        "loop.toml": "Too many levels of symbolic links",
        "huge.toml": "it is larger than 1 MiB, so it is not a file of settings",
    }


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ('# caf\xe9\nsite = "yard"'.encode("latin-1"), "line 1 has the byte 0xe9, which is wrong in UTF-8"),
        ('site = "yard"'.encode("utf-16-le"), "line 1 has a NUL character"),
    ],
)
def test_a_file_in_another_encoding_is_told_so(tmp_path: Path, content: bytes, complaint: str) -> None:
    (tmp_path / "yard.toml").write_bytes(content)
    assert complaint in Sites(tmp_path).faults()[tmp_path / "yard.toml"]


def test_a_file_named_in_capitals_and_one_with_windows_line_ends_are_read(tmp_path: Path) -> None:
    (tmp_path / "YARD.TOML").write_bytes(b'site = "yard"\r\ntargets = ["vehicle"]\r\n')
    assert Sites(tmp_path).edition("yard").text == 'site = "yard"\ntargets = ["vehicle"]\n'


def test_a_file_whose_name_is_not_utf_8_is_read_and_named_with_its_bytes(tmp_path: Path) -> None:
    file = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.toml"))
    file.write_text('site = "yard"')
    assert Sites(tmp_path).file("yard") == file
    file.write_text("site = ")
    with pytest.raises(ConfigurationError, match=r"caf\\xe9\.toml: not valid TOML"):
        Sites(tmp_path).policy("yard")


def test_another_file_s_fault_brings_no_site_back_whose_file_was_taken_away(tmp_path: Path) -> None:
    write(tmp_path, "dock.toml", 'site = "dock"\ntragets = []')
    with pytest.raises(RetryLater, match="unknown site"):
        Sites(tmp_path, {"yard": 'site = "yard"'}.get).policy("yard")


def test_what_is_in_force_for_a_site_is_told_with_its_file_and_faults(tmp_path: Path) -> None:
    write(tmp_path, "yard.toml", 'site = "yard"')
    write(tmp_path, "other.toml", "targets = ")
    sites = Sites(tmp_path, {"dock": 'site = "dock"'}.get)
    good = sites.policy("yard")
    assert sites.standing("yard") == Standing(good, tmp_path / "yard.toml", "file", ())
    write(tmp_path, "yard.toml", 'site = "yard"\ntragets = []')
    write(tmp_path, "yard2.toml", 'site = "yard"')
    assert sites.standing("yard") == Standing(
        good,
        tmp_path / "yard.toml",
        "last_good",
        (
            "yard.toml, line 2: tragets: unknown key; did you mean `targets`?",
            "yard2.toml: site `yard` is also in yard.toml, which stays in force: keep one file per site",
        ),
    )
    recalled = sites.standing("dock")
    assert recalled.policy is not None
    assert (recalled.policy.site, recalled.file, recalled.in_force) == ("dock", tmp_path / "other.toml", "last_good")
    assert sites.standing("pier").in_force == "none"
    assert sites.standing("pier").faults[0].startswith("other.toml: not valid TOML")


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


def test_a_server_tells_a_file_that_cannot_be_used_when_it_starts(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    app = make_app(tmp_path, BrightnessEnsemble())
    write(tmp_path / "sites", "yard.toml", 'site = "yard"\ntragets = ["vehicle"]')
    runtime_of(app).start(on_failure=pytest.fail)
    runtime_of(app).stop()
    [refusal] = refusals(caplog)
    assert told(refusal) == (str(tmp_path / "sites" / "yard.toml"), "nothing")
    assert "line 2: tragets: unknown key; did you mean `targets`?" in refusal.__dict__["fault"]
    assert refusal.__dict__["todo"] == "mend the file, and the server reads it again"


def test_a_server_tells_a_file_that_turns_bad_though_no_burst_comes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.app.runtime._REPEAT_S", 0.01)
    refused = Hearing("site policy refused")
    app = make_app(tmp_path, BrightnessEnsemble())
    runtime_of(app).start(on_failure=pytest.fail)
    try:
        with refused:
            write(tmp_path / "sites", "north-yard.toml", "site = ")
            assert refused.heard.wait(30)
        assert "sectorwatch_site_policies_refused 1.0" in app.test_client().get("/metrics").text
    finally:
        runtime_of(app).stop()


def test_after_a_restart_a_bad_file_leaves_the_policy_in_force_by_which_the_site_was_judged_last(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path, "yard.toml", 'site = "yard"\ntragets = ["person"]')
    write(tmp_path, "other.toml", "targets = ")
    last = {"yard": 'site = "yard"\ntargets = ["animal"]', "dock": "of another version"}
    sites = Sites(tmp_path, last.get)
    assert sites.policy("yard").rules.targets == ("animal",)
    assert sites.edition("yard").text == last["yard"]
    assert [record.__dict__["site"] for record in caplog.records if record.getMessage() == "site policy recalled"] == [
        "yard"
    ]
    for unknown in ("dock", "pier"):
        with pytest.raises(ConfigurationError, match=r"but other\.toml: not valid TOML"):
            sites.policy(unknown)
    write(tmp_path, "yard.toml", 'site = "yard"')
    assert sites.edition("yard").text == 'site = "yard"'


def test_a_site_whose_file_was_taken_away_is_not_judged_by_its_last_policy(tmp_path: Path) -> None:
    sites = Sites(tmp_path, {"yard": 'site = "yard"'}.get)
    with pytest.raises(RetryLater, match="unknown site"):
        sites.policy("yard")
