"""The documents describe what is there: links, settings, commands, versions, event kinds and policy keys."""

from __future__ import annotations

import ast
import re
import statistics
import subprocess
import tomllib
from pathlib import Path
from typing import get_args

import msgspec
import pytest

from policies.events import Kind
from policies.sensitivity import Sensitivity
from policies.site.rules import Movement, Presence, Rules
from server.__main__ import SUBCOMMANDS
from tests.documentation import README, ROOT, SETTINGS, documents, sentences, with_settings

POLICIES = ROOT / "policies/README.md"
SERVER = ROOT / "server/README.md"
MODULES = sorted(p for package in ("policies", "server", "camera_agent") for p in (ROOT / package).rglob("*.py"))


def text(document: Path) -> str:
    return document.read_text(encoding="utf-8")


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def links(document: Path) -> list[tuple[str, str]]:
    """The document's links to files and headings of ours: the path, and the heading or nothing."""
    targets = re.findall(r"\]\(([^)\s]+)\)", text(document))
    return [(path, heading) for path, _, heading in (t.partition("#") for t in targets) if ":" not in path]


def anchors(document: Path) -> set[str]:
    """The names by which a link can name the document's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", text(document), re.M)
    return {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", documents(), ids=relative)
def test_every_relative_link_leads_to_a_file_and_to_a_heading_of_it(document: Path) -> None:
    for path, heading in links(document):
        target = document.parent / path if path else document
        assert target.exists(), path
        assert not heading or heading in anchors(target), f"{path}#{heading}"


def test_the_first_readme_links_to_every_other() -> None:
    linked = {(ROOT / path).resolve() for path, _ in links(README) if path}
    assert [relative(d) for d in documents() if d.name == "README.md" and d not in {README, *linked}] == []


def test_the_readme_says_what_to_open_for_each_of_seven_additions() -> None:
    section = text(README).partition("## To add something")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (?:a|an|another) ([^|]+?) \| \[`[^`]+`\]\(([^)]+)\)", section, re.M)
    assert {what for what, _ in rows} == {
        *("camera kind", "event kind", "endpoint", "model", "channel", "database", "sensitivity rule")
    }
    assert [path for _, path in rows if not (ROOT / path).exists()] == []


def test_the_readme_has_at_most_150_lines() -> None:
    assert len(text(README).splitlines()) <= 150


def test_the_sentences_of_the_readme_are_short() -> None:
    words = sentences(text(README))
    assert len(words) > 40
    assert statistics.median(words) <= 15
    assert sum(count < 26 for count in words) / len(words) >= 0.9


def test_the_newest_version_of_the_changelog_is_that_of_the_package() -> None:
    project = tomllib.loads(text(ROOT / "pyproject.toml"))["project"]
    assert re.findall(r"^## (\S+) - ", text(ROOT / "CHANGELOG.md"), re.M)[0] == project["version"]


def test_the_settings_table_is_the_one_the_code_gives() -> None:
    assert with_settings(text(SETTINGS)) == text(SETTINGS)


@pytest.mark.parametrize("kind", get_args(Kind))
def test_every_event_kind_is_explained(kind: str) -> None:
    assert re.search(rf"^\| .*`{kind}`", text(SERVER), re.M)


@pytest.mark.parametrize("name", [f.encode_name for f in msgspec.structs.fields(Rules)])
def test_every_part_of_a_site_policy_is_explained(name: str) -> None:
    assert re.search(rf"^\| `\[*{name}", text(POLICIES), re.M)


@pytest.mark.parametrize(
    ("table", "field"),
    [
        (table, field.name)
        for table, kind in (("presence", Presence), ("movement", Movement))
        for field in msgspec.structs.fields(kind)
    ],
)
def test_every_number_of_a_site_policy_is_listed_with_its_default(table: str, field: str) -> None:
    default = getattr(getattr(Rules().complete(), table), field)
    if isinstance(default, dict):
        default = default["*"]
    assert re.search(rf"^\| `{table}\.{field}`.* \| {default:g}\b", text(POLICIES), re.M)


@pytest.mark.parametrize("rule", get_args(msgspec.structs.fields(Sensitivity)[0].type))
def test_every_sensitivity_is_named(rule: str) -> None:
    assert f"`{rule}`" in text(POLICIES)


@pytest.mark.parametrize("command", SUBCOMMANDS)
def test_every_command_is_named(command: str) -> None:
    everything = "".join(map(text, documents()))
    assert f"`{command}`" in everything or f"sectorwatch {command}" in everything


@pytest.mark.parametrize("path", MODULES, ids=relative)
def test_every_module_says_what_it_is(path: Path) -> None:
    assert ast.get_docstring(ast.parse(text(path)))


def test_nothing_in_the_tree_names_one_machine_or_the_host_of_a_registry() -> None:
    files = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    forbidden = re.compile(
        "/wor" + r"k/|/ro" + r"ot/|pypi\." + r"org|pythonhos" + r"ted|npm" + r"js\.|deb\.deb" + "ian"
    )
    assert [name for name in files if forbidden.search(_readable(ROOT / name))] == []


def _readable(path: Path) -> str:
    """The file's text; of a file that is none, nothing."""
    try:
        return text(path)
    except (UnicodeDecodeError, FileNotFoundError):
        return ""
