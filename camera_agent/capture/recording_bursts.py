"""A recording cut into bursts: by the clock, or by the gate. Which bursts come out is a function of the pictures and
the settings alone.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from camera_agent.burst import Reason
from camera_agent.config.settings import CameraSettings
from camera_agent.imaging.failure import CameraFailure
from camera_agent.imaging.frame import Look, Seen
from camera_agent.logs import line

_log = logging.getLogger(__name__)
_TOLERANCE_S = 0.0005
"""Keeps rounding from moving a picture that stands exactly on its place."""


class Picture(NamedTuple):
    """Picture `number`, counted from 0, of a recording, taken `at_s` after the first. `look` is asked once, and only
    before the next picture is.
    """

    number: int
    at_s: float
    look: Callable[[], Seen]


class Cut(NamedTuple):
    """A burst: its number, its frames by the footage's time, when it was whole, and why it was taken."""

    number: int
    looks: Sequence[Look]
    end_s: float
    reason: Reason = "schedule"


def cuts(settings: CameraSettings, pictures: Iterable[Picture], first: int) -> Iterator[Cut]:
    """The bursts of the footage from number `first` on. Pictures that cannot be read are told and left out."""
    wanted = (picture for picture in pictures if picture.number >= (settings.first_picture or 0))
    return _even(settings, wanted, first) if settings.gate is None else _gated(settings, wanted, first)


def _even(settings: CameraSettings, pictures: Iterator[Picture], first: int) -> Iterator[Cut]:
    """Burst n begins `n * every_s` after the first picture played, and its frame j is the first picture at or after
    `j * spacing_s` more.
    """
    number, last = -1, (-1, -1)
    looks: list[Look] = []
    for picture, place in _placed(settings, pictures):
        if place[0] < first or place == last:
            continue
        if place[0] != number and looks:
            yield Cut(number, looks, looks[-1].at_s)
            looks = []
        last, number = place, place[0]
        looks += _looked(settings, picture)
        if len(looks) == settings.burst.frames:
            yield Cut(number, looks, looks[-1].at_s)
            looks = []
    if looks:
        yield Cut(number, looks, looks[-1].at_s)


def _placed(settings: CameraSettings, pictures: Iterator[Picture]) -> Iterator[tuple[Picture, tuple[int, int]]]:
    """The pictures that fall into a burst, each with the burst's number and the place in it."""
    origin_s: float | None = None
    for picture in pictures:
        origin_s = picture.at_s if origin_s is None else origin_s
        since_s = picture.at_s - origin_s + _TOLERANCE_S
        number = int(since_s / settings.every_s)
        index = int((since_s - number * settings.every_s) / settings.spacing_s)
        if index < settings.burst.frames:
            yield picture, (number, index)


def _gated(settings: CameraSettings, pictures: Iterator[Picture], first: int) -> Iterator[Cut]:
    """The bursts that the gate makes. It looks at all of the footage again, to know what it knew at burst `first`."""
    from camera_agent.capture.motion_bursts import gated_of  # loads Pillow

    gated = gated_of(settings)
    number, due_s, at_s = 0, 0.0, 0.0
    for picture in pictures:
        at_s = picture.at_s
        if at_s + _TOLERANCE_S < due_s or not (looks := _looked(settings, picture)):
            continue
        groups = gated.look(looks[0])
        due_s = max(due_s, at_s - gated.step_s / 2) + gated.step_s
        for group in groups:
            if number >= first:
                yield Cut(number, group.looks, at_s, group.reason)
            number += 1
    for group in gated.close():
        if number >= first:
            yield Cut(number, group.looks, at_s, group.reason)
        number += 1


def _looked(settings: CameraSettings, picture: Picture) -> list[Look]:
    """The picture, read now; none when it cannot be."""
    try:
        seen = picture.look()
    except CameraFailure as failure:
        _log.warning(line("picture_skipped", camera=settings.name, picture=picture.number, cause=failure))
        return []
    return [Look(seen.jpeg, picture.at_s, seen.grey)]
