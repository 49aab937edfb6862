"""Polygons, boxes and lines."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.geometry import bounds, contains, crossing, foot, iou, overlap, polygon_of, side_of
from policies.site.sectors import Line

SQUARE = ((0.2, 0.2), (0.8, 0.2), (0.8, 0.8), (0.2, 0.8))


def test_a_point_is_inside_or_outside():
    assert contains(SQUARE, (0.5, 0.5))
    assert not contains(SQUARE, (0.9, 0.5))


def test_neighbours_that_share_an_edge_never_share_a_point():
    left, right = (
        ((0.0, 0.0), (0.5, 0.0), (0.5, 1.0), (0.0, 1.0)),
        ((0.5, 0.0), (1.0, 0.0), (1.0, 1.0), (0.5, 1.0)),
    )
    for y in (0.0, 0.25, 0.5):
        assert contains(left, (0.5, y)) + contains(right, (0.5, y)) == 1


def test_a_foot_is_the_bottom_centre_kept_inside_the_frame():
    assert foot((0.2, 0.1, 0.4, 0.6)) == (pytest.approx(0.3), 0.6)
    assert foot((0.9, 0.5, 1.1, 1.0)) == (0.999, 0.999)


def test_bounds_and_overlap():
    assert bounds(SQUARE) == (0.2, 0.2, 0.8, 0.8)
    assert overlap(SQUARE, SQUARE) == 1
    assert overlap(SQUARE, ((0.8, 0.2), (1.0, 0.2), (1.0, 0.8))) == 0
    assert overlap(SQUARE, ((0.9, 0.9), (0.901, 0.9), (0.9, 0.901))) == 0


points = st.tuples(st.floats(0, 1), st.floats(0, 1))
polygons = st.lists(points, min_size=3, max_size=8).map(tuple)


@given(polygons, polygons)
def test_overlap_counts_the_points_that_both_polygons_contain(a, b):
    grid = [((i + 0.5) / 48, (j + 0.5) / 48) for i in range(48) for j in range(48)]
    in_a, in_b = ({p for p in grid if contains(polygon, p)} for polygon in (a, b))
    smaller = min(len(in_a), len(in_b))
    assert overlap(a, b) == (len(in_a & in_b) / smaller if smaller else 0)


def test_intersection_over_union():
    assert iou((0, 0, 0.2, 0.2), (0.1, 0, 0.3, 0.2)) == pytest.approx(1 / 3)
    assert iou((0, 0, 0.1, 0.1), (0.5, 0.5, 0.6, 0.6)) == 0


def test_a_step_crosses_a_segment_where_it_meets_it():
    top, bottom = (0.5, 0.0), (0.5, 1.0)
    assert crossing(top, bottom, (0.4, 0.5), (0.8, 0.5)) == pytest.approx(0.25)
    assert crossing(top, bottom, (0.1, 0.5), (0.4, 0.5)) is None
    assert crossing(top, (0.5, 0.3), (0.4, 0.5), (0.8, 0.5)) is None
    assert side_of(top, bottom, (0.1, 0.5)) > 0


@pytest.mark.parametrize(
    ("points", "problem"),
    [
        ([[0, 0], [1, 1]], "at least three points"),
        ([[0, 0], [0.5, 0.5], [1, 1]], "no area"),
        ([[0, 0], [1, 0], [1, 1.5]], "outside the frame"),
    ],
)
def test_a_polygon_without_area_or_outside_the_frame_is_refused(points, problem):
    with pytest.raises(ValueError, match=problem):
        polygon_of(points)


def test_a_closing_point_may_be_repeated():
    assert polygon_of([[0, 0], [1, 0], [1, 1], [0, 0]]) == ((0, 0), (1, 0), (1, 1))


def test_edges_that_only_touch_do_not_cross():
    notched = [[0, 0], [1, 0], [1, 1], [0.5, 0], [0, 1]]
    assert len(polygon_of(notched)) == 5


WORDS = {"left": (-1, 0), "right": (1, 0), "above": (0, -1), "below": (0, 1), "upper": (0, -1), "lower": (0, 1)}


@given(points, points)
def test_the_words_for_the_sides_of_a_line_are_where_its_two_ways_come_from(a, b):
    if abs(a[0] - b[0]) + abs(a[1] - b[1]) < 0.01:
        return
    first, second = Line("road", a, b, ("in", "out")).sides
    for side, sign in ((first, 1), (second, -1)):
        steps = [WORDS[word] for word in side.split()]
        there = ((a[0] + b[0]) / 2 + sum(x for x, _ in steps), (a[1] + b[1]) / 2 + sum(y for _, y in steps))
        assert side_of(a, b, there) * sign > 0
