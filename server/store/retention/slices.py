"""Deleting a camera's bursts a slice at a time, beside turns, so that a fold over what is left stays exact.

A slice is a few bursts in a row that no other burst overlaps. Their state is folded outside any lock; the short
transaction that deletes them stores it in `removals`, and every later fold goes on from it. If a late burst has changed
that past meanwhile, the slice is planned again. A process that is killed leaves whole slices.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import msgspec
from sqlalchemy import Column, ColumnElement, Connection, Engine, Row, Select, delete, insert, select, update

from policies.fold import State, encode_state
from server.domain.errors import SectorwatchError
from server.domain.folding.refold import steps
from server.domain.records import BurstFacts, Checkpoint
from server.store.bursts import (
    Times,
    burst_times,
    count_rewriting,
    delete_bursts,
    delete_held,
    find_bursts,
    is_newer_before,
    last_number,
    read_frames,
)
from server.store.engine import reading, writing
from server.store.events.event_rows import spell_out
from server.store.rows import Versions, read_checkpoint
from server.store.schema import camera_states, checkpoints, keeping, removals

log = logging.getLogger(__name__)

AT_ONCE = 50
"""Bursts in a slice."""
_MOST = 64 * AT_ONCE
_OLDEST_US = -(2**62)
_NO_STATE = (SectorwatchError, msgspec.MsgspecError, ValueError, LookupError, TypeError)
"""What a fold of damaged or unreadable bursts raises."""


@dataclass(frozen=True, slots=True)
class Region:
    """Bursts of a camera that begin from `since_us` (None: the first) and end before `until_us`, but for those that
    overlap one of the stretches to `stay` (first and last instant, in order).
    """

    site: str
    camera: str
    since_us: int | None
    until_us: int
    stay: Sequence[tuple[int, int]] = ()

    @property
    def lock(self) -> str:
        return f"{self.site}/{self.camera}"

    @property
    def is_border(self) -> bool:
        """Whether it begins with the first burst, so that older ones are not accepted any more."""
        return self.since_us is None


@dataclass(frozen=True, slots=True)
class Slice:
    """Bursts to be deleted, and the state at their end (JSON) with its policy.

    `start` is where their fold begins, `number` that of the newest record when it was planned.
    """

    bursts: Sequence[BurstFacts]
    start: Checkpoint
    number: int
    policy: str
    state: str

    @property
    def first_us(self) -> int:
        return self.bursts[0].first_at_us

    @property
    def last_us(self) -> int:
        """The instant of the last frame."""
        return max(burst.last_at_us for burst in self.bursts)


def slices(engine: Engine, versions: Versions, region: Region) -> Iterator[Slice]:
    """The region's bursts, slice by slice; each is to be deleted by `remove` before the next is asked for."""
    place_us = _OLDEST_US if region.since_us is None else region.since_us
    while True:
        with reading(engine) as connection:
            number, run = last_number(connection), next_run(connection, versions, region, place_us)
            if not run:
                return
            planned = _planned(connection, versions, region, run, number)
        yield planned
        place_us = planned.first_us  # what a late burst brought meanwhile is planned again


def next_run(connection: Connection, versions: Versions, region: Region, place_us: int) -> list[BurstFacts]:
    """The next bursts in a row to be deleted, from those that begin at `place_us`; none where none is left."""
    limit = AT_ONCE
    while True:
        page = _page(connection, versions, region, place_us, limit + 1)
        is_last = len(page) <= limit
        run, stayed = _run(page, region, is_whole=is_last)
        if run or is_last or limit > _MOST:
            return run
        if stayed == len(page) and page[-1].first_at_us > place_us:
            place_us = page[-1].first_at_us  # the last one is looked at again
        else:
            limit *= 2


def _run(page: Sequence[BurstFacts], region: Region, *, is_whole: bool) -> tuple[list[BurstFacts], int]:
    """The first bursts of a page that can go together, and how many stay before them.

    What overlaps a burst that stays, stays as well. `is_whole`: no burst follows the page.
    """
    run: list[BurstFacts] = []
    stayed, stays_until, clean, last_us = 0, _OLDEST_US, 0, _OLDEST_US
    for burst in page:
        if run and burst.first_at_us > last_us:
            clean = len(run)
        stays = burst.last_at_us >= region.until_us or burst.first_at_us <= stays_until or _meets(burst, region.stay)
        if clean and (stays or len(run) >= AT_ONCE):
            return run[:clean], stayed
        last_us = max(last_us, burst.last_at_us)
        if stays:
            stayed, stays_until, run = stayed + len(run) + 1, last_us, []
        else:
            run.append(burst)
    return (run if is_whole else run[:clean]), stayed


def _meets(burst: BurstFacts, stretches: Sequence[tuple[int, int]]) -> bool:
    return any(first <= burst.last_at_us and burst.first_at_us <= last for first, last in stretches)


def _planned(
    connection: Connection, versions: Versions, region: Region, run: Sequence[BurstFacts], number: int
) -> Slice:
    site, camera = region.site, region.camera
    start, last_us = read_checkpoint(connection, site, camera, run[0].first_at_us), max(b.last_at_us for b in run)
    after_us = None if start.at_us is None else start.at_us + 1
    try:
        frames = read_frames(connection, versions, site, camera, after_us, last_us + 1)
        (last,) = deque(steps(frames, start, partial(versions.policy, connection)), maxlen=1)
        state = last.state
    except _NO_STATE as error:
        log.warning(
            "the state after deleted bursts cannot be folded; their camera begins anew after them",
            extra={"site": site, "camera": camera, "burst": run[-1].burst_id, "cause": str(error)},
        )
        state = State(last_at_us=last_us)
    return Slice(run, start, number, run[-1].policy, encode_state(state).decode())


def remove(engine: Engine, versions: Versions, region: Region, planned: Slice) -> int:
    """Delete a slice, in one short transaction; how many bursts went, 0 if that past has changed meanwhile."""
    with writing(engine, lock=region.lock) as connection:
        return remove_within(connection, versions, region, planned)


def remove_within(connection: Connection, versions: Versions, region: Region, planned: Slice) -> int:
    """As `remove`, in the caller's transaction, which holds the camera's lock."""
    site, camera = region.site, region.camera
    if not _is_as_planned(connection, versions, region, planned):
        return 0
    count_rewriting(connection, site, camera)
    count = delete_bursts(connection, site, camera, planned.first_us, planned.bursts[-1].first_at_us, spell_out)
    mine = (checkpoints.c.site == site, checkpoints.c.camera == camera)
    inside = checkpoints.c.at_us.between(planned.first_us, planned.last_us)
    connection.execute(delete(checkpoints).where(*mine, inside))
    _move_head(connection, region, planned)
    _note(connection, region, planned)
    if region.is_border:
        move_border(connection, (site, camera), keeping.c.bursts_from_us, planned.last_us + 1)
        count += delete_held(connection, site, camera, _OLDEST_US, planned.last_us + 1, spell_out)
    return count


def move_border(connection: Connection, name: tuple[str, str], column: Column[int], at_us: int) -> None:
    """Keep a camera's bursts or events from an instant on; the border never goes back."""
    mine = (keeping.c.site == name[0], keeping.c.camera == name[1])
    is_later = column.is_(None) | (column < at_us)
    connection.execute(update(keeping).where(*mine, is_later).values({column.name: at_us}))


def _is_as_planned(connection: Connection, versions: Versions, region: Region, planned: Slice) -> bool:
    site, camera = region.site, region.camera
    if is_newer_before(connection, site, camera, planned.number, planned.last_us):
        return False
    present = _page(connection, versions, region, planned.first_us, len(planned.bursts))
    return present == planned.bursts and read_checkpoint(connection, site, camera, planned.first_us) == planned.start


def _move_head(connection: Connection, region: Region, planned: Slice) -> None:
    """A head in what is deleted goes to its end: the frames that lead there are gone."""
    mine = (camera_states.c.site == region.site, camera_states.c.camera == region.camera)
    connection.execute(
        update(camera_states)
        .where(*mine, camera_states.c.last_at_us <= planned.last_us)
        .values(last_at_us=planned.last_us, state=planned.state, policy=planned.policy)
    )


def _note(connection: Connection, region: Region, planned: Slice) -> None:
    """Write the stretch that is gone, made one with those that it touches: no burst lies between them."""
    from_us: int | None = planned.first_us
    until_us, state = planned.last_us + 1, planned.state
    before, after = _neighbours(connection, region, planned)
    if before is not None and not _is_burst_between(connection, region, before.until_us, planned.first_us):
        from_us = before.from_us
        connection.execute(delete(removals).where(removals.c.number == before.number))
    elif region.is_border and not _is_burst_between(connection, region, _OLDEST_US, planned.first_us):
        from_us = None
    if after is not None and not _is_burst_between(connection, region, until_us, after.from_us):
        until_us, state = after.until_us, after.state
        connection.execute(delete(removals).where(removals.c.number == after.number))
    row = {"site": region.site, "camera": region.camera, "from_us": from_us, "until_us": until_us, "state": state}
    connection.execute(insert(removals), row)


def _neighbours(connection: Connection, region: Region, planned: Slice) -> tuple[Row[Any] | None, Row[Any] | None]:
    """The removals before and after a slice, None where there is none."""
    columns = (removals.c.number, removals.c.from_us, removals.c.until_us, removals.c.state)
    query = select(*columns).where(removals.c.site == region.site, removals.c.camera == region.camera).limit(1)
    end_us = removals.c.until_us
    before = query.where(end_us <= planned.first_us).order_by(end_us.desc())
    after = query.where(end_us > planned.last_us).order_by(end_us)
    return _first(connection, before), _first(connection, after)


def _first(connection: Connection, query: Select[Any]) -> Row[Any] | None:
    return connection.execute(query).one_or_none()


def _is_burst_between(connection: Connection, region: Region, since_us: int, until_us: int) -> bool:
    def between(times: Times) -> tuple[ColumnElement[bool], ...]:
        return times.first_at_us >= since_us, times.first_at_us < until_us

    return bool(burst_times(connection, region.site, region.camera, between, 1))


def _page(connection: Connection, versions: Versions, region: Region, place_us: int, limit: int) -> list[BurstFacts]:
    """The camera's folded bursts that begin in the region at `place_us` or later, in order.

    No burst after the region is read: it may be damaged.
    """
    return find_bursts(
        connection,
        versions,
        region.site,
        region.camera,
        lambda times: (times.first_at_us >= place_us, times.first_at_us < region.until_us),
        limit=limit,
        with_held=False,
    )
