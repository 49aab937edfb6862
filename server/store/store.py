"""The store: turns, bursts, events, and the parts that are in modules of their own."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict
from pathlib import Path

import msgspec
from sqlalchemy import Connection, Engine, func, select

from policies.fusion.judgement import Judgement
from policies.observation import Observation
from policies.site.site_policy import SitePolicy
from server.domain.clock import Clock, now_us
from server.domain.errors import ConfigurationError, DatabaseDamaged, RetryLater, Unknown
from server.domain.records import (
    CameraHead,
    Checkpoint,
    KeptBurst,
    Known,
    Recorded,
)
from server.store.annotations import Annotations
from server.store.care.copying import copy_sqlite
from server.store.care.derived import mending, remake_derived
from server.store.care.integrity import Integrity, check_integrity
from server.store.care.restoring import restore_sqlite
from server.store.care.salvage import Saved, salvage_sqlite
from server.store.channels import Channels
from server.store.engine import open_engine, open_to_read, reading, shown_url, sqlite_file, writing
from server.store.event_log import EventLog
from server.store.heartbeats import Heartbeats
from server.store.migrate import Revision, revision, upgrade
from server.store.outbox import Notices
from server.store.past import Past
from server.store.revival import readable_head, revive, unreadable_states
from server.store.rows import (
    BURST_COLUMNS,
    EVENT_COLUMNS,
    Versions,
    burst_facts,
    folded_of,
    logged,
    observation_query,
    read_checkpoint,
    read_heads,
    read_known,
    read_observations,
)
from server.store.schema import (
    bursts,
    decisions,
    events,
    metadata,
    observations,
)
from server.store.sqlite_files import access_fault
from server.store.tokens import Tokens
from server.store.turn import Turn


def open_store(url: str, clock: Clock = now_us) -> Store:
    """The store at a database URL. It does not connect or create anything yet: see `Store.upgrade`."""
    return Store(open_engine(url), clock)


class Store(Channels, EventLog, Tokens):
    """One database. Safe to use from several threads, and from several processes.

    Every method raises RetryLater when the database does not answer, Unprocessable for a value it cannot store, and
    ConfigurationError for a database that is damaged or none. Nothing is changed then.

    `past` holds stored bursts, events and policies, for `explain` and `verify`. `heartbeats` shows which cameras are
    watched. `annotations` are people's verdicts, `notices` concern the server.
    """

    def __init__(self, engine: Engine, clock: Clock) -> None:
        super().__init__(engine, clock, Versions())
        self.past = Past(engine, clock, self._versions)
        self.annotations = Annotations(engine, clock, self._versions)
        self.heartbeats = Heartbeats(engine, clock, self._versions)
        self.notices = Notices(engine, clock, self._versions)

    @property
    def name(self) -> str:
        """The database's URL without its password."""
        return shown_url(self._engine)

    def upgrade(self) -> Revision:
        """Migrate the tables to this version's schema, and make each camera's state readable. Safe to repeat."""
        after = upgrade(self._engine)
        mending(self._engine, self._versions, self._revive)
        return after

    def _revive(self) -> None:
        with writing(self._engine, lock="schema") as connection:
            revive(connection, self._versions)

    def revision(self) -> Revision:
        """The schema of the database, and the one this version needs."""
        return revision(self._engine)

    def backup(self, file: Path) -> str:
        """Copy the database at this instant, while others write to it. Returns what was checked before.

        Raises ConfigurationError, DatabaseDamaged or Conflict.
        """
        return copy_sqlite(self._engine, file)

    def write_fault(self) -> str | None:
        """Why this process cannot write a SQLite database that is there; None where it can, and for PostgreSQL."""
        file = sqlite_file(self._engine)
        return None if file is None else access_fault(file)

    def integrity(self, within_s: float = math.inf) -> Integrity | None:
        """Whether the file is whole, by SQLite's own checks; None for PostgreSQL."""
        return check_integrity(self._engine, within_s)

    def restore(self, backup: Path) -> Path | None:
        """Put a backup in the place of the database. Returns where the database of before is now, if there was one.

        The backup may have an older schema. Raises ConfigurationError for one that cannot be used, DatabaseDamaged, and
        Conflict while another process has the database open.
        """
        file = sqlite_file(self._engine)
        if file is None:
            raise ConfigurationError("only SQLite is restored here; for PostgreSQL use pg_restore")
        if not backup.is_file():
            raise ConfigurationError(f"there is no file {backup}")
        if file.exists() and file.samefile(backup):
            raise ConfigurationError(f"{backup} is the database itself")
        check_backup(Store(open_to_read(backup), self._clock))
        self.close()
        return restore_sqlite(backup, file)

    def salvage(self, target: Path) -> dict[str, Saved]:
        """Write what can be read of a damaged SQLite database into a new file; what was saved of each table.

        Raises ConfigurationError and Conflict.
        """
        file = sqlite_file(self._engine)
        if file is None:
            raise ConfigurationError(
                "only SQLite is recovered here; PostgreSQL has tools of its own (pg_amcheck, pg_dump)"
            )
        return salvage_sqlite(file, target)

    def close(self) -> None:
        """Close all connections. The store may be used again afterwards."""
        self._engine.dispose()

    @contextmanager
    def turn(self, site: str, camera: str) -> Iterator[Turn]:
        """One camera's turn: no other turn of this camera runs at the same time. Leaving the block commits.

        Raises RetryLater also where damaged derived data had to be made anew: the next turn finds it whole.
        """
        try:
            with writing(self._engine, lock=f"{site}/{camera}") as connection:
                yield Turn(connection, self._versions, site, camera, self._clock())
        except DatabaseDamaged as error:
            if not remake_derived(self._engine, self._versions):
                raise
            raise RetryLater("damaged derived data was made anew; nothing else was changed") from error

    def known(self, burst_id: str) -> Known | None:
        """A stored burst's digest and status; None for an unknown burst."""
        with reading(self._engine) as connection:
            return read_known(connection, burst_id)

    def kept(self, burst_id: str) -> KeptBurst:
        """A stored burst, with the events that its frames settled and that hold. Raises Unknown."""
        with reading(self._engine) as connection:
            row = connection.execute(select(*BURST_COLUMNS).where(bursts.c.burst_id == burst_id)).one_or_none()
            if row is None:
                raise Unknown(f"no burst {burst_id}")
            seen = observation_query().where(observations.c.burst_id == burst_id)
            holding = (
                select(*EVENT_COLUMNS)
                .where(events.c.burst_id == burst_id, events.c.withdrawn_at_us.is_(None))
                .order_by(events.c.confirmed_at_us, events.c.place)
            )
            return KeptBurst(
                **asdict(burst_facts(row)),
                ensemble_info=self._versions.ensemble_info(connection, row.ensemble),
                observations=tuple(
                    recorded.observation for recorded in read_observations(connection, seen, self._versions)
                ),
                judgements=tuple(_judgements(connection, burst_id)),
                events=tuple(logged(event) for event in connection.execute(holding)),
            )

    def decisions(self, burst_id: str) -> list[Judgement]:
        """The decision record of a burst: the judgement of each frame at its acceptance. Raises Unknown."""
        with reading(self._engine) as connection:
            judgements = _judgements(connection, burst_id)
        if not judgements:
            raise Unknown(f"no burst {burst_id}")
        return judgements

    def cameras(self) -> list[CameraHead]:
        """All cameras that ever advanced, by site and camera."""
        return mending(self._engine, self._versions, self._heads)

    def _heads(self) -> list[CameraHead]:
        with reading(self._engine) as connection:
            return [readable_head(connection, self._versions, head) for head in read_heads(connection)]

    def unreadable(self) -> dict[tuple[str, str], tuple[int, ...]]:
        """The instants of states that cannot be read, by site and camera. A camera's next turn makes its own anew."""
        with reading(self._engine) as connection:
            return unreadable_states(connection)

    def held(self, until_us: int) -> list[tuple[str, str]]:
        """Cameras (site, camera) with held bursts that end by `until_us`."""
        query = (
            select(bursts.c.site, bursts.c.camera)
            .where(bursts.c.status == "held", bursts.c.last_at_us <= until_us)
            .distinct()
            .order_by(bursts.c.site, bursts.c.camera)
        )
        return [(row.site, row.camera) for row in self._rows(query)]

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

        def read() -> Checkpoint:
            with reading(self._engine) as connection:
                return read_checkpoint(connection, site, camera, before_us)

        return mending(self._engine, self._versions, read)

    def policy(self, digest: str) -> SitePolicy:
        """The policy of a digest, as it was when it judged its first burst."""
        with reading(self._engine) as connection:
            return self._versions.policy(connection, digest)

    def counts(self) -> dict[str, int]:
        """Rows in each table."""
        with reading(self._engine) as connection:
            return {
                table.name: connection.execute(select(func.count()).select_from(table)).scalar_one()
                for table in metadata.sorted_tables
            }


def check_backup(store: Store) -> None:
    """Raises ConfigurationError for a file that holds no database of this or an older version, and DatabaseDamaged."""
    with closing(store):
        if store.revision().present is None:
            raise ConfigurationError(f"{store.name} holds no tables: it is no backup")
        integrity = store.integrity()
        if integrity is not None and integrity.faults:
            raise DatabaseDamaged(f"{store.name} is damaged ({integrity.faults[0]}); nothing was changed")


def _judgements(connection: Connection, burst_id: str) -> list[Judgement]:
    """The judgement of each frame; empty for an unknown burst."""
    row = connection.execute(select(decisions.c.body).where(decisions.c.burst_id == burst_id)).one_or_none()
    return [] if row is None else msgspec.json.decode(row.body, type=list[Judgement])
