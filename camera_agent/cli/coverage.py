"""What a schedule sees: the chance that a thing in view for T seconds is in at least 1, 2, 3 frames; and what it costs.

The thing comes at any instant alike. On the even schedule, frame j of each burst is taken at `j * spacing_s`, and the
pattern repeats every `every_s`: the count of frames in view is a step function of the arrival, and its mean over one
period is exact. With a gate, a look comes every `look_s`; the first one that falls into the view opens it (a gate that
notices only a part of what comes is worth that part: `notices`), and from then on frames are the spacing apart, with
the looks before that already show the thing.

`simulated` counts the same by throwing arrivals at the frames that would be taken, look by look.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import msgspec

from camera_agent.config.active_hours import part_of_day
from camera_agent.config.settings import BurstSettings, CameraSettings
from camera_agent.uplink.byte_budget import heartbeat_bytes, heartbeat_every_s, wire_bytes

_DAY_S = 86_400.0
_REQUEST_BYTES = 1300
_FRAME_HEAD_BYTES = 230
VIEWS_S = (1.0, 2.0, 4.0, 8.0, 15.0)
MOST_FRAMES = 3
THINNED = (2, 4)
"""How many times as far apart a budget can have the frames of the schedule (`budget`)."""


class Coverage(NamedTuple):
    """For a thing in view for `view_s`: the chance of at least 1, 2, 3 frames."""

    view_s: float
    chances: tuple[float, ...]


def coverage(camera: CameraSettings, view_s: float, *, notices: float = 1.0) -> Coverage:
    """Exact, for the settings as they are."""
    if camera.gate is None:
        frames = [index * camera.spacing_s for index in range(camera.burst.frames)]
        chances = _periodic(frames, camera.every_s, view_s)
    else:
        chances = tuple(notices * chance for chance in _with_gate(camera, view_s))
    return Coverage(view_s, chances)


def simulated(camera: CameraSettings, view_s: float, *, throws: int = 4000, seed: int = 1) -> Coverage:
    """The same by chance; the error of each figure is about `0.5 / sqrt(throws)`."""
    chance = random.Random(seed)  # noqa: S311 - a simulation, repeatable
    period_s = camera.every_s if camera.gate is None else 1.0 / camera.gate.looks_per_s
    counts = [_count(camera, chance.uniform(0.0, period_s), view_s) for _ in range(throws)]
    return Coverage(view_s, tuple(sum(count >= least for count in counts) / throws for least in _least()))


def bytes_per_day(camera: CameraSettings, frame_bytes: float, *, active: float, heartbeat_s: float) -> float:
    """On the wire, heads included, without repeats; `active` is the part of its hours in which something moves (a
    gate's bursts are taken to last as long, and their beginnings and ends half as much again).
    """
    even = _stream(frame_bytes, camera.burst.frames, camera.every_s)
    if camera.gate is None:
        sent = even
    else:
        open_part = min(1.0, 1.5 * active)
        sent = open_part * even + (1 - open_part) * _stream(frame_bytes, 1, camera.gate.quiet_every_s)
    heartbeats = heartbeat_bytes(heartbeat_every_s(heartbeat_s, camera.mb_per_day)) if heartbeat_s else 0.0
    return part_of_day(camera.hours) * sent + heartbeats


def report(camera: CameraSettings, *, frame_bytes: float, active: float, heartbeat_s: float) -> list[str]:
    """The table of one camera, for people, checked against the simulation."""
    within = f", within {', '.join(camera.hours)}" if camera.hours else ""
    lines = [f"camera {camera.name}: {_said(camera)}{within}"]
    lines.append("  in view for   in 1 frame   in 2   in 3 and more   (simulated)")
    worst = 0.0
    for view_s in VIEWS_S:
        exact, thrown = coverage(camera, view_s).chances, simulated(camera, view_s).chances
        worst = max(worst, *(abs(one - other) for one, other in zip(exact, thrown, strict=True)))
        told = "   ".join(f"{chance:7.0%}" for chance in exact)
        lines.append(f"  {view_s:8g} s   {told}         ({' '.join(f'{chance:.0%}' for chance in thrown)})")
    day = bytes_per_day(camera, frame_bytes, active=active, heartbeat_s=heartbeat_s)
    lines.append(f"  formula and simulation differ by {worst:.1%} at most")
    lines.append(
        f"  {day / 1e6:,.0f} MB a day at {frame_bytes / 1000:g} kB a frame, something moving {active:.0%} of it"
    )
    return lines if camera.mb_per_day is None else [*lines, *_within_budget(camera, day)]


def _within_budget(camera: CameraSettings, day_bytes: float) -> list[str]:
    """What a budget costs in what is seen, before smaller JPEGs are counted."""
    part = (camera.mb_per_day or 0.0) * 1e6 / day_bytes
    budget = f"  budget {camera.mb_per_day:g} MB a day: "
    if part >= 1:
        return [budget + "enough"]
    rarer = next((rarer for rarer in THINNED if part * rarer >= 1), THINNED[-1])
    lines = [f"{budget}{part:.0%} of that, so frames {rarer} times as far apart"]
    awake = min(1.0, part * rarer)
    if awake < 1:
        lines[0] += f", and a pause for {1 - awake:.0%} of the day"
    frames, every_s = max(1, camera.burst.frames // rarer), camera.every_s
    thin = BurstSettings(frames=frames, spacing_s=camera.spacing_s * rarer, every_s=every_s)
    for view_s in VIEWS_S:
        before, after = coverage(camera, view_s), coverage(msgspec.structs.replace(camera, burst=thin), view_s)
        lines.append(f"  {view_s:8g} s in 1 frame: {awake * after.chances[0]:.0%} instead of {before.chances[0]:.0%}")
    return lines


def _least() -> range:
    return range(1, MOST_FRAMES + 1)


def _periodic(frames_s: Sequence[float], period_s: float, view_s: float) -> tuple[float, ...]:
    """Arrivals at which the count changes cut the period into pieces; within each the count is what its middle has."""
    edges = {0.0, period_s}
    for frame_s in frames_s:
        edges |= {frame_s % period_s, (frame_s - view_s) % period_s}
    parts = [0.0] * MOST_FRAMES
    for begin_s, end_s in pairwise(sorted(edges)):
        count = _in_view(frames_s, period_s, (begin_s + end_s) / 2, view_s)
        for index in range(min(count, MOST_FRAMES)):
            parts[index] += (end_s - begin_s) / period_s
    return tuple(parts)


def _in_view(frames_s: Sequence[float], period_s: float, from_s: float, view_s: float) -> int:
    """How many of the repeating frames lie in `[from_s, from_s + view_s)`."""
    return sum(
        math.ceil((from_s + view_s - frame_s) / period_s) - math.ceil((from_s - frame_s) / period_s)
        for frame_s in frames_s
    )


def _with_gate(camera: CameraSettings, view_s: float) -> tuple[float, ...]:
    """The first look in view opens the gate, and is a frame; the next ones come the spacing after it."""
    if camera.gate is None:
        raise ValueError("the camera has no gate")
    look_s = 1.0 / camera.gate.looks_per_s
    apart_s = _apart_s(camera, look_s)
    return tuple(min(1.0, max(0.0, (view_s - (least - 1) * apart_s) / look_s)) for least in _least())


def _apart_s(camera: CameraSettings, look_s: float) -> float:
    """While open, frames come at looks: the spacing, or the next whole number of looks."""
    step_s = min(look_s, camera.spacing_s)
    return math.ceil(camera.spacing_s / step_s - 0.25) * step_s


def _count(camera: CameraSettings, arrives_s: float, view_s: float) -> int:
    if camera.gate is None:
        frames = [index * camera.spacing_s for index in range(camera.burst.frames)]
        taken = [
            base * camera.every_s + at_s for base in range(math.ceil(view_s / camera.every_s) + 2) for at_s in frames
        ]
        return sum(arrives_s <= at_s < arrives_s + view_s for at_s in taken)
    look_s = 1.0 / camera.gate.looks_per_s
    step_s = min(look_s, camera.spacing_s)
    at_s, last_s, count = math.ceil(arrives_s / look_s) * look_s, -math.inf, 0
    while at_s < arrives_s + view_s:
        if at_s - last_s >= camera.spacing_s - 0.25 * step_s:
            count, last_s = count + 1, at_s
        at_s += step_s
    return count


def _stream(frame_bytes: float, frames: int, every_s: float) -> float:
    """Bytes a day of bursts of so many frames, one every so often."""
    return _DAY_S / every_s * wire_bytes(round(_REQUEST_BYTES + frames * (frame_bytes + _FRAME_HEAD_BYTES)))


def _said(camera: CameraSettings) -> str:
    bursts = f"{camera.burst.frames} frames {camera.spacing_s:g} s apart"
    if camera.gate is None:
        return f"{bursts} every {camera.every_s:g} s"
    gate = camera.gate
    return (
        f"{bursts} when something moves ({gate.looks_per_s:g} looks a second), else one every {gate.quiet_every_s:g} s"
    )
