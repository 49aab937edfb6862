"""When a visit began and ended, between the frames."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from policies.events import Evidence
from policies.geometry import border_step, distance, inner_border
from policies.tracking.motion import Motion, frame_side
from policies.tracking.track import Closed, Visit

SQUARE = 4 / 4
SECOND_US = 1_000_000
UNIT = ((0.2, 0.2), (0.8, 0.2), (0.8, 0.8), (0.2, 0.8))
AT_RIGHT_EDGE = (0.85, 0.4, 0.95, 0.7)
IN_THE_MIDDLE = (0.45, 0.4, 0.55, 0.7)


def going(vx: float = 0.0, vy: float = 0.0) -> Motion:
    return Motion(0.9, 0.55, vx, vy, 0.3, 0.01, 0.0, 0.1)


def visit(**changes: object) -> Visit:
    """Seen inside from second 10 to second 12; the frame before was a second before."""
    evidence = Evidence("burst", "sha", 0.9, {}, None)
    plain = Visit("yard", 9_500_000, 500_000, 10 * SECOND_US, 12 * SECOND_US, evidence, "right", AT_RIGHT_EDGE)
    return replace(plain, **changes)


def times(closed: Closed) -> tuple[int, int]:
    return closed.end_us, closed.slack_us


def test_a_thing_that_hides_went_halfway_between_its_frames():
    assert times(visit(last_box=IN_THE_MIDDLE).end(13 * SECOND_US, going(vx=0.2), SQUARE)) == (12_500_000, 500_000)


def test_a_thing_that_goes_over_the_edge_went_when_its_box_met_it():
    assert times(visit().end(13 * SECOND_US, going(vx=0.2), SQUARE)) == (12_250_000, 500_000)


def test_no_speed_carries_a_thing_past_the_frame_that_misses_it():
    assert times(visit().end(13 * SECOND_US, going(vx=0.046), SQUARE)) == (13 * SECOND_US, 500_000)


def test_a_thing_that_stands_at_the_edge_went_halfway_between_its_frames():
    assert times(visit().end(13 * SECOND_US, going(vx=0.01), SQUARE)) == (12_500_000, 500_000)


def test_a_thing_without_motion_went_halfway_between_its_frames():
    assert times(visit().end(13 * SECOND_US, None, SQUARE)) == (12_500_000, 500_000)


def test_a_thing_seen_outside_went_when_it_met_the_border():
    gone = visit(out_us=13 * SECOND_US, gone_us=12_700_000)
    assert times(gone.end(None, going(), SQUARE)) == (12_700_000, 500_000)


def test_a_young_visit_began_when_its_box_met_the_edge():
    assert visit().seen_inside(10_400_000, AT_RIGHT_EDGE, going(vx=-0.1), SQUARE).entry_us == 9_900_000


@pytest.mark.parametrize("known", [{"counted": True}, {"crossed_in": True}, {"came_by": "unknown"}])
def test_a_beginning_that_is_told_or_was_seen_stays(known: dict[str, object]):
    assert visit(**known).seen_inside(10_400_000, AT_RIGHT_EDGE, going(vx=-0.1), SQUARE).entry_us == 9_500_000


def test_a_visit_begins_after_the_frame_that_did_not_show_it_and_not_after_the_first_that_did():
    late = visit().seen_inside(10_400_000, (0.6, 0.4, 0.7, 0.7), going(vx=-0.1), SQUARE)
    early = visit().seen_inside(10_400_000, (0.9, 0.4, 1.0, 0.7), going(vx=-0.1), SQUARE)
    assert (late.entry_us, early.entry_us) == (9 * SECOND_US, 10 * SECOND_US)


def test_who_comes_back_has_not_gone():
    back = visit(out_us=13 * SECOND_US, gone_us=12_700_000).seen_inside(14 * SECOND_US, None, None, SQUARE)
    assert (back.out_us, back.gone_us, back.last_us) == (None, None, 14 * SECOND_US)


def test_blind_time_counts_for_half_of_what_is_needed_on_a_side_where_nothing_was_seen():
    blind = visit(entry_us=5 * SECOND_US)
    assert blind.lasted_us(16 * SECOND_US, SECOND_US) == 3 * SECOND_US


def test_time_up_to_a_border_that_was_seen_to_be_crossed_counts():
    seen = visit(entry_us=9_100_000, crossed_in=True, out_us=13 * SECOND_US, gone_us=12_900_000)
    assert seen.lasted_us(12_900_000, SECOND_US) == 3_800_000


@pytest.mark.parametrize(("leaving", "part"), [(True, 0.125), (False, 0.875)])
def test_a_way_across_a_polygon_first_leaves_or_last_enters_it(leaving: bool, part: float):
    assert border_step(UNIT, (0.1, 0.5), (0.9, 0.5), leaving=leaving)[0] == pytest.approx(part)


def test_a_way_that_stays_inside_meets_no_border():
    assert border_step(UNIT, (0.3, 0.5), (0.7, 0.5), leaving=True) is None


@pytest.mark.parametrize(
    ("box", "side"),
    [
        ((0.01, 0.4, 0.1, 0.6), "left"),
        ((0.9, 0.4, 0.97, 0.6), "right"),
        ((0.4, 0.0, 0.5, 0.2), "top"),
        ((0.4, 0.8, 0.5, 1.0), "bottom"),
        (IN_THE_MIDDLE, "unknown"),
        (None, "unknown"),
    ],
)
def test_a_box_is_at_the_side_it_almost_touches(box: tuple[float, float, float, float] | None, side: str):
    assert frame_side(box) == side


@pytest.mark.parametrize(
    ("vx", "vy", "box", "side"),
    [
        (-0.2, 0.0, (0.05, 0.4, 0.15, 0.7), "left"),
        (0.0, -0.2, (0.4, 0.05, 0.5, 0.3), "top"),
        (0.0, 0.2, (0.4, 0.7, 0.5, 0.95), "bottom"),
    ],
)
def test_every_side_of_the_frame_lets_things_out(
    vx: float, vy: float, box: tuple[float, float, float, float], side: str
):
    assert frame_side(box) == side
    assert visit(last_box=box).end(13 * SECOND_US, going(vx, vy), SQUARE).end_us == 12_250_000


@pytest.mark.parametrize(
    ("point", "far"), [((0.5, 0.9), 0.1), ((0.5, 0.5), 0.3), ((0.9, 0.9), 0.1 * 2**0.5), ((0.2, 0.5), 0)]
)
def test_distance_is_to_the_nearest_point_of_the_border(point: tuple[float, float], far: float):
    assert distance(inner_border(UNIT), point, 1.0) == pytest.approx(far)


def test_distance_across_is_measured_in_frame_heights_too():
    assert distance(inner_border(UNIT), (0.9, 0.5), 2.0) == pytest.approx(0.2)
