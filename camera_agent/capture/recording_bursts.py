"""A recording divided into bursts, by the schedule or by the gate.

The bursts are a function of the pictures and the settings alone.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from camera_agent.burst import Reason
from camera_agent.cameras.camera import RecordedPicture
from camera_agent.config.settings import CameraSettings, GateSettings
from camera_agent.imaging.frame import CameraFailure, Frame

_log = logging.getLogger(__name__)
_TOLERANCE_S = 0.0005
"""Keeps rounding from moving a picture that is exactly on time."""
_ROUNDING_MS = 1
"""A video that has grown may name another mean rate, which rounds its instants otherwise. Frames are 10 ms apart."""


class RecordingBurst(NamedTuple):
    """A burst: its number, its frames in the recording's time, when it was complete, and why it was taken."""

    number: int
    frames: Sequence[Frame]
    end_s: float
    reason: Reason = "schedule"


class Done(NamedTuple):
    """What was kept before: all bursts before number `next_burst`, up to `played_ms` after the first picture.

    The last of them may have been short because the footage ended; footage that has grown since continues it.
    """

    next_burst: int = 0
    played_ms: float = -1

    def includes(self, number: int, at_s: float) -> bool:
        """Whether a frame of burst `number` was kept, or passed over."""
        if number >= self.next_burst:
            return False
        return number < self.next_burst - 1 or round(at_s * 1000) <= self.played_ms + _ROUNDING_MS


NOTHING_DONE = Done()


def recording_bursts(
    settings: CameraSettings, pictures: Iterable[RecordedPicture], done: Done = NOTHING_DONE
) -> Iterator[RecordingBurst]:
    """The bursts that are not done. Pictures that cannot be read are logged and left out."""
    wanted = (picture for picture in pictures if picture.number >= (settings.first_picture or 0))
    if settings.gate is None:
        yield from _by_schedule(settings, wanted, done)
        return
    for burst in _by_gate(settings, settings.gate, wanted):
        if frames := [frame for frame in burst.frames if not done.includes(burst.number, frame.at_s)]:
            yield burst._replace(frames=frames)


def _by_schedule(settings: CameraSettings, pictures: Iterator[RecordedPicture], done: Done) -> Iterator[RecordingBurst]:
    """Burst n begins `n * every_s` after the first picture; its frame j is the first picture `j * spacing_s` later."""
    number, last = -1, (-1, -1)
    frames: list[Frame] = []
    for picture, place in _placed(settings, pictures):
        is_next, last = place != last, place
        if not is_next or done.includes(place[0], picture.at_s):
            continue
        if place[0] != number and frames:
            yield RecordingBurst(number, frames, frames[-1].at_s)
            frames = []
        number = place[0]
        frames += _read(settings, picture)
        if len(frames) == settings.burst.frames:
            yield RecordingBurst(number, frames, frames[-1].at_s)
            frames = []
    if frames:
        yield RecordingBurst(number, frames, frames[-1].at_s)


def _placed(
    settings: CameraSettings, pictures: Iterator[RecordedPicture]
) -> Iterator[tuple[RecordedPicture, tuple[int, int]]]:
    """The pictures that fall into a burst, each with the burst's number and its index there."""
    origin_s: float | None = None
    for picture in pictures:
        origin_s = picture.at_s if origin_s is None else origin_s
        since_s = picture.at_s - origin_s + _TOLERANCE_S
        number = int(since_s / settings.every_s)
        index = int((since_s - number * settings.every_s) / settings.spacing_s)
        if index < settings.burst.frames:
            yield picture, (number, index)


def _by_gate(
    settings: CameraSettings, gate: GateSettings, pictures: Iterator[RecordedPicture]
) -> Iterator[RecordingBurst]:
    """All of the gate's bursts: to know the background at a later one, it looks at the whole recording again."""
    from camera_agent.capture.motion_bursts import MotionBursts  # loads Pillow

    motion = MotionBursts(settings, gate)
    number, due_s, at_s = 0, 0.0, 0.0
    for picture in pictures:
        at_s = picture.at_s
        if at_s + _TOLERANCE_S < due_s or not (frames := _read(settings, picture)):
            continue
        groups = motion.add(frames[0])
        due_s = max(due_s, at_s - motion.step_s / 2) + motion.step_s
        for group in groups:
            yield RecordingBurst(number, group.frames, at_s, group.reason)
            number += 1
    for group in motion.close():
        yield RecordingBurst(number, group.frames, at_s, group.reason)


def _read(settings: CameraSettings, picture: RecordedPicture) -> list[Frame]:
    """The picture as a frame; an empty list when it cannot be read."""
    try:
        encoded = picture.read()
    except CameraFailure as failure:
        _log.warning("picture_skipped", extra={"camera": settings.name, "picture": picture.number, "cause": failure})
        return []
    return [Frame.of(encoded, picture.at_s)]
