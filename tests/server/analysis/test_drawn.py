"""What was drawn is in the policy, and the rest of its text is as before, comment by comment."""

from __future__ import annotations

import json
import tomllib

import pytest

from policies.site.site_policy import parse_site_policy
from server.analysis.drawn import Drawn, DrawnLine, drawn_into, read_drawn
from server.analysis.renames import Rename, renames

TEXT = """# The yard behind the shop.
site = "yard"          # as the agent says

[cameras.gate]
# the camera over the door
targets = ["person"]

[cameras.gate.sectors.table]   # where people sit
polygon = [[0, 0], [0.5, 0], [0.5, 1], [0, 1]]   # all of the left
presence = { clear_s = 6 }     # they lean back

[cameras.gate.sectors.road]
polygon = [
  [0.5, 0.5],  # by the tree
  [1, 0.5],
  [1, 1],      # by the gate
]

[cameras.gate.lines.fence]
a = [0.3, 0.5]
b = [0.3, 0.8]   # ends at the post
directions = ["in", "out"]

[[cameras.gate.suppress]]
name = "lamp"    # at night
box = [0.4, 0.2, 0.44, 0.35]
max_score = 0.6

# nothing else
[[schedule]]
name = "closed"
between = ["22:00", "06:00"]
min_score = { "*" = 0.3 }
"""
SQUARE = ((0.1, 0.1), (0.4, 0.1), (0.4, 0.4), (0.1, 0.4))


def changed_lines(after: str) -> list[str]:
    return [line for line in after.splitlines() if line not in TEXT.splitlines()]


def comments(text: str) -> list[str]:
    return [line.partition("#")[2] for line in text.splitlines() if "#" in line]


def test_a_moved_corner_changes_one_line() -> None:
    after = drawn_into(TEXT, "gate", Drawn(sectors={"table": SQUARE}))
    assert changed_lines(after) == ["polygon = [[0.1, 0.1], [0.4, 0.1], [0.4, 0.4], [0.1, 0.4]]   # all of the left"]
    assert comments(after) == comments(TEXT)
    assert parse_site_policy(after).camera("gate").by_name["table"].polygon == SQUARE


def test_a_corner_moved_among_lines_with_comments_keeps_them() -> None:
    after = drawn_into(TEXT, "gate", Drawn(sectors={"road": ((0.51, 0.5), (1, 0.5), (1, 1))}))
    assert changed_lines(after) == ["  [0.51, 0.5],  # by the tree"]


@pytest.mark.parametrize(
    "corners",
    [
        ((0.5, 0.5), (1, 0.5), (1, 1), (0.5, 1)),
        ((0.5, 0.5), (0.7, 0.4), (1, 0.5), (1, 1)),
        ((0.4, 0.5), (0.5, 0.5), (1, 0.5), (1, 1), (0.6, 1)),
        ((0.1, 0.1), (0.2, 0.1), (0.3, 0.4), (0.1, 0.4), (0, 0.2)),
    ],
    ids=["at the end", "within", "around", "all moved"],
)
def test_a_new_corner_among_lines_with_comments_keeps_them(corners: tuple[tuple[float, float], ...]) -> None:
    after = drawn_into(TEXT, "gate", Drawn(sectors={"road": corners}))
    assert comments(after) == comments(TEXT)
    assert parse_site_policy(after).camera("gate").by_name["road"].polygon == corners


def test_a_corner_that_stays_keeps_its_comment_where_others_are_added_around_it() -> None:
    corners = ((0.4, 0.5), (0.5, 0.5), (1, 0.5), (1, 1), (0.6, 1))
    after = drawn_into(TEXT, "gate", Drawn(sectors={"road": corners})).splitlines()
    assert "  [0.5, 0.5],  # by the tree" in after
    assert "  [1, 1],      # by the gate" in after


def test_a_corner_that_goes_takes_no_comment_of_another_one() -> None:
    more = TEXT.replace("  [1, 0.5],\n", "  [0.7, 0.4],\n  [1, 0.5],  # a bend\n")
    after = drawn_into(more, "gate", Drawn(sectors={"road": ((0.5, 0.5), (1, 0.5), (1, 1))}))
    for line in ("  [0.5, 0.5],  # by the tree", "  [1, 0.5],  # a bend", "  [1, 1],      # by the gate"):
        assert line in after.splitlines()
    assert parse_site_policy(after).camera("gate").by_name["road"].polygon == ((0.5, 0.5), (1, 0.5), (1, 1))


def test_a_comment_directly_above_the_next_header_stays_when_a_sector_is_removed() -> None:
    text = TEXT.replace("\n[cameras.gate.sectors.road]", "# the road, since May\n# twice\n[cameras.gate.sectors.road]")
    after = drawn_into(text, "gate", Drawn(sectors={"table": None}))
    assert "# the road, since May\n# twice\n[cameras.gate.sectors.road]" in after
    assert "table" not in after


def test_a_new_sector_line_and_ignored_area_stand_at_the_end() -> None:
    drawn = Drawn(
        sectors={"door": SQUARE},
        lines={"step": DrawnLine((0.6, 0.4), (0.6, 1), ("in", 'o"ut'))},
        ignored={"a bush": (0.1, 0.2, 0.3, 0.40001)},
    )
    after = drawn_into(TEXT, "gate", drawn)
    assert after.startswith(TEXT.rstrip())
    camera = parse_site_policy(after).camera("gate")
    assert [sector.name for sector in camera.sectors] == ["table", "road", "door"]
    assert [line.directions for line in camera.lines] == [("in", "out"), ("in", 'o"ut')]
    assert [each.name for each in camera.suppressions] == ["lamp", "a bush"]


def test_a_line_and_an_ignored_area_are_moved_in_their_places() -> None:
    drawn = Drawn(
        lines={"fence": DrawnLine((0.3, 0.5), (0.35, 0.8), ("in", "out"))}, ignored={"lamp": (0.4, 0.2, 0.5, 0.35)}
    )
    after = drawn_into(TEXT, "gate", drawn)
    assert changed_lines(after) == ["b = [0.35, 0.8]   # ends at the post", "box = [0.4, 0.2, 0.5, 0.35]"]


def test_what_is_removed_is_gone_and_the_rest_stays() -> None:
    after = drawn_into(TEXT, "gate", Drawn(sectors={"table": None}, lines={"fence": None}, ignored={"lamp": None}))
    camera = parse_site_policy(after).camera("gate")
    assert [sector.name for sector in camera.sectors] == ["road"]
    assert (camera.lines, camera.suppressions) == ((), ())
    for comment in ("# the camera over the door", "# by the tree", "# nothing else", "# as the agent says"):
        assert comment in after


@pytest.mark.parametrize(
    "text",
    [
        'site = "yard"\n',
        'site = "yard"\n[cameras.gate]\nsectors = { table = { polygon = [[0, 0], [1, 0], [1, 1]] } }  # short\n',
        'site = "yard"\n[cameras]\ngate = { sectors = { table = { polygon = [[0, 0], [1, 0], [1, 1]] } } }\n',
        'site = "yard"\ncameras.gate.sectors.table.polygon = [[0, 0], [1, 0], [1, 1]]\n',
        'site = "yard"\n[cameras.shed.sectors.x]\npolygon = [[0, 0], [1, 0], [1, 1]]\n',
    ],
)
def test_a_new_sector_goes_into_every_form_of_the_file(text: str) -> None:
    after = drawn_into(text, "gate", Drawn(sectors={"door": SQUARE}))
    assert parse_site_policy(after).camera("gate").by_name["door"].polygon == SQUARE
    before = parse_site_policy(text)
    assert [name for name in before.cameras if name not in parse_site_policy(after).cameras] == []


def test_coordinates_in_the_form_of_frigate_stay_in_it() -> None:
    text = 'site = "yard"\n[cameras.gate.sectors.table]\ncoordinates = "0,0,1,0,1,1"  # of Frigate\n'
    after = drawn_into(text, "gate", Drawn(sectors={"table": SQUARE}))
    assert '"0.1,0.1,0.4,0.1,0.4,0.4,0.1,0.4"  # of Frigate' in after
    assert parse_site_policy(after).camera("gate").by_name["table"].polygon == SQUARE


def test_nothing_drawn_changes_nothing() -> None:
    as_it_is = Drawn(sectors={"table": ((0, 0), (0.5, 0), (0.5, 1), (0, 1))})
    assert drawn_into(TEXT, "gate", Drawn()) == TEXT
    assert drawn_into(TEXT, "gate", as_it_is) == TEXT
    assert tomllib.loads(TEXT)


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        ("{", "cannot be read"),
        ('{"sectors": {"a b": [[0, 0]]}}', "`a b`: a name is lower-case"),
        ('{"sectors": {"a]\\n[b": [[0, 0]]}}', "a name is lower-case"),
        ('{"shapes": {}}', "cannot be read"),
    ],
)
def test_what_is_no_drawing_is_refused_in_words(sent: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        read_drawn(sent)


def test_a_name_of_an_ignored_area_is_a_text_whatever_it_holds() -> None:
    sent = json.dumps({"ignored": {'x"\n[[a]]': [0, 0, 0.1, 0.1]}})
    after = drawn_into(TEXT, "gate", read_drawn(sent))
    assert parse_site_policy(after).camera("gate").suppressions[-1].name == 'x"\n[[a]]'


def test_a_renamed_sector_changes_its_header_and_no_other_line() -> None:
    after = drawn_into(TEXT, "gate", read_drawn('{"renamed": {"table": "patio"}}'))
    assert changed_lines(after) == ["[cameras.gate.sectors.patio]   # where people sit"]
    assert comments(after) == comments(TEXT)


def test_a_sector_is_renamed_and_moved_at_once_and_two_swap_their_names() -> None:
    moved = Drawn(sectors={"patio": SQUARE}, renamed={"table": "patio"})
    assert parse_site_policy(drawn_into(TEXT, "gate", moved)).camera("gate").by_name["patio"].polygon == SQUARE
    swapped = drawn_into(TEXT, "gate", Drawn(renamed={"table": "road", "road": "table"}))
    before, after = (parse_site_policy(text).camera("gate").by_name for text in (TEXT, swapped))
    assert (after["road"].polygon, after["table"].polygon) == (before["table"].polygon, before["road"].polygon)


def test_a_sector_that_stands_within_a_line_is_renamed_too() -> None:
    text = 'site = "yard"\n[cameras.gate]\nsectors = { a = { polygon = [[0, 0], [1, 0], [1, 1]] } } # here\n'
    after = drawn_into(text, "gate", Drawn(renamed={"a": "b"}))
    assert [*parse_site_policy(after).camera("gate").by_name] == ["b"]
    assert "# here" in after


def test_a_sector_does_not_take_the_name_of_another() -> None:
    with pytest.raises(ValueError, match="there is a sector `road` already"):
        drawn_into(TEXT, "gate", Drawn(renamed={"table": "road"}))
    with pytest.raises(ValueError, match="a name is lower-case letters"):
        read_drawn('{"renamed": {"table": "The Road"}}')


def test_a_sector_with_another_name_alone_is_renamed_and_one_with_another_outline_is_not() -> None:
    renamed = drawn_into(TEXT, "gate", Drawn(renamed={"table": "patio"}))
    assert renames(TEXT, renamed) == (Rename("gate", "table", "patio"),)
    assert renames(TEXT, drawn_into(renamed, "gate", Drawn(sectors={"patio": SQUARE}))) == ()
    assert renames(TEXT, TEXT) == renames(TEXT, "site = ") == ()
