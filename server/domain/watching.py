"""When a camera was watched, and by which policy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from server.domain.records import BurstFacts


class Unseen(NamedTuple):
    """From the last frame before that could be judged to before the next one (us).

    `is_silent`: no frame came in between. Else frames came that repeat others, or that no model answered for.
    `is_over`: a frame ends it; else it is cut where the question ends.
    """

    from_us: int
    until_us: int
    is_silent: bool
    is_over: bool = True


@dataclass(frozen=True, slots=True)
class Watching:
    """How a camera was watched in a stretch of time.

    `policy` is the digest of the policy that judged its last burst before the end (None: it had none yet). `unseen` are
    the stretches without a frame that could be judged, longer than the shortest `blind_s` of the sectors of that
    policy, in order; the first may begin before the question, and the last may end after it. `since_us` is the first
    frame at all, where that is inside; None: there is an earlier one, or none. `rules`: from when which policy judged.
    """

    site: str
    camera: str
    policy: str | None
    unseen: tuple[Unseen, ...] = ()
    since_us: int | None = None
    rules: tuple[tuple[int, str], ...] = ()


class CameraStretch(NamedTuple):
    """A stretch of a camera, from `from_us` to before `until_us`."""

    camera: str
    from_us: int
    until_us: int


Neighbours = tuple[BurstFacts | None, BurstFacts | None]
"""The last burst that ended by the begin of a stretch, and the first that began at its end or later."""


class Stay(NamedTuple):
    """A target's presence in a sector, from the event that began it to the one that ended it (us; None: it goes on). Of
    presences that meet, from the first begin to the last end.
    """

    camera: str
    sector: str
    target: str
    from_us: int
    until_us: int | None


class LaneLog(NamedTuple):
    """What the event log says of a target in a sector of a camera: its presences in a stretch, and when visits began,
    in order (us), in the stretch and perhaps around it.
    """

    camera: str
    sector: str
    target: str
    stays: tuple[Stay, ...]
    entries: tuple[int, ...]


class Departure(NamedTuple):
    """A track left a sector of a camera at an instant; `id` is that of its event, `left`."""

    site: str
    camera: str
    track: str | None
    sector: str | None
    at_us: int
    id: str
