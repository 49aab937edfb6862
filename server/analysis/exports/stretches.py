"""A camera's past in stretches of an hour, so that no query holds the database while a slow reader takes the rows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from server.domain.records import BurstFacts, CameraHead, Recorded
from server.domain.times.clock import SECOND_US

HOUR_US = 3600 * SECOND_US
"""No burst lasts longer: `server.domain.burst.Limits`."""


class Past(Protocol):
    def after(self, site: str, camera: str, at_us: int, limit: int) -> list[BurstFacts]: ...


class Store(Protocol):
    @property
    def past(self) -> Past: ...
    def history(
        self, site: str, camera: str, since_us: int | None = ..., until_us: int | None = ...
    ) -> Iterator[Recorded]: ...


def recorded_by_hour(
    store: Store, head: CameraHead, since_us: int | None, until_us: int | None
) -> Iterator[list[Recorded]]:
    """A camera's folded frames from `since_us` to before `until_us`, in order, those of an hour at once.

    Hours without a frame are skipped.
    """
    end_us = head.last_at_us + 1 if until_us is None else min(until_us, head.last_at_us + 1)
    from_us = since_us
    while True:
        if from_us is None:
            from_us = _next_burst(store, head, 0)
        if from_us is None or from_us >= end_us:
            return
        until_hour_us = min((from_us // HOUR_US + 1) * HOUR_US, end_us)
        frames = list(store.history(head.site, head.camera, from_us, until_hour_us))
        if frames:
            yield frames
            from_us = until_hour_us
        elif (found_us := _next_burst(store, head, until_hour_us)) is None:
            return
        else:
            from_us = found_us


def _next_burst(store: Store, head: CameraHead, at_us: int) -> int | None:
    """The first frame of the next burst; None when there is no more."""
    return next((facts.first_at_us for facts in store.past.after(head.site, head.camera, at_us, 1)), None)
