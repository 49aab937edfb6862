"""A camera that was turned is told apart from light, weather and things that come into view, in drawn scenes."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from policies.observation import Observation, Prediction
from policies.scene.memory import Scene, remembered_scene
from server.ensemble.scene_evidence import scene_evidence
from tests.benchmarks.events.scenes import SCENES, Drawn
from tests.policies.stories import CHANGE, observation

View = NDArray[np.float32]
HIGH, WIDE = 108, 192
STEP_S = 10.0
SHOWN = ("above", "shadows")


@cache
def drawn(name: str) -> View:
    """A picture of a scene, larger than what a camera sees of it."""
    return Drawn(SCENES[name], 1).picture(140).astype(np.float32)


def seen(name: str, across: float = 0.0, down: float = 0.0, degrees: float = 0.0) -> View:
    """What a camera sees that is turned by parts of its view and rolled by some degrees: BGR."""
    whole = drawn(name)
    high, wide = whole.shape[:2]
    turn = cv2.getRotationMatrix2D((wide / 2, high / 2), degrees, 1.0)
    whole = cv2.warpAffine(whole, turn, (wide, high), borderMode=cv2.BORDER_REFLECT).astype(np.float32)
    left, top = round(wide * 0.75 * (1 / 6 + across)), round(high * 0.75 * (1 / 6 + down))
    return cv2.resize(
        whole[top : top + round(high * 0.75), left : left + round(wide * 0.75)],
        (WIDE, HIGH),
        interpolation=cv2.INTER_AREA,
    ).astype(np.float32)


def grey(view: View) -> View:
    return (view @ np.array([0.114, 0.587, 0.299], np.float32)).astype(np.float32)


def burst(view: View, number: int, noise: float = 3.0) -> Observation:
    """A burst of three grey frames as the camera's sensor gives them."""
    chance = np.random.default_rng(number)
    frames = np.clip(view + chance.standard_normal((3, 1, HIGH, WIDE), dtype=np.float32) * noise, 0, 255)
    evidence = scene_evidence(torch.from_numpy(np.floor(frames)))
    return observation(number * STEP_S, {"frame-change": [Prediction("still", 0.9, evidence=evidence)]}, [CHANGE])


def turned_after(name: str, view: View, bursts: int = 12) -> bool:
    """Whether the camera counts as turned once it has shown a scene, and then this for two minutes."""
    scene: Scene | None = None
    for number in range(8):
        scene = remembered_scene(scene, burst(grey(seen(name)), number), None)
    for number in range(8, 8 + bursts):
        scene = remembered_scene(scene, burst(view, number), None)
    assert scene is not None
    return scene.turned_us is not None


@pytest.mark.parametrize("name", SHOWN)
@pytest.mark.parametrize(("across", "down"), [(0.15, 0.0), (-0.15, 0.0), (0.0, 0.16)])
def test_a_view_that_lies_elsewhere_is_a_turn(name: str, across: float, down: float) -> None:
    assert turned_after(name, grey(seen(name, across, down)))


def _infrared(name: str) -> View:
    """Leaves are bright, colours are gone, and the camera's own lamp lights the middle."""
    far = np.hypot(*np.meshgrid(np.linspace(-0.5, 0.5, WIDE), np.linspace(-0.5, 0.5, HIGH)))
    weights = np.array([0.1, 1.0, -0.2], np.float32)
    return np.clip((seen(name) @ weights) * (1.15 - far), 0, 255).astype(np.float32)


def _lamp(name: str) -> View:
    """It is night, and a lamp is on."""
    across, down = np.meshgrid(np.linspace(0, 1, WIDE), np.linspace(0, 1, HIGH))
    lit = 0.3 + 1.1 * np.exp(-(((across - 0.35) / 0.3) ** 2) - ((down - 0.4) / 0.35) ** 2)
    return np.clip(grey(seen(name)) * lit, 0, 255).astype(np.float32)


def _lorry(name: str) -> View:
    """It stands before half of the view."""
    view = grey(seen(name))
    view[HIGH // 4 :, WIDE // 4 : 3 * WIDE // 4] = 128
    view[HIGH // 4 : HIGH // 2, WIDE // 4 + 8 : WIDE // 4 + 40] = 45
    return view


def _parked(name: str) -> View:
    view = grey(seen(name))
    view[60:84, 70:120] = 60
    view[64:72, 78:112] = 30
    return view


CHANGES: dict[str, Callable[[str], View]] = {
    "nothing": lambda name: grey(seen(name)),
    "a darker hour": lambda name: grey(seen(name)) * 0.4 + 5,
    "a brighter hour": lambda name: np.clip(grey(seen(name)) * 1.5 + 10, 0, 255),
    "infrared": _infrared,
    "a lamp": _lamp,
    "a lorry": _lorry,
    "a parked car": _parked,
    "fog": lambda name: grey(seen(name)) * 0.15 + 150,
    "a camera that shook": lambda name: grey(seen(name, 0.01, 0.01)),
}


@pytest.mark.parametrize("name", SHOWN)
@pytest.mark.parametrize("change", CHANGES)
def test_what_changes_in_the_view_is_no_turn(name: str, change: str) -> None:
    assert not turned_after(name, CHANGES[change](name), bursts=34)
