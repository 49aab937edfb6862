"""What the README says is so."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path
from typing import get_args

import msgspec
import pytest

from policies.events import Kind
from policies.sensitivity import Sensitivity
from policies.site.rules import Movement, Presence, Rules
from policies.site.site_policy import parse_site_policy
from server.__main__ import SUBCOMMANDS
from server.app import create_app
from server.catalogue import cards
from tests.documentation import README, with_settings

ROOT = README.parent
TEXT = README.read_text()
MODULES = sorted(p for package in ("policies", "server", "camera_agent") for p in (ROOT / package).rglob("*.py"))


def test_the_settings_table_is_the_one_the_code_gives():
    assert with_settings(TEXT) == TEXT


@pytest.mark.parametrize("kind", get_args(Kind))
def test_every_event_kind_is_explained(kind):
    assert re.search(rf"^\| .*`{kind}`", TEXT, re.M)


@pytest.mark.parametrize("name", [f.encode_name for f in msgspec.structs.fields(Rules)])
def test_every_part_of_a_site_policy_is_explained(name):
    assert re.search(rf"^\| `{name}", TEXT, re.M)


@pytest.mark.parametrize(
    "name",
    [
        f"{table}.{field}"
        for table, kind in (("presence", Presence), ("movement", Movement))
        for field in kind.__struct_fields__
    ],
)
def test_every_number_of_a_site_policy_is_listed_with_its_default(name):
    table, field = name.split(".")
    default = getattr(getattr(Rules().complete(), table), field)
    if isinstance(default, dict):
        default = default["*"]
    assert re.search(rf"^\| `{re.escape(name)}` \| {default:g}\b", TEXT, re.M)


@pytest.mark.parametrize("rule", get_args(msgspec.structs.fields(Sensitivity)[0].type))
def test_every_sensitivity_is_named(rule):
    assert f"`{rule}`" in TEXT


@pytest.mark.parametrize("command", SUBCOMMANDS)
def test_every_command_is_named(command):
    assert f"`{command}`" in TEXT or f"sectorwatch {command}" in TEXT


def test_every_endpoint_is_listed(tmp_path, monkeypatch):
    monkeypatch.setenv("SECTORWATCH_DATA_DIR", str(tmp_path))
    rules = {rule.rule for rule in create_app().url_map.iter_rules() if rule.endpoint != "static"}
    assert [rule for rule in sorted(rules) if f"`GET {rule}`" not in TEXT and f"`POST {rule}`" not in TEXT] == []


def test_every_model_of_the_catalogue_is_listed():
    assert [name for name in cards() if f"`{name}`" not in TEXT] == []


def test_every_local_link_leads_somewhere():
    links = re.findall(r"\]\(([^)#:]+)\)", TEXT)
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_every_toml_block_is_a_site_policy():
    for block in re.findall(r"```toml\n(.*?)```", TEXT, re.S):
        assert parse_site_policy(block).site


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_module_says_what_it_is(path):
    assert ast.get_docstring(ast.parse(path.read_text()))


def test_nothing_in_the_tree_speaks_of_one_machine_or_of_a_registrys_host():
    files = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    forbidden = re.compile(
        "/wor" + r"k/|/ro" + r"ot/|pypi\." + r"org|pythonhos" + r"ted|npm" + r"js\.|deb\.deb" + "ian"
    )
    assert [name for name in files if _text(ROOT / name) and forbidden.search(_text(ROOT / name))] == []


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except (UnicodeDecodeError, FileNotFoundError):
        return ""
