"""Occupancy as a time series: how long in each interval each sector was occupied, clear, unobserved or not kept."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal, get_args

from policies.events import instant
from server.analysis.day import SpanState
from server.analysis.exports.tables import Row
from server.analysis.occupancy_series import LaneSpan, Store, occupancy_series
from server.domain.records import CameraHead
from server.domain.times.clock import SECOND_US

Every = Literal["1min", "5min", "1h"]
EVERY_US: dict[Every, int] = {"1min": 60 * SECOND_US, "5min": 300 * SECOND_US, "1h": 3600 * SECOND_US}
"""Each divides an hour, so that no interval lies in two parts of a series but where frames cease to be kept."""

_STATES: tuple[SpanState, ...] = get_args(SpanState)

Lane = tuple[str, str]


def occupancy_rows(
    store: Store,
    cameras: Iterable[CameraHead],
    since_us: int | None,
    until_us: int,
    every: Every,
    now_us: int,
) -> Iterator[Row]:
    """The rows of `OCCUPANCY` from `since_us` to before `until_us`, camera by camera, each in order of time.

    Without `since_us` each camera begins with its first kept burst.
    """
    for head in cameras:
        first = store.past.after(head.site, head.camera, 0, 1)
        from_us = since_us if since_us is not None or not first else first[0].first_at_us
        if from_us is None:
            continue
        parts = occupancy_series(store, head.site, head.camera, from_us, until_us, now_us)
        for at_us, lane, lasts_us in _intervals(parts, EVERY_US[every]):
            seconds = [lasts_us.get(state, 0) / SECOND_US for state in _STATES]
            total_s = sum(lasts_us.values()) / SECOND_US
            yield (head.site, head.camera, *lane, instant(at_us), total_s, *seconds)


def _intervals(parts: Iterable[list[LaneSpan]], every_us: int) -> Iterator[tuple[int, Lane, dict[SpanState, int]]]:
    """How long each sector and target has which state (us), interval by interval."""
    waiting: dict[int, dict[Lane, dict[SpanState, int]]] = {}
    for spans in parts:
        for span in spans:
            for begin_us, lasts_us in _cut(span, every_us):
                lane = waiting.setdefault(begin_us, {}).setdefault((span.sector, span.target), {})
                lane[span.state] = lane.get(span.state, 0) + lasts_us
        newest_us = max(waiting, default=0)
        for begin_us in sorted(set(waiting) - {newest_us}):
            yield from _of_interval(begin_us, waiting.pop(begin_us))
    for begin_us in sorted(waiting):
        yield from _of_interval(begin_us, waiting[begin_us])


def _of_interval(
    begin_us: int, lanes: dict[Lane, dict[SpanState, int]]
) -> Iterator[tuple[int, Lane, dict[SpanState, int]]]:
    for lane, lasts_us in lanes.items():
        yield begin_us, lane, lasts_us


def _cut(span: LaneSpan, every_us: int) -> Iterator[tuple[int, int]]:
    """The interval's begin, and how much of it the span takes."""
    at_us = span.from_us
    while at_us < span.until_us:
        begin_us = at_us // every_us * every_us
        end_us = min(begin_us + every_us, span.until_us)
        yield begin_us, end_us - at_us
        at_us = end_us
