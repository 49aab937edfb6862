"""Where things come from and go to, and who stands on a border."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence

import pytest

from policies.geometry import to_edge
from policies.observation import Box, Prediction
from tests.policies.stories import events_of, lines, observation, person_at, policy

WHOLE = 'site = "yard"\n'
SHORT_OF_EDGE = "[cameras.gate.sectors.floor]\npolygon = [[0, 0.5], [1, 0.5], [1, 0.97], [0, 0.97]]\n"


def went(boxes: Sequence[Box], before: int = 3, after: int = 5) -> list[str | None]:
    """The directions of `entered` and `left` of somebody seen in these boxes, a second apart."""
    seen: list[list[Prediction]] = [[] for _ in range(before)]
    seen += [[Prediction("person", 0.9, box)] for box in boxes] + [[] for _ in range(after)]
    events = events_of(policy(WHOLE), [observation(i, {"eye": each}) for i, each in enumerate(seen)])
    return [e.direction for e in events if e.kind in ("entered", "left")]


WAYS = [
    ([(0.3, 0.3, 0.5, 1), (0.55, 0.3, 0.75, 1), (0.8, 0.3, 1, 1)], ["unknown", "right"]),
    ([(0, 0.3, 0.2, 1), (0.25, 0.3, 0.45, 1), (0.5, 0.3, 0.7, 1), (0.8, 0.3, 1, 1)], ["left", "right"]),
    ([(0.35, 0.1, 0.6, 0.5), (0.33, 0.1, 0.63, 0.75), (0.25, 0.05, 0.65, 1), (0, 0, 0.7, 1)], ["unknown", "bottom"]),
    ([(0.9, 0.4, 1, 0.8)] * 6, ["unknown", "unknown"]),
]


@pytest.mark.parametrize(("boxes", "directions"), WAYS)
def test_the_course_says_over_which_side_somebody_came_and_went(boxes: list[Box], directions: list[str]):
    assert went(boxes) == directions


@pytest.mark.parametrize(("boxes", "directions"), WAYS)
def test_a_mirrored_course_has_mirrored_sides(boxes: list[Box], directions: list[str]):
    mirror = {"left": "right", "right": "left"}
    mirrored = [(1 - x2, y1, 1 - x1, y2) for x1, y1, x2, y2 in boxes]
    assert went(mirrored) == [mirror.get(side, side) for side in directions]


@pytest.mark.parametrize("height", [0.2, 0.4, 0.8])
@pytest.mark.parametrize("every_s", [1.0, 0.2])
def test_whoever_stands_on_a_border_entered_one_sector_and_stays_there(height: float, every_s: float):
    jitter, frames = random.Random(1), []
    for i in range(round(70 / every_s)):
        at_s = i * every_s
        x = min(0.5, 0.1 + 0.05 * at_s) + (jitter.gauss(0, 0.004) if at_s > 8 else 0)
        frames.append(observation(at_s, {"eye": [person_at(x, 0.85, height)]}))
    kinds = Counter(e.kind for e in events_of(policy(), frames))
    assert (kinds["entered"], kinds["moved"], kinds["left"]) == (1, 0, 0)


LINE = """
site = "yard"
[cameras.gate.lines.middle]
a = [0.5, 0]
b = [0.5, 1]
directions = ["eastward", "westward"]
"""


@pytest.mark.parametrize("height", [0.2, 0.4, 0.8])
@pytest.mark.parametrize("every_s", [1.0, 0.2])
def test_whoever_stands_on_a_line_has_crossed_it_when_he_goes_on(height: float, every_s: float):
    jitter, frames = random.Random(1), []
    for i in range(round(80 / every_s)):
        at_s = i * every_s
        stood = jitter.gauss(0, 0.004) if 8 < at_s < 68 else 0
        frames.append(observation(at_s, {"eye": [person_at(min(0.5, 0.1 + 0.05 * at_s) + stood, 0.85, height)]}))
        frames[-1] = (
            frames[-1] if at_s < 68 else observation(at_s, {"eye": [person_at(0.1 + 0.05 * (at_s - 60), 0.85, height)]})
        )
    crossed = [e.direction for e in events_of(policy(LINE), frames) if e.kind == "crossed"]
    assert crossed == ["eastward"]


def test_feet_below_the_picture_are_in_a_sector_that_ends_just_above_its_edge():
    frames = [observation(i, {"eye": [Prediction("person", 0.9, (0.4, 0.3, 0.6, 1))]}) for i in range(20)]
    assert any("entered floor" in line for line in lines(events_of(policy(WHOLE + SHORT_OF_EDGE), frames)))


def test_feet_below_the_picture_cross_a_line_that_ends_just_above_its_edge():
    line = '[cameras.gate.lines.door]\na = [0.5, 0.2]\nb = [0.5, 0.97]\ndirections = ["in", "out"]\n'
    seen = [Prediction("person", 0.9, (0.1 + i / 10, 0.3, 0.2 + i / 10, 1)) for i in range(8)]
    events = events_of(policy(WHOLE + line), [observation(i, {"eye": [each]}) for i, each in enumerate(seen)])
    assert [(e.line, e.direction) for e in events if e.kind == "crossed"] == [("door", "in")]


def test_a_line_that_ends_just_beside_the_picture_reaches_its_edge_only_where_it_leads_there():
    assert to_edge((0.5, 0.5), (0.5, 0.98)) == (0.5, 1)
    assert to_edge((0.5, 0.5), (0.02, 0.5)) == (0, 0.5)
    assert to_edge((0.1, 0.975), (0.9, 0.98)) == (0.9, 0.98)
    assert to_edge((0.2, 0.2), (0.8, 0.8)) == (0.8, 0.8)


UP_AND_DOWN = [
    ([(0.45, 0.5, 0.55, 0.8), (0.46, 0.3, 0.54, 0.55), (0.47, 0.15, 0.53, 0.35), (0.47, 0.02, 0.53, 0.2)], "top"),
    ([(0.3, 0.3, 0.5, 0.7), (0.5, 0.3, 0.7, 0.7), (0.7, 0.3, 0.9, 0.7), (0.8, 0.3, 1, 0.7)], "right"),
]


@pytest.mark.parametrize(("boxes", "side"), UP_AND_DOWN)
def test_whoever_walks_the_same_way_back_comes_over_the_side_by_which_he_went(boxes: list[Box], side: str):
    assert went(boxes)[-1] == side
    assert went(boxes[::-1])[0] == side
