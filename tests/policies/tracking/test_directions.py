"""Over which side somebody comes and goes: every side and corner, near and far, whole view and part, fast and slow."""

from __future__ import annotations

import msgspec
import pytest

from policies.fold import State, initial_state
from policies.geometry import Point
from policies.observation import Box, Prediction
from tests.policies.stories import events_of, fold, observation, policy

MIDDLE = 'site = "yard"\n[cameras.gate.sectors.middle]\npolygon = [[0.3, 0.4], [0.7, 0.4], [0.7, 0.8], [0.3, 0.8]]\n'
WHOLE = 'site = "yard"\n'
INSIDE = (0.5, 0.6)
OVER = {"left": (-0.3, 0.0), "right": (0.3, 0.0), "top": (0.0, -0.3), "bottom": (0.0, 0.3)}
NEAR, FAR = 0.3, 0.1
RATES = [1.0, 0.5, 0.1]


def standing(feet: Point, height: float) -> Box:
    x, y = feet
    return (max(x - height * 0.15, 0), max(y - height, 0), min(x + height * 0.15, 1), min(y, 1))


def told(text: str, boxes: list[Box | None], every_s: float) -> dict[str, str | None]:
    """The directions of `entered` and `left` of somebody in these boxes, with empty frames before and after."""
    rest = round(6 / every_s)
    frames: list[Box | None] = [None] * rest + boxes + [None] * rest
    seen = [[] if box is None else [Prediction("person", 0.9, box)] for box in frames]
    events = events_of(policy(text), [observation(i * every_s, {"eye": each}) for i, each in enumerate(seen)])
    return {e.kind: e.direction for e in events if e.kind in ("entered", "left")}


def between(there: Point, here: Point, height: float, every_s: float, seconds: float = 9) -> list[Box | None]:
    """The boxes of a walk from there to here; None where the picture shows less than a third of the body."""
    steps = round(seconds / every_s)
    boxes: list[Box | None] = []
    for i in range(steps + 1):
        x, y = (a + (b - a) * i / steps for a, b in zip(there, here, strict=True))
        left, top, right, bottom = standing((x, y), height)
        boxes.append((left, top, right, bottom) if (right - left) * (bottom - top) > height * height * 0.1 else None)
    return boxes


@pytest.mark.parametrize("every_s", RATES)
@pytest.mark.parametrize("height", [NEAR, FAR])
@pytest.mark.parametrize("side", OVER)
def test_whoever_goes_out_of_a_part_of_the_view_goes_over_the_side_that_he_crosses(
    side: str, height: float, every_s: float
):
    goal = (INSIDE[0] + OVER[side][0], INSIDE[1] + OVER[side][1])
    assert told(MIDDLE, between(INSIDE, goal, height, every_s), every_s)["left"] == side


@pytest.mark.parametrize("every_s", RATES)
@pytest.mark.parametrize("height", [NEAR, FAR])
@pytest.mark.parametrize("side", OVER)
def test_whoever_comes_into_a_part_of_the_view_comes_over_the_side_that_he_crosses(
    side: str, height: float, every_s: float
):
    start = (INSIDE[0] + OVER[side][0], INSIDE[1] + OVER[side][1])
    assert told(MIDDLE, between(start, INSIDE, height, every_s), every_s)["entered"] == side


CORNERS = [(x, y) for x in ("left", "right") for y in ("top", "bottom")]


@pytest.mark.parametrize("every_s", RATES)
@pytest.mark.parametrize("corner", CORNERS)
def test_over_a_corner_either_side_is_right(corner: tuple[str, str], every_s: float):
    goal = (INSIDE[0] + OVER[corner[0]][0], INSIDE[1] + OVER[corner[1]][1])
    assert told(MIDDLE, between(INSIDE, goal, FAR, every_s), every_s)["left"] in corner
    assert told(MIDDLE, between(goal, INSIDE, FAR, every_s), every_s)["entered"] in corner


EDGES = [
    ("left", (-0.1, 0.7), FAR),
    ("left", (-0.1, 1.0), NEAR),
    ("right", (1.1, 0.7), FAR),
    ("right", (1.1, 1.0), NEAR),
    ("top", (0.5, -0.05), FAR),
    ("bottom", (0.5, 1.3), NEAR),
    ("bottom", (0.5, 1.1), FAR),
]


@pytest.mark.parametrize("every_s", RATES)
@pytest.mark.parametrize(("side", "outside", "height"), EDGES)
def test_whoever_walks_out_of_the_picture_goes_over_the_edge_at_which_he_is_lost(
    side: str, outside: Point, height: float, every_s: float
):
    start = (0.5, outside[1] if side in ("left", "right") else 0.6)
    assert told(WHOLE, between(start, outside, height, every_s), every_s)["left"] == side


@pytest.mark.parametrize("every_s", RATES)
@pytest.mark.parametrize(("side", "outside", "height"), EDGES)
def test_whoever_walks_into_the_picture_comes_over_the_edge_at_which_he_appears(
    side: str, outside: Point, height: float, every_s: float
):
    start = (0.5, outside[1] if side in ("left", "right") else 0.6)
    assert told(WHOLE, between(outside, start, height, every_s), every_s)["entered"] == side


def test_whoever_is_seen_in_one_frame_alone_went_nobody_knows_where():
    text = 'site = "yard"\nmovement = { min_hits = 1, dwell_s = 0.0 }\n'
    assert told(text, [(0.9, 0.4, 1, 0.8)], 1.0)["left"] == "unknown"


def test_whoever_appears_on_a_border_and_walks_off_goes_the_way_he_walks():
    path = [0.498, *[0.503] * 12, *[0.503 + 0.03 * i for i in range(1, 12)]]
    events = events_of(
        policy(),
        [
            observation(i * 0.2, {"eye": [Prediction("person", 0.9, standing((x, 0.85), 0.3))]})
            for i, x in enumerate(path)
        ],
    )
    assert [(e.kind, e.sector, e.direction) for e in events if e.kind == "left"] == [("left", "west", "right")]


def test_a_state_from_before_courses_were_kept_goes_on():
    frames = [
        observation(i, {"eye": [Prediction("person", 0.9, box)]})
        for i, box in enumerate(between((0.2, 0.7), (0.6, 0.7), FAR, 1.0))
        if box
    ]
    state, _ = fold(policy(WHOLE), initial_state(), frames)
    old = msgspec.to_builtins(state)
    for track in old["tracks"]:
        del track["past"]
        for visit in track["visits"]:
            for name in ("way_in", "way_out", "heading", "deep"):
                del visit[name]
    gone = [observation(20 + i, {"eye": []}) for i in range(10)]
    events = fold(policy(WHOLE), msgspec.convert(old, State), gone)[1]
    assert [(e.kind, e.direction) for e in events if e.kind == "left"] == [("left", "unknown")]
