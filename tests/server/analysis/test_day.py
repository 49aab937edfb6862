"""A day of sectors from events and the index of bursts: the same as the fold of its frames gives."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import pytest

from policies.observation import Prediction
from policies.site.site_policy import SitePolicy
from server.analysis.day import CameraDay, DaySpan, Lane, SpanState, _spans, camera_day, site_day
from server.analysis.occupancy import occupancy
from server.domain.keeping import Gone, Stretch
from server.domain.watching import LaneLog, Stay, Watching
from server.store import Store
from server.store.bursts import scans
from tests.policies.stories import CHANGE
from tests.policies.test_scene import home, turned
from tests.server.late_walker import in_their_order
from tests.server.scenes import START_US, Yard, across, burst, there_and_back
from tests.stand_ins import ManualClock, ScriptedEnsemble

S = 1_000_000
HOUR_US = 3600 * S


@pytest.fixture
def yard(tmp_path: Path, store: Store, clock: ManualClock) -> Yard:
    """A yard without a past, on each database."""
    return Yard(tmp_path / "sites", store, clock)


def folded(yard: Yard, since_us: int, until_us: int, now_us: int) -> dict[tuple[str, str], list[DaySpan]]:
    """What the fold of all frames gives."""
    lanes: dict[tuple[str, str], list[DaySpan]] = {}
    for span in occupancy(yard.store, "yard", "gate", since_us, until_us, now_us):
        lanes.setdefault((span.sector, span.target), []).append(
            DaySpan(span.occupancy.value, span.from_us, span.until_us)
        )
    return lanes


def quick(yard: Yard, since_us: int, until_us: int, now_us: int) -> dict[tuple[str, str], list[DaySpan]]:
    return {
        (lane.sector, lane.target): list(lane.spans)
        for day in site_day(yard.store, "yard", since_us, until_us, now_us)
        for lane in day.lanes
    }


def agrees(yard: Yard, from_s: float, until_s: float, now_s: float = 3600) -> Iterator[str]:
    """Both of a stretch, and that they are the same; the states of the first lane."""
    ends = [START_US + round(each * S) for each in (from_s, until_s, now_s)]
    mine = quick(yard, *ends)
    assert mine == folded(yard, *ends)
    yield from (span.state for span in next(iter(mine.values())))


def send(yard: Yard, path: Callable[[float], float | None], until_s: float, from_s: float = 0) -> None:
    """Bursts of ten frames, two a second, without a gap."""
    for number in range(round((until_s - from_s) / 5)):
        at_s = from_s + 5 * number
        yard.pipeline.process(yard.walk(round(at_s * 10), lambda t: path(t - from_s), at_s, 10))


def stands(x: float | None) -> Callable[[float], float | None]:
    return lambda _t: x


def nobody(_t: float) -> None:
    return None


def test_a_walk_is_where_the_fold_puts_it(yard: Yard) -> None:
    send(yard, there_and_back, 60)
    assert set(agrees(yard, -30, 55)) == {"unobserved", "clear", "occupied"}
    list(agrees(yard, 10, 20))
    list(agrees(yard, 3, 40, now_s=33))
    assert list(agrees(yard, 0, 300, now_s=60.5))[-1] == "clear"


def test_a_silence_is_unobserved_to_the_microsecond_also_within_a_presence(yard: Yard) -> None:
    send(yard, lambda t: 0.2, 30)
    send(yard, lambda t: 0.2, 130, from_s=100)
    assert "unobserved" in list(agrees(yard, 0, 130, now_s=130))
    assert list(agrees(yard, 40, 90)) == ["unobserved"]
    assert list(agrees(yard, 110, 600))[-1] == "unobserved"


def test_a_burst_that_is_long_can_have_a_gap_inside(yard: Yard) -> None:
    send(yard, nobody, 20)
    images = [yard.picture(at_s=each) for each in (30, 90)]
    yard.pipeline.process(burst(500, images, 30, 60))
    send(yard, nobody, 130, from_s=100)
    assert list(agrees(yard, 0, 130, now_s=130)) == ["clear", "unobserved", "clear"]


@pytest.mark.parametrize("different", [1, 3, 8])
def test_a_camera_that_repeats_its_frames_is_unobserved_from_the_last_new_one_on(yard: Yard, different: int) -> None:
    send(yard, across, 60)
    for number in range(80):
        again = [yard.picture(at_s=1000 + (4 * number + each) % different) for each in range(4)]
        yard.pipeline.process(burst(6000 + number, again, 60 + 8 * number, 2))
    list(agrees(yard, 0, 700, now_s=700))
    list(agrees(yard, 400, 700, now_s=700))
    send(yard, nobody, 760, from_s=700)
    assert list(agrees(yard, 0, 760, now_s=760))[-2:] == ["unobserved", "clear"]


def test_bursts_that_are_looked_at_together_tell_what_each_alone_tells(
    yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(40):
        seen_s = 200 * (13 if number in (14, 15, 16, 27) else number)  # some repeat those of before
        images = [yard.picture(at_s=seen_s + each) for each in range(3)]
        yard.pipeline.process(burst(number, images, 200 * number))
    found = []
    for together in (1, 8, 100):
        monkeypatch.setattr(scans, "_AT_ONCE", together)
        fresh = Store(yard.store._engine, yard.clock)
        found.append(fresh.past.watching("yard", START_US - S, START_US + 9000 * S))
    assert found[0] == found[1] == found[2]
    assert [each.is_silent for each in found[0][0].unseen].count(False) == 1


def test_frames_that_no_model_answers_for_are_unobserved(yard: Yard) -> None:
    send(yard, nobody, 40)
    for number in range(42):
        images = [f"unanswered {number} {each}".encode() for each in range(5)]
        for image in images:
            yard.ensemble.teach(image, {"eye": None})
        yard.pipeline.process(burst(7000 + number, images, 40 + 10 * number, 2))
    send(yard, nobody, 480, from_s=460)
    assert list(agrees(yard, 0, 480, now_s=480)) == ["clear", "unobserved", "clear"]


def test_late_bursts_change_the_day_also_after_it_was_looked_at(yard: Yard) -> None:
    walk = [yard.walk(number, there_and_back, 5 * number, 10) for number in range(24)]
    late = walk[2:16]
    for each in [*walk[:2], *walk[16:]]:
        yard.pipeline.process(each)
    assert "unobserved" in list(agrees(yard, 0, 120, now_s=120))
    for each in late:
        yard.pipeline.process(each)
    yard.store.refolds.run()
    assert set(agrees(yard, 0, 120, now_s=120)) == {"clear", "occupied"}


def test_bursts_that_change_nothing_are_not_watched_time(yard: Yard) -> None:
    walk = [yard.walk(number, nobody, 5 * number, 10) for number in range(24)]
    for each in walk:
        yard.pipeline.process(each)
    yard.store.set_aside("yard", "gate", START_US + 40 * S, START_US + 80 * S)
    assert list(agrees(yard, 0, 120, now_s=120)) == ["clear", "unobserved", "clear"]


def test_a_day_that_goes_on_is_looked_at_from_where_it_was_left(yard: Yard) -> None:
    for from_s, until_s in ((0, 20), (160, 200), (200, 215), (540, 600)):
        send(yard, across, until_s, from_s)
        list(agrees(yard, -10, 3600, now_s=until_s))
        list(agrees(yard, -10, 3600, now_s=until_s + 100))


@pytest.mark.parametrize("seed", range(4))
def test_any_mixture_of_walks_and_silences_agrees(yard: Yard, seed: int) -> None:
    chance, at_s = random.Random(seed), 0.0
    for number in range(40):
        x = chance.choice([None, 0.2, 0.4, 0.6, 0.8])
        length = chance.choice([4, 10, 20])
        yard.pipeline.process(yard.walk(number, stands(x), at_s, length))
        at_s += length / 2 + chance.choice([0, 0, 0, 10, 29.75, 31, 100])
    for _ in range(6):
        from_s = chance.uniform(-50, at_s)
        list(agrees(yard, from_s, from_s + chance.uniform(1, at_s), now_s=at_s + chance.uniform(0, 60)))


def test_what_is_no_longer_kept_is_neither_clear_nor_unobserved(yard: Yard) -> None:
    send(yard, across, 60)
    [seen] = yard.store.past.watching("yard", START_US, START_US + 60 * S)
    gone = Gone("yard", "gate", (Stretch(None, START_US + 10 * S), Stretch(START_US + 20 * S, START_US + 30 * S)))
    day = camera_day(seen, [], gone, (START_US, START_US + 60 * S), yard.store.policy)
    assert [(s.state, (s.until_us - START_US) / S) for s in day.lanes[0].spans] == [
        ("not_kept", 10),
        ("clear", 20),
        ("not_kept", 30),
        ("clear", 60),
    ]
    assert day.lanes[0].lasts_us("not_kept") == 20 * S


def test_where_events_are_no_longer_kept_nobody_can_say_that_it_was_clear(yard: Yard) -> None:
    send(yard, across, 60)
    [seen] = yard.store.past.watching("yard", START_US, START_US + 60 * S)
    gone = Gone("yard", "gate", (), None, START_US + 10 * S)
    day = camera_day(seen, [], gone, (START_US, START_US + 60 * S), yard.store.policy)
    assert [(s.state, (s.until_us - START_US) / S) for s in day.lanes[0].spans] == [("not_kept", 10), ("clear", 60)]


def test_a_camera_that_sent_nothing_yet_has_no_lanes() -> None:
    seen = Watching("yard", "gate", None)
    log = LaneLog("gate", "west", "person", (Stay("gate", "west", "person", 1, 2),), (1,))
    assert camera_day(seen, [log], None, (0, 10), _no_policy) == CameraDay("gate", (), (), (), None)


def test_a_day_to_come_is_empty(yard: Yard) -> None:
    send(yard, across, 20)
    assert site_day(yard.store, "yard", START_US + HOUR_US, START_US + 2 * HOUR_US, START_US) == []


def test_a_presence_from_days_before_goes_on(yard: Yard, clock: ManualClock) -> None:
    send(yard, lambda t: 0.2, 20)
    day_us = 24 * HOUR_US
    clock.now_us += 3 * day_us
    for hours in (24, 48, 48.001, 48.002):
        yard.pipeline.process(yard.walk(round(hours * 1000), lambda t: 0.2, hours * 3600, 8))
    stays = yard.store.stays("yard", START_US + 2 * day_us - HOUR_US, START_US + 2 * day_us + HOUR_US)
    assert [(each.sector, each.until_us) for each in stays][:1] == [("west", None)]


def test_late_bursts_of_a_walk_leave_what_one_in_order_leaves(yard: Yard) -> None:
    for each in in_their_order(yard.walked(across, 26)):
        yard.pipeline.process(each)
    yard.store.refolds.run()
    list(agrees(yard, 0, 26, now_s=26))


def _no_policy(digest: str) -> SitePolicy:
    raise AssertionError(digest)


MOVING = """
site = "yard"
targets = ["moving"]
[cameras.gate.sectors.west]
polygon = [[0, 0], [0.5, 0], [0.5, 1], [0, 1]]
[cameras.gate.sectors.east]
polygon = [[0.5, 0], [1, 0], [1, 1], [0.5, 1]]
"""


def shows(yard: Yard, view: Callable[[int], str], numbers: range) -> None:
    """Quiet bursts of ten frames, the first of which tells what the camera shows."""
    for number in numbers:
        images = []
        for index in range(10):
            still = Prediction("still", 0.9, evidence=None if index else view(number))
            images.append(yard.ensemble.teach(f"{number} {index}".encode(), {CHANGE.model: (still,)}))
        yard.pipeline.process(burst(number, images, number * 5.0))


def test_the_sectors_of_a_turned_camera_are_unobserved_until_it_is_turned_back(
    tmp_path: Path, store: Store, clock: ManualClock
) -> None:
    yard = Yard(tmp_path / "sites", store, clock, MOVING)
    yard.ensemble = yard.pipeline._ensemble = ScriptedEnsemble([CHANGE])
    shows(yard, home, range(20))
    assert list(agrees(yard, 0, 99, now_s=99)) == ["clear"]
    shows(yard, turned, range(20, 60))
    assert list(agrees(yard, 0, 299, now_s=299)) == ["clear", "unobserved"]
    assert list(agrees(yard, 200, 299, now_s=299)) == ["unobserved"]
    shows(yard, home, range(60, 80))
    assert list(agrees(yard, 0, 399, now_s=399)) == ["clear", "unobserved", "clear"]
    assert list(agrees(yard, 200, 399, now_s=399)) == ["unobserved", "clear"]
    assert list(agrees(yard, 200, 280, now_s=399)) == ["unobserved"]


@pytest.mark.parametrize("seed", range(20))
def test_the_heaviest_layer_is_what_each_instant_shows(seed: int) -> None:
    chance, stretch = random.Random(seed), (10, 90)

    def some(most: int) -> list[tuple[int, int]]:
        starts = [chance.randrange(100) for _ in range(chance.randrange(most))]
        return [(start, start + chance.randrange(12)) for start in starts]

    layers: dict[SpanState, Sequence[tuple[int, int]]] = {
        "occupied": some(20),
        "unobserved": some(6),
        "not_kept": some(3),
    }
    spans = list(_spans(layers, stretch))
    shown = {at: span.state for span in spans for at in range(span.from_us, span.until_us)}
    for at in range(*stretch):
        covering = [state for state, some in layers.items() if any(a <= at < b for a, b in some)]
        assert shown.pop(at) == ("clear", *covering)[-1]
    assert not shown
    assert all(a.until_us == b.from_us and a.state != b.state for a, b in pairwise(spans))
    lane = Lane("gate", "west", "person", tuple(spans))
    assert lane.within(0, 100) == lane
    part = lane.within(30, 55).spans
    assert [span.state for span in part for _ in range(span.from_us, span.until_us)] == [
        next(span.state for span in spans if span.from_us <= at < span.until_us) for at in range(30, 55)
    ]
    assert lane.within(95, 99).spans == lane.within(30, 30).spans == ()


def test_a_part_of_a_lane_has_the_visits_that_began_in_it() -> None:
    lane = Lane("gate", "west", "person", (DaySpan("clear", 0, 100),), (5, 10, 10, 20))
    assert lane.within(10, 20).entries == (10, 10)
    assert lane.within(20, 20).entries == ()
