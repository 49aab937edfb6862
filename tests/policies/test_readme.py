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
from policies.site.sectors import Line
from policies.site.site_policy import InvalidPolicy, parse_site_policy
from policies.site.toml_schema import LineText, ScheduleText, SectorText, SuppressionText, TargetText
from tests.policies.stories import events_of, observation, person_at, policy

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
    "cameras.NAME.": ("looked_at",),
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


CORNERS = {"<": (-1, 0), ">": (1, 0), "^": (0, -1), "v": (0, 1)}


def drawn_lines() -> list[tuple[Line, tuple[int, int], str]]:
    """Each line of the drawing, the way that its arrow shows, and the words under it."""
    rows = re.findall(r"```text\n(.*?)```", section("Sectors and lines"), re.S)[0].splitlines()
    width, cells = 16, []
    for start in range(0, 4 * width, width):
        block = [row[start : start + width].ljust(width) for row in rows]
        at = {mark: (x / 16, y / 8) for y, row in enumerate(block[:-1]) for x, mark in enumerate(row) if mark != " "}
        arrow = next(mark for mark in at if mark in CORNERS)
        cells.append((Line("drawn", at["a"], at["b"], ("first", "second")), CORNERS[arrow], block[-1].strip()))
    return cells


@pytest.mark.parametrize(("line", "way", "words"), drawn_lines())
def test_the_drawing_of_a_line_shows_the_first_of_its_directions(line: Line, way: tuple[int, int], words: str):
    middle = tuple((a + b) / 2 for a, b in zip(line.a, line.b, strict=True))
    before, after = ((middle[0] + way[0] * part, middle[1] + way[1] * part) for part in (-0.05, 0.06))
    ends = f"a = {list(line.a)}\nb = {list(line.b)}\ndirections = {list(line.directions)}"
    rules = policy(f'site = "yard"\n[cameras.gate.lines.drawn]\n{ends}\n')
    frames = [observation(i, {"eye": [person_at(*(before if i < 4 else after))]}) for i in range(12)]
    assert [e.direction for e in events_of(rules, frames) if e.kind == "crossed"] == ["first"]
    assert words == f"from {'the ' if line.sides[0] in ('left', 'right') else ''}{line.sides[0]}"


def test_every_file_that_it_names_exists():
    files = set(re.findall(r"`([\w/]+\.py)`", TEXT)) | set(re.findall(r"\]\(([^)#:]+)\)", TEXT))
    assert [name for name in sorted(files) if not (README.parent / name).exists()] == []
    assert len(files) > 10


def test_it_is_short():
    assert len(TEXT.splitlines()) <= 250
