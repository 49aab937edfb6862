"""`sectorwatch policy`: the commands for versions of a site's policy."""

from __future__ import annotations

from pathlib import Path

from click.testing import CliRunner, Result

from server.__main__ import command
from tests.server.commands.test_read_only import asked
from tests.server.launched import ROOT
from tests.server.pipeline.versions.folder import CHANGED, OTHER, TEXT, Folder


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
