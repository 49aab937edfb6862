"""The drawn scenes show what their true boxes say, and are the same whenever they are drawn."""

from __future__ import annotations

import numpy as np
import pytest

from tests.benchmarks.events.scenes import SCENES, Drawn, PixelBox


def boxes_at(drawn: Drawn, index: int) -> list[PixelBox]:
    return [box for track in drawn.tracks.values() for picture, box in track if picture == index + 1]


@pytest.mark.parametrize("name", list(SCENES))
def test_a_scene_and_a_seed_give_the_same_picture(name: str) -> None:
    one, same, other = (Drawn(SCENES[name], seed).picture(400) for seed in (3, 3, 4))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)


def test_another_process_draws_the_same_scene() -> None:
    drawn = Drawn(SCENES["windy"], 0)
    assert [round(vehicle.at_s, 3) for vehicle in drawn.vehicles[:3]] == [1.497, 17.894, 26.718]


def test_a_true_box_holds_what_moved() -> None:
    drawn = Drawn(SCENES["rain"], 0)
    index = next(i for i in range(drawn.pictures) if len(boxes_at(drawn, i)) == 1 and not boxes_at(drawn, i + 30))
    [(left, top, wide, high)] = boxes_at(drawn, index)
    moved = np.abs(drawn.picture(index).astype(int) - drawn.picture(index + 30)).mean(2)
    inside = moved[int(top) : int(top + high), int(left) : int(left + wide)].mean()
    assert inside > 2 * np.median(moved)


def test_the_empty_scene_holds_no_thing() -> None:
    assert Drawn(SCENES["empty"], 0).tracks == {}


def test_a_vehicle_that_parks_has_one_box_while_it_stands() -> None:
    drawn = Drawn(SCENES["parked"], 0)
    begins_s, ends_s = SCENES["parked"].parked_s or (0.0, 0.0)
    standing = range(round(begins_s * 10) + 10, round(ends_s * 10))
    assert any(len({box for p, box in track if p in standing}) == 1 for track in drawn.tracks.values())


def test_nothing_counts_once_the_camera_is_turned() -> None:
    scene = SCENES["turned"]
    assert scene.turned_s is not None
    assert max(p for track in Drawn(scene, 0).tracks.values() for p, _ in track) <= scene.turned_s * 10
