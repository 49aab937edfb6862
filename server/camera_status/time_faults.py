"""Cameras whose bursts lie at wrong times: one fault a camera, however many bursts it sends.

A burst years back changes no event (`late_within`), and one ahead of the server's clock waits. A camera whose newest
frame lies ahead of the clock was folded while the server's clock was ahead too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from policies.events import instant
from server.domain.records import CameraActivity, Marked
from server.domain.times.clock import SECOND_US

_OFF_US = 300 * SECOND_US
"""From here on a clock is wrong: bursts this far ahead wait."""

_RECENT_US = 7 * 86400 * SECOND_US
"""A burst that came too late is a finding for so long after it was received."""

_DAY_US = 86400 * SECOND_US
_AHEAD, _WAITING, _ASIDE = range(3)


class TimeFault(NamedTuple):
    """What is wrong with the times of a camera's bursts, and what to do."""

    site: str
    camera: str
    what: str
    next_step: str


def time_faults(marked: Sequence[Marked], activities: Sequence[CameraActivity], now_us: int) -> list[TimeFault]:
    """One fault for each camera that has any, by site and camera."""
    of_camera: dict[tuple[str, str], dict[int, Marked]] = {}
    for each in marked:
        of_camera.setdefault((each.site, each.camera), {})[each.late] = each
    faults = []
    for activity in activities:
        mine = of_camera.get((activity.site, activity.camera), {})
        if found := list(_findings(activity, mine, now_us)):
            what = "; ".join(what for what, _ in found)
            faults.append(
                TimeFault(activity.site, activity.camera, what, "; ".join(dict.fromkeys(s for _, s in found)))
            )
    return faults


def _findings(activity: CameraActivity, mine: dict[int, Marked], now_us: int) -> Iterator[tuple[str, str]]:
    """What is wrong, each with its next step."""
    camera = f"--site {activity.site} --camera {activity.camera}"
    offset_us = 0 if activity.heartbeat is None else activity.heartbeat.sent_at_us - activity.heartbeat.received_at_us
    if abs(offset_us) > _OFF_US:
        side = "back" if offset_us < 0 else "ahead"
        yield f"its agent's clock is {_span(abs(offset_us))} {side}", "set the clock of the agent's machine (NTP)"
    aside = mine.get(_ASIDE)
    if aside is not None and activity.set_aside_us is not None and now_us - activity.set_aside_us < _RECENT_US:
        what = f"{_bursts(aside)} came too late or were set aside, and change no event"
        yield what, f"if its clock was wrong, set it; if they shall count: sectorwatch late fold-in {camera}"
    if _AHEAD in mine:
        yield f"{_bursts(mine[_AHEAD])} are ahead of the server's clock, and wait", "set the clocks (NTP)"
    ahead_us = 0 if activity.seen is None else activity.seen.last_at_us - now_us
    if ahead_us > _OFF_US:
        since = instant(now_us + _OFF_US).isoformat(timespec="seconds").replace("+00:00", "Z")
        what = f"its newest frame is {_span(ahead_us)} ahead of the server's clock, so all that comes now is late"
        yield what, f"if that frame's time is wrong: sectorwatch late set-aside {camera} --since {since}"


def _bursts(marked: Marked) -> str:
    first, last = (f"{instant(at_us):%Y-%m-%d}" for at_us in (marked.first_at_us, marked.last_at_us))
    count = "1 burst" if marked.bursts == 1 else f"{marked.bursts} bursts"
    return f"{count} of {first}" if first == last else f"{count} of {first} to {last}"


def _span(span_us: int) -> str:
    for unit, unit_us in (("years", 365 * _DAY_US), ("days", _DAY_US), ("h", 3600 * SECOND_US)):
        if span_us >= 2 * unit_us:
            return f"{span_us / unit_us:.1f} {unit}"
    return f"{span_us / (60 * SECOND_US):.0f} min"
