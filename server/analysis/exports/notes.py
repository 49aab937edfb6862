"""What the rows of events and observations do not show: what is no longer kept, and when nobody watched."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from typing import Protocol

from server.delivery.gone_text import gone_lines
from server.domain.keeping import DAY_US, Gone
from server.domain.records import CameraHead
from server.domain.watching import Watching

_MOST_CAMERA_DAYS = 400
"""Days of cameras that are looked through before an export; each takes some 25 ms."""


class Past(Protocol):
    def watching(self, site: str, since_us: int, until_us: int) -> list[Watching]: ...


class Retention(Protocol):
    def gone(self, site: str, camera: str) -> Gone: ...


class Store(Protocol):
    @property
    def past(self) -> Past: ...
    @property
    def retention(self) -> Retention: ...


def kept_notes(
    store: Store,
    cameras: Sequence[CameraHead],
    since_us: int | None,
    until_us: int | None,
    time_of: Callable[[int], str],
    *,
    events_only: bool,
) -> Iterator[str]:
    """What of a stretch is no longer kept; `time_of` writes an instant. `events_only`: of the event log alone."""
    for head in cameras:
        gone = store.retention.gone(head.site, head.camera).within(since_us, until_us)
        yield from gone_lines(gone, time_of, events_only=events_only)


def watched_notes(store: Store, cameras: Sequence[CameraHead], since_us: int, until_us: int) -> Iterator[str]:
    """How long each camera was not watched in a stretch: no event of that time does not mean that nothing happened."""
    says_when = "`sectorwatch export occupancy` says when"
    if len(cameras) * (until_us - since_us) > _MOST_CAMERA_DAYS * DAY_US:
        yield f"a stretch without events or observations may be one in which nobody watched: {says_when}"
        return
    unwatched_us = Counter[tuple[str, str]]()
    for site in dict.fromkeys(head.site for head in cameras):
        for day_us in range(since_us, until_us, DAY_US):
            end_us = min(day_us + DAY_US, until_us)
            for each in store.past.watching(site, day_us, end_us):
                unwatched_us[site, each.camera] += _unwatched_us(each, day_us, end_us)
    for head in cameras:
        if lasts_us := unwatched_us[head.site, head.camera]:
            lasts = timedelta(seconds=round(lasts_us / 1e6))
            yield f"{head.site}/{head.camera} was not watched for {lasts} (h:mm:ss) of that time: {says_when}"


def _unwatched_us(watching: Watching, since_us: int, until_us: int) -> int:
    if watching.policy is None:
        return until_us - since_us
    inside = [(max(each.from_us, since_us), min(each.until_us, until_us)) for each in watching.unseen]
    before_us = 0 if watching.since_us is None else watching.since_us - since_us
    return before_us + sum(max(0, end_us - from_us) for from_us, end_us in inside)
