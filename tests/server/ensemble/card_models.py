"""Models as their cards say them, for tests."""

from __future__ import annotations

from PIL import Image

from policies.observation import Prediction
from tests.server.ensemble.pictures import encoded


def plain(red: int, green: int, blue: int) -> bytes:
    return encoded(Image.new("RGB", (64, 64), (red, green, blue)))


DARK, LIGHT, RED, BLUE = plain(0, 0, 0), plain(255, 255, 255), plain(255, 0, 0), plain(0, 0, 255)


def labels(predictions: tuple[Prediction, ...]) -> list[tuple[str, float]]:
    return [(each.label, round(each.score, 2)) for each in predictions]
