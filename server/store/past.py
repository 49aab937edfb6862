"""Reading stored bursts, events and policies as they are, for `explain` and `verify`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Engine, ScalarSelect, func, select

from policies.events import Event
from server.domain.records import Annotation, BurstFacts, Checkpoint, EventRecord, LoggedEvent, PolicyRecord
from server.domain.times.clock import Clock
from server.domain.watching import CameraStretch, Neighbours, Watching
from server.store.bursts import Looks, find_bursts, longest_us, meeting, newest_burst, read_facts, read_neighbours
from server.store.compact import EventId
from server.store.engine import reading
from server.store.events.event_rows import BARE_COLUMNS, EVENT_COLUMNS, is_row_intact, logged, read_rows
from server.store.events.outbox import numbered
from server.store.rows import Part, Versions, begins_with, readable_state, stored_text
from server.store.schema import (
    annotation_rows,
    burst_records,
    bursts,
    camera_states,
    cameras,
    checkpoints,
    contexts,
    events,
    outbox,
    policies,
)

SHORTEST = 8
"""Letters of a short id at least."""

_AT_ONCE = 500
_other_events = events.alias("other_events")


class Past(Part):
    """Reads only."""

    def __init__(self, engine: Engine, clock: Clock, versions: Versions) -> None:
        super().__init__(engine, clock, versions)
        self._looks = Looks()

    def watching(self, site: str, since_us: int, until_us: int) -> list[Watching]:
        """How each camera of a site that ever sent a burst was watched from `since_us` to before `until_us`, by name.

        Silence is exact. Frames that tell nothing are found where they last for SAMPLE_US of `server.store.bursts`.
        """
        with reading(self._engine) as connection:
            return self._looks.read(connection, self._versions, site, since_us, until_us)

    def states(self, site: str, camera: str, since_us: int, until_us: int) -> list[Checkpoint]:
        """The states of a camera that are kept from `since_us` to before `until_us` and can be read, in order."""
        with reading(self._engine) as connection:
            query = (
                select(checkpoints.c.at_us, stored_text(connection, checkpoints.c.state))
                .where(checkpoints.c.site == site, checkpoints.c.camera == camera)
                .where(*_within(checkpoints.c.at_us, since_us, until_us))
                .order_by(checkpoints.c.at_us)
            )
            rows = connection.execute(query).all()
        read = [Checkpoint(at_us, readable_state(stored, at_us)) for at_us, stored in rows]
        return [each for each in read if each.state is not None]

    def burst(self, burst_id: str) -> BurstFacts | None:
        with reading(self._engine) as connection:
            return read_facts(connection, self._versions, burst_id)

    def bursts(self, site: str, camera: str, since_us: int, until_us: int) -> list[BurstFacts]:
        """A camera's bursts with a frame from `since_us` to before `until_us`, or around both, in order."""
        with reading(self._engine) as connection:
            inside = meeting(longest_us(connection, site, camera), since_us, until_us)
            return find_bursts(connection, self._versions, site, camera, inside)

    def before(self, site: str, camera: str, at_us: int, limit: int) -> list[BurstFacts]:
        """The last bursts of a camera that ended before an instant, in order."""
        with reading(self._engine) as connection:
            found = find_bursts(
                connection,
                self._versions,
                site,
                camera,
                lambda times: (times.first_at_us < at_us, times.last_at_us < at_us),
                is_newest_first=True,
                limit=limit,
            )
        return found[::-1]

    def after(self, site: str, camera: str, at_us: int, limit: int) -> list[BurstFacts]:
        """The first bursts of a camera that began at an instant or later, in order."""
        with reading(self._engine) as connection:
            return find_bursts(
                connection, self._versions, site, camera, lambda times: (times.first_at_us >= at_us,), limit=limit
            )

    def around(self, site: str, stretches: Sequence[CameraStretch]) -> list[Neighbours]:
        """The bursts before and after each stretch of a camera of a site, in a few statements for all of them."""
        if not stretches:
            return []
        with reading(self._engine) as connection:
            return read_neighbours(connection, self._versions, site, stretches)

    def first_us(self, site: str | None = None) -> dict[tuple[str, str], int]:
        """When the first burst of each camera (of a site) that is kept began (us), by site and camera."""
        begins = select(func.min(burst_records.c.first_at_us)).where(burst_records.c.camera == cameras.c.number)
        of_records = select(cameras.c.site, cameras.c.camera, begins.correlate(cameras).scalar_subquery())
        before = select(bursts.c.site, bursts.c.camera, func.min(bursts.c.first_at_us))
        before = before.group_by(bursts.c.site, bursts.c.camera)
        if site is not None:
            of_records, before = of_records.where(cameras.c.site == site), before.where(bursts.c.site == site)
        found: dict[tuple[str, str], int] = {}
        for place, camera, at_us in [*self._rows(of_records), *self._rows(before)]:
            if at_us is not None:
                found[place, camera] = min(at_us, found.get((place, camera), at_us))
        return found

    def policies_of(self, site: str, camera: str) -> list[str]:
        """The digests of the policies by which a camera's bursts were judged."""
        of_records = (
            select(contexts.c.policy).join(cameras).where(cameras.c.site == site, cameras.c.camera == camera).distinct()
        )
        before = select(bursts.c.policy).where(bursts.c.site == site, bursts.c.camera == camera).distinct()
        return sorted({row.policy for query in (of_records, before) for row in self._rows(query)})

    def bursts_by_policy(
        self, site: str, camera: str, since_us: int | None = None, until_us: int | None = None
    ) -> Counter[str]:
        """How many of a camera's bursts that began in a stretch were judged by each policy, by its digest."""
        counted: Counter[str] = Counter()
        of_records = (
            select(contexts.c.policy, func.count().label("bursts"))
            .join_from(burst_records, contexts, burst_records.c.context == contexts.c.number)
            .join(cameras, burst_records.c.camera == cameras.c.number)
            .where(cameras.c.site == site, cameras.c.camera == camera)
            .where(*_within(burst_records.c.first_at_us, since_us, until_us))
            .group_by(contexts.c.policy)
        )
        before = (
            select(bursts.c.policy, func.count().label("bursts"))
            .where(bursts.c.site == site, bursts.c.camera == camera)
            .where(*_within(bursts.c.first_at_us, since_us, until_us))
            .group_by(bursts.c.policy)
        )
        for query in (of_records, before):
            counted.update({row.policy: row.bursts for row in self._rows(query)})
        return counted

    def events_like(self, prefix: str, limit: int = 3) -> list[EventRecord]:
        """Events whose id begins with `prefix`, withdrawn ones included; at most `limit`."""
        query = (
            select(*EVENT_COLUMNS, func.coalesce(outbox.c.event_id, events.c.id, type_=EventId).label("announced"))
            .join(outbox, outbox.c.seq == events.c.seq, isouter=True)
            .where(begins_with(events.c.id, prefix))
            .order_by(events.c.id)
            .limit(limit)
        )
        with numbered(self._engine) as connection:
            return [_event_record(row) for row in read_rows(connection, query)]

    def sample(
        self, since_us: int, until_us: int, sites: frozenset[str] | None, most: int
    ) -> tuple[list[LoggedEvent], int]:
        """Events that hold, confirmed in a stretch, of these sites (None: of all), without their bursts: every n-th one
        of the stretch, so that about `most` of all sites are read; and n.
        """
        inside = (events.c.confirmed_at_us >= since_us, events.c.confirmed_at_us < until_us)
        with reading(self._engine) as connection:
            count = connection.execute(select(func.count()).select_from(events).where(*inside)).scalar_one()
            step = max(1, count // most)
            chosen = (*inside, events.c.seq % step == 0, events.c.withdrawn_at_us.is_(None), *_of_sites(sites))
            rows = connection.execute(select(*BARE_COLUMNS).where(*chosen)).all()
        return [logged(row) for row in rows], step

    def judged(self, sites: frozenset[str] | None, limit: int) -> list[tuple[Annotation, Event]]:
        """The newest annotations of events of these sites (None: of all), at most `limit`, with what they judge.

        An event that was annotated again comes once, with its newest annotation.
        """
        query = (
            select(*(annotation_rows.c[name].label(f"own_{name}") for name in Annotation.__slots__), *BARE_COLUMNS)
            .join(events, events.c.id == annotation_rows.c.subject)
            .where(annotation_rows.c.is_told == 1, *_of_sites(sites))
            .order_by(annotation_rows.c.number.desc())
            .limit(limit)
        )
        found: dict[str, tuple[Annotation, Event]] = {}
        for row in self._rows(query):
            annotation = Annotation(**{name: getattr(row, f"own_{name}") for name in Annotation.__slots__})
            found.setdefault(annotation.subject, (annotation, logged(row).event))
        return list(found.values())

    def short_ids(self, ids: Sequence[str]) -> dict[str, str]:
        """The shortest beginning of each id that names no other event and no other annotated fact; SHORTEST or more."""
        short: dict[str, str] = {}
        for start in range(0, len(ids), _AT_ONCE):
            some = ids[start : start + _AT_ONCE]
            near = select(events.c.id, *_neighbours(_other_events.c.id), *_neighbours(annotation_rows.c.subject))
            for event_id, *neighbours in self._rows(near.where(events.c.id.in_(some))):
                shared = max((_shared(event_id, other) for other in neighbours if other is not None), default=0)
                short[event_id] = event_id[: max(SHORTEST, shared + 1)]
        return short

    def policy_text(self, digest: str) -> str | None:
        """The text of a policy, whether this version can read it or not."""
        row = self._row(select(policies.c.text).where(policies.c.policy == digest))
        return row.text if row else None

    def policy(self, digest: str) -> PolicyRecord | None:
        """A policy version with its text."""
        with reading(self._engine) as connection:
            row = connection.execute(
                select(policies.c.site, policies.c.text, policies.c.body).where(policies.c.policy == digest)
            ).one_or_none()
            return row and PolicyRecord(row.site, row.text, self._versions.policy(connection, digest), row.body)

    def newest(self, site: str) -> BurstFacts | None:
        """The admitted burst of a site with the newest frame."""
        with reading(self._engine) as connection:
            mine = select(camera_states.c.camera).where(camera_states.c.site == site).order_by(camera_states.c.camera)
            of_cameras = [
                newest_burst(connection, self._versions, site, camera) for camera in connection.execute(mine).scalars()
            ]
        found = [each for each in of_cameras if each is not None]
        return max(found, key=lambda facts: facts.last_at_us, default=None)

    def edition(self, site: str, camera: str) -> int:
        """A number that grows with each change of what a camera saw before its newest folded frame: a late burst that
        is folded in, a burst that is taken out.
        """
        row = self._row(select(cameras.c.rewritten).where(cameras.c.site == site, cameras.c.camera == camera))
        return row.rewritten if row else 0

    def last_text(self, site: str) -> str | None:
        """The text of the policy that judged the newest burst of a site, whether this version can read it or not."""
        newest = self.newest(site)
        row = newest and self._row(select(policies.c.text).where(policies.c.policy == newest.policy))
        return row.text if row else None


def _within(at_us: ColumnElement[int], since_us: int | None, until_us: int | None) -> Iterator[ColumnElement[bool]]:
    if since_us is not None:
        yield at_us >= since_us
    if until_us is not None:
        yield at_us < until_us


def _of_sites(sites: frozenset[str] | None) -> Iterator[ColumnElement[bool]]:
    if sites is not None:
        yield events.c.camera.in_(select(cameras.c.number).where(cameras.c.site.in_(sorted(sites))))


def _neighbours(key: ColumnElement[str]) -> Iterator[ScalarSelect[Any]]:
    """The nearest ids below and above that of each event in a query of `events`: each one step in an index.

    PostgreSQL has no max() of bytes.
    """
    yield select(key).where(key < events.c.id).order_by(key.desc()).limit(1).correlate(events).scalar_subquery()
    yield select(key).where(key > events.c.id).order_by(key).limit(1).correlate(events).scalar_subquery()


def _shared(a: str, b: str) -> int:
    """The number of letters with which both begin."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def _event_record(row: Any) -> EventRecord:
    found = logged(row)
    columns = {name: getattr(row, name) for name in EventRecord.__slots__ if name not in ("logged", "is_intact")}
    if row.kind is None:
        columns |= {"kind": found.event.kind, "label": found.event.label}
        columns["sector"] = found.event.sector or found.event.to_sector
    return EventRecord(found, **columns, is_intact=is_row_intact(row, found.event))
