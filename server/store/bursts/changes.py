"""Which cameras did something since the last look, so that of thousands only those are read again.

All that decides a camera's activity changes its mark, which the database makes and which is small. The marks of whole
sites are looked at first; of a site whose mark has changed, those of its cameras. A quiet burst changes no row but its
own: it is found by its number.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Collection
from typing import Any, NamedTuple, TypeVar

from sqlalchemy import BigInteger, ColumnElement, Connection, Engine, FromClause, cast, func, select

from server.store.bursts.deletion import last_number
from server.store.bursts.records import AT_ONCE, IS_HELD
from server.store.engine import IDLE_TIMEOUT_S, reading
from server.store.schema import burst_records, camera_states, cameras, heartbeats, keeping, removals

Mark = int
"""The hash of counts and sums: a few bytes for each of many cameras."""
Name = tuple[str, str]
_Key = TypeVar("_Key", str, Name)

_UNCOMMITTED_S = 2 * IDLE_TIMEOUT_S
"""How long a burst may have its number before others see it."""
_BEFORE = 200
"""Numbers before the newest that are looked at again: a number comes again where the last ones were erased."""
_MODULUS = 2**40
"""Of what is summed: instants of many cameras in microseconds would be more than SQLite's 64 bits."""


class _Marked(NamedTuple):
    """Rows that are counted and whose columns are summed, each with `site` and `camera` of its camera."""

    site: ColumnElement[str]
    camera: ColumnElement[str]
    rows: FromClause
    summed: tuple[ColumnElement[Any], ...]
    which: tuple[ColumnElement[bool], ...] = ()


_MARKED = (
    _Marked(
        heartbeats.c.site,
        heartbeats.c.camera,
        heartbeats,
        (heartbeats.c.started_at_us, heartbeats.c.sent_at_us, heartbeats.c.received_at_us),
    ),
    _Marked(
        camera_states.c.site,
        camera_states.c.camera,
        camera_states,
        (camera_states.c.last_at_us, camera_states.c.changed_at_us),
    ),
    _Marked(cameras.c.site, cameras.c.camera, cameras, (cameras.c.longest_us, cameras.c.rewritten)),
    _Marked(
        cameras.c.site,
        cameras.c.camera,
        cameras.join(burst_records, burst_records.c.camera == cameras.c.number),
        (burst_records.c.number, burst_records.c.late),
        (IS_HELD,),
    ),
    _Marked(keeping.c.site, keeping.c.camera, keeping, (func.coalesce(keeping.c.bursts_from_us, -1),)),
    _Marked(removals.c.site, removals.c.camera, removals, (removals.c.number,)),
)


class Changed(NamedTuple):
    """The cameras whose activity may have changed since the look before (at the first look: all), and those that are
    gone.
    """

    names: set[Name]
    gone: set[Name]


class Changes:
    """Looks for changes. Not safe to use from several threads at once. Constructing reads nothing."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._sites: dict[str, Mark] = {}
        self._cameras: dict[str, dict[str, Mark]] = {}
        self._numbers: dict[Name, int] = {}
        self._newest: deque[tuple[float, int]] = deque()

    def look(self) -> Changed:
        """What has changed. What is read afterwards is at least as new."""
        with reading(self._engine) as connection:
            sites, newest = marks_of_sites(connection), last_number(connection)
            other = {site for site in {*sites, *self._sites} if sites.get(site) != self._sites.get(site)}
            marks: dict[str, dict[str, Mark]] = {site: {} for site in other}
            for (site, camera), mark in marks_of_cameras(connection, other & sites.keys()).items():
                marks[site][camera] = mark
            numbers = newest_numbers(connection, self._from_number(newest))
        changed, gone = set[Name](), set[Name]()
        for site, mine in marks.items():
            before = self._cameras.get(site, {})
            changed |= {(site, camera) for camera, mark in mine.items() if mark != before.get(camera)}
            gone |= {(site, camera) for camera in before.keys() - mine.keys()}
        is_first = not self._sites
        moved = {name for name, number in numbers.items() if number != self._numbers.get(name)}
        self._sites = sites
        self._cameras = {site: marks.get(site) or self._cameras[site] for site in sites}
        self._numbers = numbers
        return Changed(changed if is_first else changed | moved, gone)

    def _from_number(self, newest: int) -> int:
        """From where on bursts are looked at: what was not committed at the last look may have a number before."""
        now_s = time.monotonic()
        self._newest.append((now_s, newest))
        while len(self._newest) > 1 and self._newest[1][0] < now_s - _UNCOMMITTED_S:
            self._newest.popleft()
        return min(newest, self._newest[0][1]) - _BEFORE


def marks_of_sites(connection: Connection) -> dict[str, Mark]:
    """The mark of each site: it changes with all that a camera of it does, but for a burst (`newest_numbers`)."""
    found: list[dict[str, tuple[int, ...]]] = []
    for each in _MARKED:
        query = select(each.site, *_sums(each)).select_from(each.rows).where(*each.which).group_by(each.site)
        found.append({site: tuple(sums) for site, *sums in connection.execute(query)})
    return _joined(found)


def marks_of_cameras(connection: Connection, sites: Collection[str]) -> dict[Name, Mark]:
    """The mark of each camera of these sites, likewise."""
    found: list[dict[Name, tuple[int, ...]]] = []
    wanted = sorted(sites)
    for each in _MARKED:
        mine: dict[Name, tuple[int, ...]] = {}
        columns = (each.site, each.camera)
        for begin in range(0, len(wanted), AT_ONCE):
            query = select(*columns, *_sums(each)).select_from(each.rows).group_by(*columns)
            query = query.where(each.site.in_(wanted[begin : begin + AT_ONCE]), *each.which)
            mine |= {(site, camera): tuple(sums) for site, camera, *sums in connection.execute(query)}
        found.append(mine)
    return _joined(found)


def newest_numbers(connection: Connection, after: int) -> dict[Name, int]:
    """The number of the newest burst of each camera with bursts after this number. A camera's turns commit in order."""
    newest = (
        select(burst_records.c.camera, func.max(burst_records.c.number).label("number"))
        .where(burst_records.c.number > after)
        .group_by(burst_records.c.camera)
        .subquery()
    )
    query = select(cameras.c.site, cameras.c.camera, newest.c.number).join(newest, newest.c.camera == cameras.c.number)
    return {(row.site, row.camera): row.number for row in connection.execute(query)}


def _sums(marked: _Marked) -> list[ColumnElement[int]]:
    wide = (cast(column, BigInteger) % _MODULUS for column in marked.summed)
    return [func.count(), *(cast(func.sum(each), BigInteger) for each in wide)]


def _joined(found: list[dict[_Key, tuple[int, ...]]]) -> dict[_Key, Mark]:
    return {key: hash(tuple(sums.get(key, ()) for sums in found)) for key in {key for sums in found for key in sums}}
