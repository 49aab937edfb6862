"""What the README of the models shows can be used as it stands."""

from __future__ import annotations

import re
import shlex
import tomllib
from pathlib import Path
from typing import get_args

import click
import msgspec
import pytest
from torch import nn

import server.ensemble
from policies.site.site_policy import parse_site_policy
from server.__main__ import command
from server.catalogue import ModelCard, cards, parse_card
from server.catalogue.card import Format
from server.settings import load_settings

FOLDER = Path(server.ensemble.__file__).parent
TEXT = (FOLDER / "README.md").read_text()
TOML = re.findall(r"```toml\n(.*?)```", TEXT, re.S)
CARDS = [block for block in TOML if "\nkind = " in block]
SETTINGS = [block for block in TOML if block.startswith("# server.toml")]
POLICIES = [block for block in TOML if block.startswith("# sites/SITE.toml")]
PYTHON = re.findall(r"```python\n(.*?)```", TEXT, re.S)
COMMANDS = [
    line.removeprefix("$ ") for block in re.findall(r"```console\n(.*?)```", TEXT, re.S) for line in block.splitlines()
]


def card_of(block: str) -> ModelCard:
    return parse_card(block, Path("models") / tomllib.loads(block)["name"] / "card.toml")


def test_every_toml_block_is_a_card_or_settings_or_a_site_policy() -> None:
    assert len(CARDS) >= 4
    assert len(SETTINGS) >= 3
    assert len(POLICIES) >= 2
    assert len(TOML) == len(CARDS) + len(SETTINGS) + len(POLICIES)


@pytest.mark.parametrize("block", POLICIES)
def test_every_site_policy_names_models_of_the_catalogue(block: str) -> None:
    rules = parse_site_policy(block).camera("gate").rules
    assert rules.min_score.keys() - {"*"} <= cards().keys()


@pytest.mark.parametrize("block", CARDS)
def test_every_card_is_read_as_the_server_reads_it(block: str) -> None:
    assert card_of(block).classes


@pytest.mark.parametrize("name", get_args(Format))
def test_every_format_is_explained_and_has_an_example_or_a_sentence(name: str) -> None:
    assert re.search(rf"^\| `{name}` \|", TEXT, re.M)
    assert name in {card_of(block).format for block in CARDS} or f'`format = "{name}"`' in TEXT


@pytest.mark.parametrize("block", SETTINGS)
def test_every_settings_example_is_read_as_the_server_reads_it(block: str, tmp_path: Path) -> None:
    (tmp_path / "server.toml").write_text(block)
    (tmp_path / "models").mkdir()
    read = msgspec.structs.asdict(load_settings(tmp_path / "server.toml"))
    assert tomllib.loads(block).keys() <= read.keys()


def test_the_factory_makes_a_network_of_the_parameters_of_its_card() -> None:
    [source] = [block for block in PYTHON if "def build(" in block]
    [card] = [card_of(block) for block in CARDS if "net:build" in block]
    names: dict[str, object] = {}
    exec(source, names)
    build = names["build"]
    assert callable(build)
    assert isinstance(build(**card.parameters), nn.Module)


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_is_one_that_the_command_line_takes(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = shlex.split(line)
    assert words.pop(0) == "sectorwatch"
    for word in words:
        if word.endswith("/"):
            Path(word).mkdir(exist_ok=True)
        elif re.search(r"\.(pt|pth|txt|safetensors)$", word):
            Path(word).parent.mkdir(exist_ok=True)
            Path(word).touch()
    group: click.Command = command
    context = click.Context(command, info_name="sectorwatch")
    while isinstance(group, click.Group):
        name = words.pop(0)
        found = group.get_command(context, name)
        assert found is not None, name
        group, context = found, click.Context(found, parent=context, info_name=name)
    group.make_context(group.name, words, parent=context.parent)


def test_every_command_of_the_models_is_shown() -> None:
    models = command.get_command(click.Context(command), "models")
    assert isinstance(models, click.Group)
    assert [name for name in models.commands if f"sectorwatch models {name}" not in TEXT] == []


def test_every_shipped_model_and_every_module_is_listed() -> None:
    assert [name for name in cards() if f"`{name}`" not in TEXT] == []
    modules = sorted(path.name for path in FOLDER.glob("*.py") if path.name != "__init__.py")
    assert [name for name in modules if f"`{name}`" not in TEXT] == []


def test_every_link_leads_somewhere() -> None:
    headings = {
        re.sub(r"[^a-z0-9 -]", "", line.lower()).replace(" ", "-") for line in re.findall(r"^## (.*)", TEXT, re.M)
    }
    for target in re.findall(r"\]\(([^)]+)\)", TEXT):
        assert target[1:] in headings if target.startswith("#") else (FOLDER / target).exists(), target
