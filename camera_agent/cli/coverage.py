"""`camera-agent coverage`: what a schedule sees and what it sends a day.

For something that is in view for T seconds, and may arrive at any instant, the table gives the chance that it is in at
least 1, 2 and 3 frames.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import msgspec

from camera_agent.cli.validate import describe_schedule
from camera_agent.config.active_hours import active_fraction
from camera_agent.config.settings import BurstSettings, CameraSettings
from camera_agent.uplink.byte_budget import SCHEDULE_FACTORS, heartbeat_bytes, heartbeat_every_s, wire_bytes

_DAY_S = 86_400.0
_REQUEST_BYTES = 1300
_FRAME_HEADER_BYTES = 230
_VIEWS_S = (1.0, 2.0, 4.0, 8.0, 15.0)
_MAX_FRAMES = 3


def report(camera: CameraSettings, *, frame_bytes: float, active: float, heartbeat_s: float) -> Iterator[str]:
    """The lines for one camera. `active` is the part of its hours in which something moves."""
    yield f"camera {camera.name}: {describe_schedule(camera)}"
    yield "  in view for   in 1 frame   in 2   in 3 and more"
    for view_s in _VIEWS_S:
        yield f"  {view_s:8g} s   " + "   ".join(f"{chance:7.0%}" for chance in chances(camera, view_s))
    day = bytes_per_day(camera, frame_bytes, active=active, heartbeat_s=heartbeat_s)
    yield f"  {day / 1e6:,.0f} MB a day at {frame_bytes / 1000:g} kB a frame, something moving {active:.0%} of it"
    if camera.mb_per_day is not None:
        yield from _budget_report(camera, camera.mb_per_day, day)


def chances(camera: CameraSettings, view_s: float) -> tuple[float, ...]:
    """The chances of at least 1, 2, 3 frames of something in view for `view_s`."""
    if camera.gate is None:
        times_s = [index * camera.spacing_s for index in range(camera.burst.frames)]
        return tuple(_chance(times_s, camera.every_s, view_s, least) for least in range(1, _MAX_FRAMES + 1))
    # The first look in view opens the gate and is a frame; the next frames follow at the spacing, in whole looks.
    look_s = 1.0 / camera.gate.looks_per_s
    step_s = min(look_s, camera.spacing_s)
    apart_s = math.ceil(camera.spacing_s / step_s - 0.25) * step_s
    return tuple(min(1.0, max(0.0, view_s - index * apart_s) / look_s) for index in range(_MAX_FRAMES))


def bytes_per_day(camera: CameraSettings, frame_bytes: float, *, active: float, heartbeat_s: float) -> float:
    """Bytes on the wire a day, headers included, without repeats.

    A gate is assumed to be open half as long again as something moves, for the beginnings and ends of its bursts.
    """
    sent = _stream_bytes(frame_bytes, camera.burst.frames, camera.every_s)
    if camera.gate is not None:
        open_part = min(1.0, 1.5 * active)
        sent = open_part * sent + (1 - open_part) * _stream_bytes(frame_bytes, 1, camera.gate.quiet_every_s)
    heartbeats = heartbeat_bytes(heartbeat_every_s(heartbeat_s, camera.mb_per_day)) if heartbeat_s else 0.0
    return active_fraction(camera.hours) * sent + heartbeats


def _chance(times_s: Sequence[float], period_s: float, view_s: float, least: int) -> float:
    """Of frames at `times_s`, repeated every `period_s`: the chance that at least so many are in view.

    Frame j is the first in view for arrivals since the frame before it, and `least` frames are in view for the
    arrivals of these whose view lasts until frame j + `least` - 1.
    """

    def at_s(index: int) -> float:
        periods, place = divmod(index, len(times_s))
        return periods * period_s + times_s[place]

    arrivals_s = (
        min(at_s(j) - at_s(j - 1), max(0.0, view_s - (at_s(j + least - 1) - at_s(j)))) for j in range(len(times_s))
    )
    return sum(arrivals_s) / period_s


def _budget_report(camera: CameraSettings, mb_per_day: float, day_bytes: float) -> Iterator[str]:
    """What a budget costs in what is seen. Smaller JPEGs are not counted."""
    part = mb_per_day * 1e6 / day_bytes
    if part >= 1:
        yield f"  budget {mb_per_day:g} MB a day: enough"
        return
    factor = next((factor for factor in SCHEDULE_FACTORS if part * factor >= 1), SCHEDULE_FACTORS[-1])
    factor = min(factor, camera.burst.frames)
    awake = min(1.0, part * factor)
    pause = f", and a pause for {1 - awake:.0%} of the day" if awake < 1 else ""
    yield f"  budget {mb_per_day:g} MB a day: {part:.0%} of that, so frames {factor} times as far apart{pause}"
    saving = msgspec.structs.replace(camera, burst=_thinned(camera, factor))
    for view_s in _VIEWS_S:
        before, after = chances(camera, view_s)[0], chances(saving, view_s)[0]
        yield f"  {view_s:8g} s in 1 frame: {awake * after:.0%} instead of {before:.0%}"


def _thinned(camera: CameraSettings, factor: int) -> BurstSettings:
    """The schedule with one frame of `factor`: evenly spaced if the bursts leave no gap."""
    frames, spacing_s = camera.burst.frames, camera.spacing_s * factor
    if camera.every_s > frames * camera.spacing_s:
        return BurstSettings(frames=frames // factor, spacing_s=spacing_s, every_s=camera.every_s)
    return BurstSettings(frames=1, spacing_s=spacing_s, every_s=spacing_s)


def _stream_bytes(frame_bytes: float, frames: int, every_s: float) -> float:
    """Bytes a day of one burst of so many frames every `every_s`."""
    return _DAY_S / every_s * wire_bytes(round(_REQUEST_BYTES + frames * (frame_bytes + _FRAME_HEADER_BYTES)))
