"""Versions of a site's policy: the file is the truth, nobody's change is lost, and every change is in the audit."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import event

from server.__main__ import command
from server.analysis.policy_diff import applied
from server.app import runtime_of
from server.domain.errors import ConfigurationError, Conflict, SectorwatchError, Unknown, Unprocessable
from server.domain.policy_versions import BY_FILE
from server.pipeline.site_policies import Sites
from server.pipeline.site_versions import LONGEST_WHY, SiteVersions
from server.store import Store, open_store
from tests.server.commands.test_read_only import asked
from tests.server.launched import ROOT
from tests.server.web_client import SITE, BrightnessEnsemble, make_app
from tests.stand_ins import ManualClock

TEXT = """# The yard behind the shop.
site = "yard"

[cameras.gate.sectors.table]   # where people sit
polygon = [[0, 0], [0.5, 0], [0.5, 1], [0, 1]]
"""
CHANGED = applied(TEXT, {("cameras", "gate", "sectors", "table", "enlarge"): True})
OTHER = applied(TEXT, {("presence", "clear_s"): 5})


class Folder:
    """A folder of site policies with one file, and the versions of it in a store."""

    def __init__(self, folder: Path, store: Store) -> None:
        self.folder = folder
        self.file = folder / "yard.toml"
        self.store = store
        folder.mkdir()
        self.file.write_text(TEXT)
        self.sites = Sites(folder)
        self.versions = SiteVersions(self.sites, folder, store.policy_versions)

    def propose(self, text: str = CHANGED, why: str = "") -> int:
        return self.versions.propose("yard", text, "ann", why).number

    def standings(self) -> list[tuple[int, str]]:
        text = self.versions.file("yard").text
        return [(each.number, each.standing(text)) for each in self.versions.versions("yard")]

    def audit(self) -> list[tuple[str, str, str | None, str | None]]:
        return [(line.author, line.what, line.site, line.subject) for line in reversed(self.store.audit.page())]


@pytest.fixture
def url(new_sqlite: Callable[[], str]) -> str:
    return new_sqlite()


@pytest.fixture
def yard(tmp_path: Path, url: str, clock: ManualClock) -> Iterator[Folder]:
    with closing(open_store(url, clock)) as store:
        yield Folder(tmp_path / "sites", store)


def test_a_version_is_proposed_put_in_force_and_taken_back_on_each_database(
    tmp_path: Path, store: Store, clock: ManualClock
) -> None:
    yard = Folder(tmp_path / "sites", store)
    number = yard.propose(why=" the table  is far ")
    assert yard.file.read_text() == TEXT
    assert yard.versions.version(number).newest_step == (clock(), "ann")
    clock.advance(60)
    in_force = yard.versions.put_in_force(number, "bob")
    assert yard.file.read_text() == CHANGED
    assert "# where people sit" in CHANGED
    assert yard.sites.policy("yard").digest == in_force.digest
    assert (in_force.author, in_force.in_force_by, in_force.why) == ("ann", "bob", "the table is far")
    assert in_force.newest_step == (in_force.in_force_at_us, "bob") == (clock(), "bob")
    clock.advance(60)
    taken = yard.versions.take_back(number, "ann")
    assert (taken.newest_step, yard.file.read_text()) == ((clock(), "ann"), TEXT)
    assert yard.standings() == [(number, "taken back")]
    assert yard.audit() == [
        ("ann", "policy_proposed", "yard", str(number)),
        ("bob", "policy_put_in_force", "yard", str(number)),
        ("ann", "policy_taken_back", "yard", str(number)),
    ]


def test_versions_stand_newest_first_and_the_one_before_is_replaced(yard: Folder) -> None:
    yard.versions.put_in_force(yard.propose(), "ann")
    both = applied(CHANGED, {("presence", "clear_s"): 5})
    second = yard.propose(both)
    third = yard.propose(OTHER)
    yard.versions.put_in_force(second, "ann")
    assert yard.standings() == [(third, "proposed"), (second, "in force"), (1, "replaced")]
    yard.versions.take_back(second, "ann")
    assert yard.standings() == [(third, "proposed"), (second, "taken back"), (1, "in force")]


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


@pytest.mark.parametrize(
    ("step", "said"),
    [
        ("put twice", "in force already"),
        ("take a proposal", "only proposed"),
        ("take twice", "taken back already"),
        ("put what was taken back", "propose its text again"),
    ],
)
def test_a_step_out_of_order_is_refused_with_what_to_do(yard: Folder, step: str, said: str) -> None:
    number = yard.propose()
    if step != "take a proposal":
        yard.versions.put_in_force(number, "ann")
    if step in ("take twice", "put what was taken back"):
        yard.versions.take_back(number, "ann")
    last = yard.versions.put_in_force if step.startswith("put") else yard.versions.take_back
    with pytest.raises(Conflict, match=said):
        last(number, "ann")


def test_a_change_made_from_an_older_file_than_the_one_that_is_there_is_refused(yard: Folder) -> None:
    seen = yard.versions.file("yard").fingerprint
    yard.file.write_text(OTHER)
    with pytest.raises(Conflict, match=r"has changed since you began: load the page again"):
        yard.versions.propose("yard", CHANGED, "ann", seen=seen)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (TEXT, "nothing is changed"),
        (TEXT.replace("polygon", "polygone"), r"line 5.*did you mean `polygon`"),
        (TEXT.replace('"yard"', '"shop"'), "for site `shop`, not `yard`"),
        ("site = ", "not valid TOML"),
        (TEXT + "#" * (1 << 20), "larger than 1 MiB"),
    ],
)
def test_what_cannot_be_a_version_is_refused_with_its_fault(yard: Folder, text: str, said: str) -> None:
    with pytest.raises(Unprocessable, match=said):
        yard.propose(text)
    assert yard.standings() == []


def test_a_reason_has_a_bound(yard: Folder) -> None:
    with pytest.raises(Unprocessable, match="at most 500"):
        yard.propose(why="x" * (LONGEST_WHY + 1))


def test_an_unknown_number_names_the_command_that_lists_them(yard: Folder) -> None:
    with pytest.raises(Unknown, match="sectorwatch policy versions"):
        yard.versions.put_in_force(7, "ann")


def test_the_version_of_another_site_is_as_unknown_as_one_that_is_not_there(yard: Folder) -> None:
    number = yard.propose()
    assert yard.versions.version_of("yard", number).text == CHANGED
    for each in (number, number + 1):
        with pytest.raises(Unknown, match=f"^there is no version {each} of the policy of `shop`$"):
            yard.versions.version_of("shop", each)


def test_a_site_without_a_file_gets_one_and_it_cannot_be_taken_back(yard: Folder) -> None:
    version = yard.versions.propose("shed", 'site = "shed"\n', "ann")
    yard.versions.put_in_force(version.number, "ann")
    assert (yard.folder / "shed.toml").read_text() == 'site = "shed"\n'
    with pytest.raises(Conflict, match="had no file before version 1"):
        yard.versions.take_back(version.number, "ann")


def test_a_file_of_another_site_is_never_overwritten(yard: Folder) -> None:
    (yard.folder / "shed.toml").write_text('site = "garage"\n')
    with pytest.raises(Conflict, match="is no policy for `shed`"):
        yard.versions.propose("shed", 'site = "shed"\n', "ann")


def test_a_faulty_file_is_mended_by_a_version(yard: Folder) -> None:
    assert yard.sites.policy("yard")
    yard.file.write_text("site = 'yard'\nno\n")
    yard.versions.put_in_force(yard.propose(), "ann")
    assert yard.sites.faults() == {}


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


ANOTHER_USER = (4242, 4343) if os.geteuid() == 0 else (os.geteuid(), os.getegid())
"""The user and group of the file: only root can give one to another user."""


@pytest.fixture
def foreign(yard: Folder) -> Folder:
    """A yard whose file, readable for its group only, belongs to another user."""
    yard.file.chmod(0o640)
    os.chown(yard.file, *ANOTHER_USER)
    return yard


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


def test_of_two_versions_with_one_text_the_newer_is_in_force_and_the_older_stays_taken_back(yard: Folder) -> None:
    first = yard.propose()
    yard.versions.put_in_force(first, "ann")
    yard.versions.take_back(first, "ann")
    second = yard.propose()
    yard.versions.put_in_force(second, "ann")
    assert yard.standings() == [(second, "in force"), (first, "taken back")]


def test_a_proposal_that_was_copied_into_the_file_by_hand_is_in_force_already(yard: Folder) -> None:
    number = yard.propose()
    yard.file.write_text(CHANGED)
    with pytest.raises(Conflict, match="in force already"):
        yard.versions.put_in_force(number, "ann")
    kept = yard.store.policy_versions.version(number)
    assert kept.in_force_by == BY_FILE


def test_whoever_reads_the_versions_writes_nothing(yard: Folder, tmp_path: Path) -> None:
    number = yard.propose()
    yard.versions.put_in_force(number, "ann")
    (tmp_path / "other").mkdir()
    (tmp_path / "other/yard.toml").write_text(TEXT)
    there = SiteVersions(Sites(tmp_path / "other"), tmp_path / "other", yard.store.policy_versions)
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


def test_two_versions_put_in_force_at_once_are_one_in_force_and_one_refused(yard: Folder, url: str) -> None:
    numbers = [yard.propose(CHANGED), yard.propose(OTHER)]
    results: list[object] = []
    both = threading.Barrier(2)

    def put(number: int) -> None:
        with closing(open_store(url)) as store:  # as two processes would
            versions = SiteVersions(Sites(yard.folder), yard.folder, store.policy_versions)
            both.wait()
            try:
                results.append(versions.put_in_force(number, "ann").text)
            except SectorwatchError as error:
                results.append(type(error))

    threads = [threading.Thread(target=put, args=(number,)) for number in numbers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Conflict in results
    assert yard.file.read_text() in results
    assert sorted(standing for _, standing in yard.standings()) == ["in force", "proposed"]


_KILLED = """
import os, signal, sys
from pathlib import Path
from sqlalchemy import event
from server.pipeline.site_policies import Sites
from server.pipeline.site_versions import SiteVersions
from server.store import open_store
url, folder, step = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
store = open_store(url)
versions = SiteVersions(Sites(folder), folder, store.policy_versions)
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


def test_a_folder_that_cannot_be_written_is_refused_with_the_way_to_the_text(yard: Folder, url: str) -> None:
    number = yard.propose()
    yard.folder.chmod(0o500)
    ((code, said, _),) = asked(["policy", "put-in-force", "1", "--database", url, "--sites", str(yard.folder)])
    yard.folder.chmod(0o700)
    assert code == 78
    assert "yard.toml cannot be written (Permission denied), so nothing is changed" in said
    assert "`sectorwatch policy show 1` prints version 1" in said
    assert "deploy/README.md says, under `Versions of site policies`" in said
    to_do = (ROOT / "deploy/README.md").read_text().partition("**Versions of site policies.**")[2]
    assert "ReadWritePaths=/etc/sectorwatch/sites" in to_do
    assert "chown -R sectorwatch:sectorwatch /etc/sectorwatch/sites" in to_do
    assert yard.standings() == [(number, "proposed")]


def run(yard: Folder, url: str, *arguments: str) -> Result:
    options = ["--database", url, "--sites", str(yard.folder)]
    return CliRunner().invoke(command, ["policy", *arguments, *options])


def test_the_commands_go_the_whole_way(yard: Folder, url: str, tmp_path: Path) -> None:
    assert "No version of `yard` was proposed" in run(yard, url, "versions", "yard").output
    (tmp_path / "new.toml").write_text(CHANGED)
    proposed = run(yard, url, "propose", "yard", str(tmp_path / "new.toml"), "--why", "far away")
    assert "+enlarge = true" in proposed.output
    assert "sectorwatch policy put-in-force 1" in proposed.output
    assert run(yard, url, "show", "1").output == CHANGED
    assert "sectorwatch policy take-back 1" in run(yard, url, "put-in-force", "1").output
    assert yard.file.read_text() == CHANGED
    listed = run(yard, url, "versions", "yard").output.splitlines()
    assert listed[0].split() == ["NUMBER", "IS", "SINCE", "BY", "DIGEST", "WHY"]
    assert listed[1].startswith("1       in force  ")
    assert listed[1].endswith("far away")
    assert "as it was before version 1" in run(yard, url, "take-back", "1").output
    assert yard.file.read_text() == TEXT
    yard.file.write_text(OTHER)
    assert "somebody edited it by hand" in run(yard, url, "versions", "yard").output
    refused = run(yard, url, "put-in-force", "1")
    assert (refused.exit_code, "propose its text again" in refused.output) == (1, True)
