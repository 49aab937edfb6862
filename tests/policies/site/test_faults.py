"""A site policy with several mistakes is told all of them, each with its line."""

from __future__ import annotations

import pytest

from policies.site.site_policy import InvalidPolicy, all_faults, parse_site_policy

SEVERAL = """
sit = "yard"
tragets = ["person"]
[presence]
clear_s = -1
[[schedule]]
name = "night"
between = ["22:00"]
[cameras.gate.sectors.road]
polygon = [[0, 0], [640, 0], [640, 360]]
[cameras.gate.lines.door]
a = [0.5, 360]
b = [0.5, 1]
"""


def test_all_mistakes_are_named_each_with_its_line() -> None:
    assert all_faults(SEVERAL) == (
        "line 2: sit: unknown key; did you mean `site`?",
        "line 3: tragets: unknown key; did you mean `targets`?",
        'site: missing or malformed; write for example site = "north-yard"',
        "line 5: presence.clear_s: expected `float` >= 0.0",
        "line 8: schedule.between: expected `array` of length 2, got 1",
        "line 10: cameras.gate.sectors.road.polygon: [640, 0] looks like pixels: "
        "divide x by the picture's width and y by its height",
        "line 12: cameras.gate.lines.door.a: [0.5, 360] looks like pixels: "
        "divide x by the picture's width and y by its height",
    )


@pytest.mark.parametrize(
    "text",
    [
        'site = "a"\n[cameras.gate.sectors.road]\ncoordinates = "0,0,640,0,640,360"',
        'site = "a"\n[[cameras.gate.suppress]]\nname = "web"\nbox = [10, 10, 20, 20]',
        'site = "a"\n[cameras.gate.lines.door]\na = [0, 0]\nb = [640, 360]',
    ],
)
def test_pixels_are_named_as_such_wherever_coordinates_stand(text: str) -> None:
    with pytest.raises(InvalidPolicy, match="looks like pixels: divide x by the picture's width"):
        parse_site_policy(text)


def test_a_policy_that_can_be_used_has_no_fault_and_no_toml_has_one() -> None:
    assert all_faults('site = "yard"') == ()
    [fault] = all_faults("site = ")
    assert fault.startswith("not valid TOML")


def test_what_follows_from_a_mistake_is_not_named_and_twenty_are_enough() -> None:
    assert len(all_faults('site = "a"\n[cameras.gate.sectors.road]\npolygon = [[0, 0], [1, 1]]')) == 1
    assert len(all_faults('site = "a"\n' + "".join(f"wrong_{i} = 1\n" for i in range(30)))) == 20
