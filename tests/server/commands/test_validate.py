"""`sectorwatch validate` tells what kind of file it is given, and each fault with its line."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from server.__main__ import command
from server.commands.validate import kind_of
from tests.documentation import ROOT

pytestmark = pytest.mark.usefixtures("own_folder")

AGENT = 'site = "yard"\n[server]\nurl = "http://server.example"\n[[cameras]]\nname = "gate"\ndevice = 0\n'


def validate(tmp_path: Path, text: str | bytes, name: str = "yard.toml") -> Result:
    file = tmp_path / name
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    return CliRunner().invoke(command, ["validate", str(file)])


def test_every_mistake_of_a_site_policy_is_a_line_with_file_and_line(tmp_path: Path) -> None:
    polygon = "polygon = [[0, 0], [640, 0], [640, 360]]"
    result = validate(tmp_path, f'site = "yard"\ntragets = []\n[cameras.gate.sectors.road]\n{polygon}\n')
    assert result.exit_code == 78
    assert result.stderr.splitlines() == [
        f"{tmp_path}/yard.toml, line 2: tragets: unknown key; did you mean `targets`?",
        f"{tmp_path}/yard.toml, line 4: cameras.gate.sectors.road.polygon: [640, 0] looks like pixels: "
        "divide x by the picture's width and y by its height",
    ]
    assert result.stdout == ""


def test_a_site_policy_that_is_usable_and_probably_not_meant_gets_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECTORWATCH_MODELS", "hog-people")
    result = validate(tmp_path, 'site = "yard"\ntargets = ["vehicle"]\n', "yard.toml.txt")
    assert result.exit_code == 0
    assert result.stderr.splitlines() == [
        f"Warning: {tmp_path}/yard.toml.txt: a server passes over a file of this name: its name does not end in .toml",
        f"Warning: {tmp_path}/yard.toml.txt: every camera/view: `vehicle` is never decided: "
        "no model that votes can see it",
    ]
    assert "is valid: the policy of site `yard`; every camera is judged on its whole view" in result.stdout


LINE = 'site = "yard"\n[cameras.gate.lines.road]\na = {a}\nb = {b}\n'


@pytest.mark.parametrize(
    ("a", "b", "words"),
    [
        ([0.5, 0.1], [0.5, 0.9], "the left of the picture"),
        ([0.5, 0.9], [0.5, 0.1], "the right of the picture"),
        ([0.1, 0.5], [0.9, 0.5], "below the line"),
        ([0.9, 0.5], [0.1, 0.5], "above the line"),
        ([0.1, 0.1], [0.9, 0.9], "the lower left of the picture"),
        ([0.9, 0.1], [0.1, 0.9], "the upper left of the picture"),
    ],
)
def test_the_side_of_the_picture_from_which_the_first_way_over_a_line_comes_is_said(
    tmp_path: Path, a: list[float], b: list[float], words: str
) -> None:
    text = LINE.format(a=a, b=b) + 'directions = ["in", "out"]\n'
    result = validate(tmp_path, text)
    assert f"`road` (`in` comes from {words})" in result.stdout
    assert "directions" not in result.stderr
    named = validate(tmp_path, LINE.format(a=a, b=b))
    assert ("swap `a` and `b`" in named.stderr) == ("left" not in words)


def test_ways_whose_names_say_the_other_side_get_a_warning_that_says_which_is_which(tmp_path: Path) -> None:
    text = LINE.format(a=[0.1, 0.5], b=[0.9, 0.5]) + 'directions = ["top_to_bottom", "out"]\n'
    assert "cameras.gate.lines.road.directions: `top_to_bottom` comes from below the line: swap" in (
        validate(tmp_path, text).stderr
    )


def test_a_server_s_settings_and_a_card_are_told_apart_though_a_key_is_misspelt(tmp_path: Path) -> None:
    settings = validate(tmp_path, 'hots = "0.0.0.0"\nprot = 80\n', "server.toml")
    assert settings.exit_code == 78
    assert [line.partition(": ")[2] for line in settings.stderr.splitlines()] == [
        "unknown setting `hots`; did you mean `host`?",
        "unknown setting `prot`; did you mean `port`?",
    ]
    assert "the settings of a server" in validate(tmp_path, "port = 80\n", "server.toml").stdout
    card = validate(tmp_path, 'name = "a"\nkind = "classifier"\nclases = []\nclasses = ["a"]\n', "card.toml")
    assert (card.exit_code, "clases" in card.stderr) == (78, True)


def test_an_agent_s_settings_are_checked_by_the_agent(tmp_path: Path) -> None:
    right = validate(tmp_path, AGENT, "agent.toml")
    assert right.exit_code == 0, right.output
    assert "the settings of an agent\n  site yard -> http://server.example" in right.stdout
    wrong = validate(tmp_path, AGENT.replace("device", "devise"), "agent.toml")
    assert wrong.exit_code == 78
    assert "unknown key; did you mean `device`?" in wrong.stderr
    assert "Traceback" not in wrong.stderr


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("site = \n", "yard.toml: not valid TOML: Invalid value (at line 1"),
        (b"s\x00i\x00", "yard.toml: line 1 has a NUL character"),
        ('# caf\xe9\nsite = "yard"'.encode("latin-1"), "yard.toml: line 1 has the byte 0xe9, which is wrong in UTF-8"),
        ("", 'yard.toml: site: missing or malformed; write for example site = "north-yard"'),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path: Path, text: str | bytes, complaint: str) -> None:
    result = validate(tmp_path, text)
    assert (result.exit_code, complaint in result.stderr) == (78, True), result.stderr


def test_all_files_are_checked_and_a_missing_one_is_named(tmp_path: Path) -> None:
    (tmp_path / "yard.toml").write_text('site = "yard"')
    result = CliRunner().invoke(command, ["validate", str(tmp_path / "nowhere.toml"), str(tmp_path / "yard.toml")])
    assert result.exit_code == 78
    assert result.stderr == f"{tmp_path}/nowhere.toml: No such file or directory\n"
    assert "yard.toml is valid" in result.stdout


@pytest.mark.parametrize(
    ("file", "kind"),
    [("sites/pets.toml", "site"), ("server.example.toml", "server"), ("agent.example.toml", "agent")],
)
def test_the_examples_are_told_apart(file: str, kind: str) -> None:
    assert kind_of((ROOT / "deploy" / file).read_text(encoding="utf-8")) == kind


@pytest.mark.parametrize("card", sorted((ROOT / "server/catalogue/cards").glob("*.toml")), ids=lambda card: card.stem)
def test_the_shipped_cards_are_cards(card: Path) -> None:
    assert kind_of(card.read_text(encoding="utf-8")) == "card"


def test_what_is_enlarged_is_said_with_its_cost_and_what_is_not_gets_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECTORWATCH_MODELS", "ssdlite-people")
    far = "coordinates = '0.4,0.25,0.65,0.25,0.65,0.35,0.4,0.35'\nenlarge = true\n"
    text = f'site = "yard"\n[cameras.gate.sectors.far]\n{far}[cameras.gate.sectors.road]\n{far}targets = ["vehicle"]\n'
    wide = "[cameras.gate.sectors.wide]\ncoordinates = '0,0.3,1,0.3,1,0.4,0,0.4'\nenlarge = true\n"
    result = validate(tmp_path, text + wide)
    assert "; detectors see 2 images of each frame, with `far` 3.3 times as large" in result.stdout
    assert [line.partition("yard.toml: ")[2] for line in result.stderr.splitlines()] == [
        "cameras.gate.sectors.wide.enlarge has no effect: the sector and its margin are nearly the whole frame; "
        "draw a smaller one",
        "gate/road: `vehicle` is never decided: no model that votes can see it",
        "gate/road: `enlarge` has no effect: no detector that votes knows what the sector asks for",
    ]
