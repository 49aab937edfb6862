"""Vehicles that follow each other closely: each keeps its own track, however it hurries and whatever was lost there."""

from __future__ import annotations

import itertools

import pytest

from policies.observation import Observation, Prediction
from tests.policies.stories import events_of, observation, policy

ROAD = """
site = "yard"
targets = ["vehicle"]
[cameras.gate.lines.near]
a = [0.2, 0.75]
b = [0.8, 0.75]
directions = ["away", "towards"]
"""


def box_at(ahead_m: float) -> tuple[float, float, float, float] | None:
    """A car 1.5 m high on a road under a bridge of 6 m, so far ahead; None where it is out of view or very small."""
    if not 9.3 <= ahead_m <= 37.5:
        return None
    bottom, top = 0.35 + 6 / ahead_m, 0.35 + 4.5 / ahead_m
    return (round(0.5 - 0.7 / ahead_m, 5), round(top, 5), round(0.5 + 0.7 / ahead_m, 5), round(bottom, 5))


def cars(
    begins: list[float], speed: float, every_s: float, until_s: float = 9, hidden: float = 0.0
) -> list[Observation]:
    """Cars of that speed (m/s) that come into view at these instants. The first is lost from that bottom on."""
    frames = []
    for i in range(round(until_s / every_s)):
        seen = []
        for number, begin_s in enumerate(begins):
            box = box_at(37.5 - speed * (i * every_s - begin_s)) if i * every_s >= begin_s else None
            if box is not None and not (number == 0 and hidden and box[3] > hidden):
                seen += [Prediction("car", 0.9, box), Prediction("truck", 0.3, box)]
        frames.append(observation(i * every_s, {"eye": seen}))
    return frames


def crossings(frames: list[Observation]) -> list[tuple[str | None, str | None]]:
    return [(e.direction, e.track) for e in events_of(policy(ROAD), frames) if e.kind == "crossed"]


@pytest.mark.parametrize("speed", [6.0, 12.0, 18.0, 25.0])
@pytest.mark.parametrize("every_s", [0.1, 0.2])
def test_a_car_that_comes_nearer_and_hurries_in_the_picture_is_not_begun_anew(speed: float, every_s: float):
    events = events_of(policy(ROAD), cars([1.0], speed, every_s))
    assert [e.direction for e in events if e.kind == "crossed"] == ["towards"]
    assert len({e.track for e in events if e.track}) == 1


@pytest.mark.parametrize("apart_s", [0.9, 1.3, 2.0])
@pytest.mark.parametrize("hidden", [0.55, 0.6, 0.7])
@pytest.mark.parametrize("speed", [14.0, 18.0, 22.0])
def test_a_car_does_not_go_on_as_the_one_that_was_lost_before_it(apart_s: float, hidden: float, speed: float):
    frames = cars([1.0, 1.0 + apart_s], speed, 0.2, hidden=hidden)
    assert [direction for direction, _ in crossings(frames)] == ["towards"]


@pytest.mark.parametrize("speed", [14.0, 18.0, 22.0])
def test_each_of_many_cars_in_a_lane_crosses_once_on_its_own_track(speed: float):
    begins = list(itertools.accumulate([1.0, 0.9, 1.1, 1.4, 0.9, 0.9]))
    crossed = crossings(cars(begins, speed, 0.2, until_s=14))
    assert [direction for direction, _ in crossed] == ["towards"] * 6
    assert len({track for _, track in crossed}) == 6
