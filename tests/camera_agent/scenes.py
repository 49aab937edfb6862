"""Small grey scenes for the gate and the health check: a yard with texture and noise, and a walker."""

from __future__ import annotations

import numpy as np

from camera_agent.imaging.frame import Frame, Thumbnail

WIDTH, HEIGHT = 128, 96


class Yard:
    """A textured ground; each look has its own noise from a fixed seed."""

    def __init__(self, *, noise: float = 2.0) -> None:
        self._random = np.random.default_rng(7)
        self._ground = 90.0 + 40.0 * np.sin(np.arange(WIDTH) / 9.0) + 20.0 * np.cos(np.arange(HEIGHT) / 7.0)[:, None]
        self._noise = noise

    def grey(
        self,
        *,
        walker: tuple[int, int] | None = None,
        brighter: float = 0.0,
        lit: bool = False,
        light: float = 1.0,
        wagon: int = 0,
    ) -> Thumbnail:
        """The view now. `walker`: the upper left corner of a 4 x 10 figure. `lit`: under a floodlight. `light`: the
        brightness of the whole view. `wagon`: the part of the width that a dark object covers, from the left.
        """
        picture = (self._ground + brighter) * light + self._random.normal(0.0, self._noise, (HEIGHT, WIDTH))
        picture[20:, :wagon] = 20.0
        if lit:
            picture = 255.0 - picture
        if walker is not None:
            left, top = walker
            picture[top : top + 10, left : left + 4] += 60.0
        return Thumbnail(WIDTH, HEIGHT, np.clip(picture, 0, 255).astype(np.uint8).tobytes())

    def look(self, at_s: float, *, walker: tuple[int, int] | None = None) -> Frame:
        return Frame(f"{at_s:.3f}".encode(), at_s, self.grey(walker=walker))


def flat(level: int) -> Thumbnail:
    """One even tone."""
    return Thumbnail(WIDTH, HEIGHT, bytes([level]) * (WIDTH * HEIGHT))
