"""Every example in a document is one that the product reads: TOML by its readers, commands by their parsers."""

from __future__ import annotations

import json
import re
import shutil
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import certifi
import click
import pytest
from flask import Flask

import camera_agent.__main__ as agent
from camera_agent.config.load import load_settings as load_agent
from policies.site.site_policy import parse_site_policy
from server.__main__ import command as sectorwatch
from server.catalogue import parse_card
from server.settings import described
from server.settings import load_settings as load_server
from tests.documentation import Block, blocks, commands, documents
from tests.server.web_client import make_app

LANGUAGES = {"", "toml", "console", "json", "nginx", "caddyfile", "python", "sql", "text"}
SERVER_KEYS = {setting.name for setting in described()}
AGENT = {
    "site": 'site = "north-yard"\n',
    "server": '\n[server]\nurl = "https://server.example"\n',
    "cameras": '\n[[cameras]]\nname = "gate"\ndevice = 0\n',
}
"""What a fragment of an agent's settings is completed with."""


TOML = [pytest.param(block, id=block.place) for block in blocks() if block.language == "toml"]


def test_every_code_block_is_in_a_language_that_is_checked_or_listed_here() -> None:
    assert [block.place for block in blocks() if block.language not in LANGUAGES] == []


def test_every_fence_is_closed() -> None:
    assert [d.name for d in documents() if len(re.findall(r"^ *```", d.read_text(), re.M)) % 2] == []


# TOML


def server(block: str, folder: Path) -> None:
    file = folder / "server.toml"
    file.write_text(block)
    load_server(file)


def site(block: str, _folder: Path) -> None:
    parse_site_policy(block if "site" in tomllib.loads(block) else f'site = "north-yard"\n{block}')


CARD = (
    'name = "mine"\nsummary = "s"\nkind = "detector"\nfactory = "net:build"\nclasses = ["a"]\nlicence = "l"\n'
    'citation = "c"\n[input]\ncolour = "rgb"\nfit = "stretch"\nsize = [8, 8]\n'
)


def card(block: str, folder: Path) -> None:
    parse_card(block if "kind" in tomllib.loads(block) else CARD + block, folder / "card.toml")


def agent_settings(block: str, folder: Path) -> None:
    keys = tomllib.loads(block)
    before = "" if "site" in keys else AGENT["site"]
    after = "".join(AGENT[key] for key in ("server", "cameras") if key not in keys)
    file = folder / "agent.toml"
    file.write_text(before + block + after)
    for name in re.findall(r'^\s*(?:token_file|video) = "([^"/]+)"', block, re.M):
        (folder / name).write_text("a-token")
    for name in re.findall(r'^\s*ca_file = "([^"/]+)"', block, re.M):
        shutil.copy(certifi.where(), folder / name)
    for name in re.findall(r'^\s*folder = "([^"/]+)"', block, re.M):
        (folder / name).mkdir()
    load_agent(file)


READERS: dict[str, Callable[[str, Path], None]] = {
    "server": server,
    "site": site,
    "card": card,
    "agent": agent_settings,
}


def kind_of(block: Block) -> str:
    """What a TOML block is an example of: the word after `toml`, else what its keys show; else the empty text."""
    if len(block.info) > 1:
        return block.info[1]
    keys = tomllib.loads(block.text)
    if isinstance(keys.get("cameras"), list) or "server" in keys or "spool" in keys:
        return "agent"
    if ("kind" in keys and "classes" in keys) or "calibration" in keys:
        return "card"
    if keys and keys.keys() <= SERVER_KEYS:
        return "server"
    return "site" if keys else ""


@pytest.mark.parametrize("block", TOML)
def test_every_toml_block_is_read_by_the_reader_of_its_kind(block: Block, tmp_path: Path) -> None:
    READERS[kind_of(block)](block.text, tmp_path)


@pytest.mark.parametrize(
    ("info", "wrong"),
    [
        (("toml",), "hots = '127.0.0.1'\n"),
        (("toml",), "[movement]\ndwel_s = 1\n"),
        (("toml",), '[[cameras]]\nname = "gate"\ndevise = 0\n'),
        (("toml",), 'kind = "classifier"\nclasses = ["a"]\n'),
        (("toml", "server"), 'site = "north-yard"\n'),
    ],
)
def test_a_wrong_key_in_a_toml_block_is_noticed(info: tuple[str, ...], wrong: str, tmp_path: Path) -> None:
    block = Block(tmp_path / "README.md", 1, info, wrong)
    with pytest.raises(Exception, match=r"hots|dwel_s|devise|missing|site"):
        READERS[kind_of(block)](block.text, tmp_path)


# JSON


def test_every_json_block_is_json() -> None:
    for block in blocks():
        if block.language == "json":
            json.loads(block.text)


# Commands


def program(words: list[str]) -> list[str]:
    """The command and its arguments, without `sudo`, its options, and settings of the environment."""
    while words and (words[0] in ("sudo", "env", "-u") or re.match(r"\w+=", words[0])):
        words = words[2 if words[0] == "-u" else 1 :]
    return words


def ours() -> Iterator[object]:
    """The calls of our two commands in console blocks, wherever they are installed: command, arguments."""
    for block in blocks():
        for words in commands(block) if block.language == "console" else ():
            path, *arguments = program(words)
            name = Path(path).name
            if name in ("sectorwatch", "camera-agent"):
                yield pytest.param(name, arguments, id=f"{block.place} {name} {' '.join(arguments[:2])}")


def parse(command: click.Command, name: str, arguments: list[str], parent: click.Context | None = None) -> None:
    """Parses as click would, down to the last subcommand, and runs nothing; files need not exist."""
    try:
        context = command.make_context(name, list(arguments), parent=parent)
    except click.exceptions.Exit:  # --help, --version
        return
    if isinstance(command, click.Group):
        rest = [*context._protected_args, *context.args]
        name, subcommand, rest = command.resolve_command(context, rest)
        assert name is not None
        assert subcommand is not None
        parse(subcommand, name, rest, context)


@pytest.fixture
def any_file_exists(monkeypatch: pytest.MonkeyPatch) -> None:
    """The files that examples name are not here, and whether they exist is not what is tested."""
    monkeypatch.setattr(click.Path, "convert", lambda _self, value, _parameter, _context: value)


CONSOLE = list(ours())


@pytest.mark.usefixtures("any_file_exists")
@pytest.mark.parametrize(("name", "arguments"), CONSOLE)
def test_every_command_in_a_console_block_is_parsed_by_the_real_one(name: str, arguments: list[str]) -> None:
    if name == "sectorwatch":
        parse(sectorwatch, name, arguments)
    else:
        agent.make_parser().parse_args(arguments)


def test_there_are_commands_to_parse() -> None:
    assert len(CONSOLE) > 10


@pytest.mark.parametrize("wrong", [["event"], ["events", "--folow"], ["models", "pul"], ["serve", "--port", "http"]])
def test_a_command_that_does_not_exist_is_noticed(wrong: list[str]) -> None:
    with pytest.raises(click.UsageError):
        parse(sectorwatch, "sectorwatch", wrong)


@pytest.fixture
def app(tmp_path: Path) -> Flask:
    return make_app(tmp_path)


def test_every_path_that_an_example_asks_with_curl_is_an_endpoint(app: Flask) -> None:
    endpoints = app.url_map.bind("server.example")
    typed = [words for block in blocks() if block.language == "console" for words in commands(block)]
    urls = [word for words in typed if "curl" in words for word in words if word.startswith("http")]
    assert [url for url in urls if not endpoints.allowed_methods(urlsplit(url).path)] == []


def test_every_metric_that_a_document_names_is_counted(app: Flask) -> None:
    server = app.test_client().get("/metrics").text
    agent_source = "".join(path.read_text() for path in Path(agent.__file__).parent.rglob("*.py"))
    named = {
        name for document in documents() for name in re.findall(r"\bsectorwatch_[a-z_]+[a-z]", document.read_text())
    }
    unknown = {name for name in named if f"# HELP {name} " not in server}
    assert named
    assert [name for name in unknown if name.removeprefix("sectorwatch_agent_") not in agent_source] == []
