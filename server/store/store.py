"""The store: turns, bursts, events, and the parts that are in modules of their own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import msgspec
from sqlalchemy import Engine, func, select

from policies.fusion.judgement import Judgement
from policies.observation import Observation
from policies.site.site_policy import SitePolicy
from server.domain.clock import Clock, now_us
from server.domain.errors import Unknown
from server.domain.records import (
    CameraHead,
    Checkpoint,
    KeptBurst,
    Known,
    LoggedEvent,
    Recorded,
    Status,
)
from server.store import outbox
from server.store.annotations import Annotations
from server.store.backup import backup
from server.store.channels import Channels
from server.store.engine import open_engine, reading, writing
from server.store.event_query import events_query
from server.store.heartbeats import Heartbeats
from server.store.migrate import Revision, revision, upgrade
from server.store.notices import Notices
from server.store.past import Past
from server.store.revival import revive
from server.store.rows import (
    EVENT_COLUMNS,
    Versions,
    folded_of,
    logged,
    observation_query,
    read_checkpoint,
    read_known,
    read_observations,
)
from server.store.schema import (
    bursts,
    camera_states,
    decisions,
    events,
    metadata,
    observations,
)
from server.store.tokens import Tokens
from server.store.turn import Turn


def open_store(url: str, clock: Clock = now_us) -> Store:
    """The store at a database URL. It does not connect or create anything yet: see `Store.upgrade`."""
    return Store(open_engine(url), clock)


class Store(Channels, Tokens):
    """One database. Safe to use from several threads, and from several processes.

    Every method raises RetryLater when the database does not answer, Unprocessable for a value it cannot store, and
    ConfigurationError for a database that is damaged or none. Nothing is changed then.
    """

    def __init__(self, engine: Engine, clock: Clock) -> None:
        self._engine = engine
        self._clock = clock
        self._versions = Versions()

    @property
    def past(self) -> Past:
        """Stored bursts, events and policies, for `explain` and `verify`."""
        return Past(self._engine, self._versions)

    @property
    def annotations(self) -> Annotations:
        """People's annotations of events."""
        return Annotations(self._engine, self._clock)

    @property
    def heartbeats(self) -> Heartbeats:
        """Heartbeats, and what else shows whether cameras are watched."""
        return Heartbeats(self._engine, self._clock)

    @property
    def notices(self) -> Notices:
        """Notices about the server."""
        return Notices(self._engine, self._clock)

    @property
    def name(self) -> str:
        """The database's URL without its password."""
        return self._engine.url.render_as_string(hide_password=True)

    def upgrade(self) -> Revision:
        """Migrate the tables to this version's schema, and make each camera's state readable. Safe to repeat."""
        after = upgrade(self._engine)
        with writing(self._engine, lock="schema") as connection:
            revive(connection, self._versions)
        return after

    def revision(self) -> Revision:
        """The schema of the database, and the one this version needs."""
        return revision(self._engine)

    def backup(self, file: Path) -> None:
        """Copy the database at this instant, while others write to it. Raises ConfigurationError or Conflict."""
        backup(self._engine, file)

    def close(self) -> None:
        """Close all connections. The store may be used again afterwards."""
        self._engine.dispose()

    @contextmanager
    def turn(self, site: str, camera: str) -> Iterator[Turn]:
        """One camera's turn: no other turn of this camera runs at the same time. Leaving the block commits."""
        with writing(self._engine, lock=f"{site}/{camera}") as connection:
            yield Turn(connection, self._versions, site, camera, self._clock())

    def known(self, burst_id: str) -> Known | None:
        """A stored burst's digest and status; None for an unknown burst."""
        with reading(self._engine) as connection:
            return read_known(connection, burst_id)

    def kept(self, burst_id: str) -> KeptBurst:
        """A stored burst, with the events that its frames settled and that hold. Raises Unknown."""
        with reading(self._engine) as connection:
            row = connection.execute(select(bursts).where(bursts.c.burst_id == burst_id)).one_or_none()
            if row is None:
                raise Unknown(f"no burst {burst_id}")
            query = observation_query().where(observations.c.burst_id == burst_id)
            seen = read_observations(connection, query, self._versions)
            holding = (
                select(*EVENT_COLUMNS)
                .where(events.c.burst_id == burst_id, events.c.withdrawn_at_us.is_(None))
                .order_by(events.c.confirmed_at_us, events.c.place)
            )
            return KeptBurst(
                burst_id=row.burst_id,
                site=row.site,
                camera=row.camera,
                status=cast(Status, row.status),
                late=bool(row.late),
                ensemble_info=self._versions.ensemble_info(connection, row.ensemble),
                policy=row.policy,
                observations=tuple(recorded.observation for recorded in seen),
                events=tuple(logged(event) for event in connection.execute(holding)),
            )

    def decisions(self, burst_id: str) -> list[Judgement]:
        """The decision record of a burst: the judgement of each frame at its acceptance. Raises Unknown."""
        with reading(self._engine) as connection:
            query = select(decisions.c.body).where(decisions.c.burst_id == burst_id)
            body = connection.execute(query).scalar_one_or_none()
        if body is None:
            raise Unknown(f"no burst {burst_id}")
        return msgspec.json.decode(body, type=list[Judgement])

    def cameras(self) -> list[CameraHead]:
        """All cameras that ever advanced, by site and camera."""
        query = select(
            camera_states.c.site, camera_states.c.camera, camera_states.c.last_at_us, camera_states.c.changed_at_us
        ).order_by(camera_states.c.site, camera_states.c.camera)
        with reading(self._engine) as connection:
            return [CameraHead(*row) for row in connection.execute(query)]

    def held(self, until_us: int) -> list[tuple[str, str]]:
        """Cameras (site, camera) with held bursts that end by `until_us`."""
        query = (
            select(bursts.c.site, bursts.c.camera)
            .where(bursts.c.status == "held", bursts.c.last_at_us <= until_us)
            .distinct()
            .order_by(bursts.c.site, bursts.c.camera)
        )
        with reading(self._engine) as connection:
            return [(row.site, row.camera) for row in connection.execute(query)]

    def history(
        self, site: str, camera: str, since_us: int | None = None, until_us: int | None = None
    ) -> Iterator[Recorded]:
        """A camera's folded frames from `since_us` to before `until_us`, in order, with policy digests."""
        query = observation_query().where(*folded_of(site, camera))
        if since_us is not None:
            query = query.where(observations.c.at_us >= since_us)
        if until_us is not None:
            query = query.where(observations.c.at_us < until_us)
        with reading(self._engine) as connection:
            yield from read_observations(connection, query, self._versions)

    def observations(
        self, site: str, camera: str, since_us: int | None = None, until_us: int | None = None
    ) -> Iterator[Observation]:
        """As `history`, without the policy digests."""
        return (recorded.observation for recorded in self.history(site, camera, since_us, until_us))

    def checkpoint(self, site: str, camera: str, before_us: int) -> Checkpoint:
        """The newest state of a camera before an instant; the empty one if there is none."""
        with reading(self._engine) as connection:
            return read_checkpoint(connection, site, camera, before_us)

    def policy(self, digest: str) -> SitePolicy:
        """The policy of a digest, as it was when it judged its first burst."""
        with reading(self._engine) as connection:
            return self._versions.policy(connection, digest)

    def events(
        self,
        since_us: int | None = None,
        until_us: int | None = None,
        site: str | None = None,
        camera: str | None = None,
        kind: str | None = None,
        after_seq: int | None = None,
        limit: int | None = None,
        withdrawn: bool = False,
    ) -> list[LoggedEvent]:
        """Events confirmed from `since_us` to before `until_us` that hold, in order of time.

        With `withdrawn`, withdrawn ones as well. With `after_seq` the answer is for a follower: every announcement
        since then in order of `seq`, withdrawals included.
        """
        query = events_query(since_us, until_us, site, camera, kind, after_seq, withdrawn)
        if limit is not None:
            query = query.limit(limit)
        with reading(self._engine) as connection:
            return [logged(row) for row in connection.execute(query)]

    def last_seq(self) -> int:
        """The number of the newest announcement; 0 before the first."""
        with reading(self._engine) as connection:
            return outbox.last_seq(connection)

    def counts(self) -> dict[str, int]:
        """Rows in each table."""
        with reading(self._engine) as connection:
            return {
                table.name: connection.execute(select(func.count()).select_from(table)).scalar_one()
                for table in metadata.sorted_tables
            }
