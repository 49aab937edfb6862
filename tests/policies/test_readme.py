"""What policies/README.md says is so."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import msgspec
import pytest

from policies.events import Event, Kind
from policies.sensitivity import RULES, Sensitivity
from policies.site.layers import NEW_NAMES
from policies.site.rules import Movement, OfTarget, Presence, Rules
from policies.site.schedule import Place
from policies.site.site_policy import InvalidPolicy, parse_site_policy
from policies.site.toml_schema import LineText, ScheduleText, SectorText, SuppressionText, TargetText

README = Path(__file__).parents[2] / "policies" / "README.md"
TEXT = README.read_text(encoding="utf-8")
TABLES = {
    "": (Place, "site", "targets", "min_score"),
    "sensitivity.": (Sensitivity,),
    "presence.": (Presence,),
    "movement.": (Movement,),
    "by_target.NAME.": (OfTarget,),
    "target.NAME.": (TargetText,),
    "schedule.": (ScheduleText,),
    "cameras.NAME.sectors.NAME.": (SectorText,),
    "cameras.NAME.lines.NAME.": (LineText,),
    "cameras.NAME.suppress.": (SuppressionText,),
}
KEYS = {
    prefix + key
    for prefix, parts in TABLES.items()
    for part in parts
    for key in ((part,) if isinstance(part, str) else part.__struct_fields__)
}


def section(title: str) -> str:
    return TEXT.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def table_of_keys() -> dict[str, str]:
    """Each key of the reference, with its default as it stands there."""
    rows = re.findall(r"^\| (`.+?`) \| (?:(.*?) )?\| .+ \|$", section("All keys"), re.M)
    return {key: default for keys, default in rows for key in re.findall(r"`([^`]+)`", keys)}


def test_the_table_holds_the_keys_that_the_reader_knows_and_no_others():
    assert set(table_of_keys()) == KEYS


def test_every_part_of_the_rules_is_a_table_or_a_key():
    assert {key.partition(".")[0] for key in KEYS} >= set(Rules.__struct_fields__)


@pytest.mark.parametrize("key", sorted(table_of_keys()))
def test_the_reader_knows_each_key_of_the_table(key):
    table, _, name = key.replace("by_target.NAME", "by_target.person").replace("NAME", "x").rpartition(".")
    header = {"schedule": "[[schedule]]", "cameras.x.suppress": "[[cameras.x.suppress]]"}.get(table, f"[{table}]")
    site = "" if name == "site" else 'site = "a"\n'
    with pytest.raises(InvalidPolicy) as error:
        parse_site_policy(f"{site}{header if table else ''}\n{name} = 1979-05-27")
    assert "unknown key" not in str(error.value)


@pytest.mark.parametrize("kind", [Presence, Movement])
def test_every_number_is_listed_with_its_default(kind):
    table, rules = table_of_keys(), Rules().complete()
    values = getattr(rules, kind.__name__.lower())
    for name in kind.__struct_fields__:
        default = getattr(values, name)
        default = default["*"] if isinstance(default, dict) else default
        assert table[f"{kind.__name__.lower()}.{name}"] == f"{default:g}"


def test_every_sensitivity_rule_is_named():
    rule = next(line for line in section("All keys").splitlines() if line.startswith("| `sensitivity.rule`"))
    assert all(f"`{name}`" in rule for name in RULES)


def test_each_old_name_of_a_key_is_named_where_the_new_one_is():
    for old, new in NEW_NAMES.items():
        assert re.search(rf"^\| `movement\.{new}` .*\(older files: `{old}`\) \|$", TEXT, re.M)


def test_every_event_kind_and_field_is_explained():
    events = section("Events")
    assert [kind for kind in get_args(Kind) if not re.search(rf"^\| .*`{kind}`", events, re.M)] == []
    fields = [field.encode_name for field in msgspec.structs.fields(Event)]
    assert [field for field in fields if not re.search(rf"^\| .*`{field}`", events, re.M)] == []


BLOCKS = re.findall(r"```toml\n(.*?)```", TEXT, re.S)


def test_there_are_examples():
    assert len(BLOCKS) >= 3


@pytest.mark.parametrize("block", BLOCKS)
def test_every_example_is_a_site_policy(block):
    assert parse_site_policy(block).site == "north-yard"


def test_every_file_that_it_names_exists():
    files = set(re.findall(r"`([\w/]+\.py)`", TEXT)) | set(re.findall(r"\]\(([^)#:]+)\)", TEXT))
    assert [name for name in sorted(files) if not (README.parent / name).exists()] == []
    assert len(files) > 10


def test_it_is_short():
    assert len(TEXT.splitlines()) <= 250
