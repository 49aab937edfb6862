"""The store as the rest of the server sees it: turns, the past, the log, the outbox and the tokens."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import msgspec
from sqlalchemy import ColumnElement, Engine, func, insert, select, update

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
    Outgoing,
    Recorded,
    Status,
    Token,
)
from server.store import outbox
from server.store.annotations import Annotations
from server.store.backup import backup
from server.store.engine import open_engine, reading, writing
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
    read_known,
    read_observations,
)
from server.store.schema import (
    bursts,
    camera_states,
    checkpoints,
    decisions,
    events,
    metadata,
    observations,
    tokens,
)
from server.store.turn import Turn


def open_store(url: str, clock: Clock = now_us) -> Store:
    """The store at a database URL. Connects to nothing yet and creates nothing: see `Store.upgrade`."""
    return Store(open_engine(url), clock)


class Store:
    """One database, safe to use from several threads; several processes may use the same.

    Every method raises RetryLater when the database does not answer, Unprocessable for what it cannot hold, and
    ConfigurationError where it is none, or damaged; nothing was changed then.
    """

    def __init__(self, engine: Engine, clock: Clock) -> None:
        self._engine = engine
        self._clock = clock
        self._versions = Versions()

    @property
    def past(self) -> Past:
        """What is stored, to be explained and verified."""
        return Past(self._engine, self._versions)

    @property
    def annotations(self) -> Annotations:
        """What people say was true."""
        return Annotations(self._engine, self._clock)

    @property
    def heartbeats(self) -> Heartbeats:
        """What tells whether cameras are watched."""
        return Heartbeats(self._engine, self._clock)

    @property
    def notices(self) -> Notices:
        """What happened to the server itself."""
        return Notices(self._engine, self._clock)

    @property
    def name(self) -> str:
        """The database's URL, fit to be shown: without its password."""
        return self._engine.url.render_as_string(hide_password=True)

    def upgrade(self) -> Revision:
        """Bring the tables to this version's schema, creating them where there are none, and each camera's state to
        one that this version reads. Safe to call anew.
        """
        after = upgrade(self._engine)
        with writing(self._engine, lock="schema") as connection:
            revive(connection, self._versions)
        return after

    def revision(self) -> Revision:
        """Which schema the database has, and which this version wants."""
        return revision(self._engine)

    def backup(self, file: Path) -> None:
        """Copy the database as it is at this moment, while others write to it. Raises ConfigurationError, Conflict."""
        backup(self._engine, file)

    def close(self) -> None:
        """Give back all connections. The store may be used again afterwards."""
        self._engine.dispose()

    @contextmanager
    def turn(self, site: str, camera: str) -> Iterator[Turn]:
        """One camera's turn: nobody else's turn of this camera runs meanwhile; leaving the block commits."""
        with writing(self._engine, lock=f"{site}/{camera}") as connection:
            yield Turn(connection, self._versions, site, camera, self._clock())

    def known(self, burst_id: str) -> Known | None:
        """Whether a burst is here already, and under which digest."""
        with reading(self._engine) as connection:
            return read_known(connection, burst_id)

    def kept(self, burst_id: str) -> KeptBurst:
        """All that is stored of a burst, and those events its frames settled that hold. Raises Unknown."""
        with reading(self._engine) as connection:
            row = connection.execute(select(bursts).where(bursts.c.burst_id == burst_id)).one_or_none()
            if row is None:
                raise Unknown(f"no burst {burst_id}")
            query = observation_query().where(observations.c.burst_id == burst_id)
            seen = read_observations(connection, query, self._versions)
            said = (
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
                events=tuple(logged(one) for one in connection.execute(said)),
            )

    def decisions(self, burst_id: str) -> list[Judgement]:
        """The decision record of a burst: what each frame's votes came to when it was accepted. Raises Unknown."""
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
        """Cameras (site, camera) with held bursts that end by `until_us`: their turn has come."""
        query = (
            select(bursts.c.site, bursts.c.camera)
            .where(bursts.c.status == "held", bursts.c.last_at_us <= until_us)
            .distinct()
            .order_by(bursts.c.site, bursts.c.camera)
        )
        with reading(self._engine) as connection:
            return [(row.site, row.camera) for row in connection.execute(query)]

    def head(self, site: str, camera: str) -> Checkpoint:
        """How far a camera has advanced, and its state then; the empty one if it never did."""
        query = select(camera_states.c.last_at_us, camera_states.c.state)
        with reading(self._engine) as connection:
            mine = (camera_states.c.site == site, camera_states.c.camera == camera)
            row = connection.execute(query.where(*mine)).one_or_none()
            return Checkpoint(row.last_at_us, row.state.encode()) if row else Checkpoint(None, None)

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
        """As `history`, the observations alone."""
        return (recorded.observation for recorded in self.history(site, camera, since_us, until_us))

    def checkpoint(self, site: str, camera: str, before_us: int) -> Checkpoint:
        """The newest state of a camera that lies before an instant; the empty one if there is none."""
        query = (
            select(checkpoints.c.at_us, checkpoints.c.state)
            .where(checkpoints.c.site == site, checkpoints.c.camera == camera, checkpoints.c.at_us < before_us)
            .order_by(checkpoints.c.at_us.desc())
            .limit(1)
        )
        with reading(self._engine) as connection:
            row = connection.execute(query).one_or_none()
            return Checkpoint(row.at_us, row.state.encode()) if row else Checkpoint(None, None)

    def policy(self, digest: str) -> SitePolicy:
        """A policy version by digest, as it was when it judged its first burst."""
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
        """The log: events confirmed from `since_us` to before `until_us`, in order of time, those that hold.

        With `withdrawn`, those taken back as well. With `after_seq` the answer is for a follower: in order
        of `seq`, everything said about any event since then, withdrawals included.
        """
        filters = _filters(since_us, until_us, site, camera, kind, only_filter=bool(after_seq))
        query = select(*EVENT_COLUMNS).where(*filters)
        if after_seq is not None:
            query = query.where(events.c.seq > after_seq).order_by(events.c.seq)
            if since_us is not None and not after_seq:  # the first page begins there, not with the first event ever
                first = select(func.min(events.c.seq + 0)).where(events.c.confirmed_at_us >= since_us)
                query = query.where(events.c.seq >= first.scalar_subquery())
        else:
            query = query.order_by(
                events.c.confirmed_at_us, events.c.site, events.c.camera, events.c.burst_id, events.c.place
            )
            if not withdrawn:
                query = query.where(events.c.withdrawn_at_us.is_(None))
        if limit is not None:
            query = query.limit(limit)
        with reading(self._engine) as connection:
            return [logged(row) for row in connection.execute(query)]

    def holds(self, event_ids: Iterable[str]) -> set[str]:
        """Those of the events that are in the log and hold."""
        query = select(events.c.id).where(events.c.id.in_(list(event_ids)), events.c.withdrawn_at_us.is_(None))
        with reading(self._engine) as connection:
            return set(connection.execute(query).scalars())

    def last_seq(self) -> int:
        """The number of the newest announcement; 0 when nothing was ever said."""
        with reading(self._engine) as connection:
            return outbox.last_seq(connection)

    def counts(self) -> dict[str, int]:
        """Rows in each table."""
        with reading(self._engine) as connection:
            return {
                table.name: connection.execute(select(func.count()).select_from(table)).scalar_one()
                for table in metadata.sorted_tables
            }

    def add_channel(self, name: str, from_start: bool = True) -> None:
        """Make a channel known, if it is not: it gets the whole outbox, or what comes from now on."""
        with writing(self._engine, lock="channels") as connection:
            outbox.add_channel(connection, name, 0 if from_start else outbox.last_seq(connection))

    def claim(self, channel: str, claimant: str, lease_us: int, limit: int) -> list[Outgoing]:
        """The next announcements for a channel, and the sole right to send them until the lease ends.

        Empty when there is nothing to send, or another claimant holds the lease. The claimant itself may
        claim again to go on. Announcements come in order of `seq`.
        """
        with reading(self._engine) as connection:
            if not outbox.is_pending(connection, channel):
                return []
        now = self._clock()
        with writing(self._engine, lock="channels") as connection:
            return outbox.claim(connection, channel, claimant, limit, now, now + lease_us)

    def delivered(self, channel: str, claimant: str, seq: int) -> None:
        """Everything up to `seq` was sent on this channel; the lease ends."""
        with writing(self._engine, lock="channels") as connection:
            outbox.release(connection, channel, claimant, delivered_seq=seq, attempts=0, claimed_until_us=0)

    def undelivered(self, channel: str, claimant: str, seq: int | None, failures: int, wait_us: int) -> None:
        """Sending failed after `seq` (None: at once), `failures` times in a row: nobody tries before `wait_us`."""
        progress = {} if seq is None else {"delivered_seq": seq}
        until_us = self._clock() + wait_us
        with writing(self._engine, lock="channels") as connection:
            outbox.release(connection, channel, claimant, attempts=failures, claimed_until_us=until_us, **progress)

    def failures(self, channel: str) -> int:
        """How often in a row sending on this channel has failed."""
        with reading(self._engine) as connection:
            return outbox.failures(connection, channel)

    def add_token(self, token_id: str, name: str, site: str, camera: str | None, hash: str) -> Token:
        """Keep a new token under its public id. The caller has the secret; only its hash comes here."""
        token = Token(token_id, name, site, camera, hash, self._clock(), None)
        row = {field: getattr(token, field) for field in Token.__slots__}
        with writing(self._engine, lock="tokens") as connection:
            connection.execute(insert(tokens), row)
        return token

    def token(self, token_id: str) -> Token | None:
        """The token of that public id, revoked or not."""
        with reading(self._engine) as connection:
            row = connection.execute(select(tokens).where(tokens.c.id == token_id)).one_or_none()
            return Token(*row) if row else None

    def list_tokens(self) -> Sequence[Token]:
        """All tokens, oldest first, revoked ones included."""
        with reading(self._engine) as connection:
            rows = connection.execute(select(tokens).order_by(tokens.c.created_at_us, tokens.c.id))
            return [Token(*row) for row in rows]

    def revoke_token(self, token_id: str) -> None:
        """End a token's validity, now and for good. Raises Unknown; doing it twice changes nothing."""
        with writing(self._engine, lock="tokens") as connection:
            if connection.execute(select(tokens.c.id).where(tokens.c.id == token_id)).first() is None:
                raise Unknown(f"no token {token_id}")
            valid = (tokens.c.id == token_id) & tokens.c.revoked_at_us.is_(None)
            connection.execute(update(tokens).where(valid).values(revoked_at_us=self._clock()))

    def has_tokens(self) -> bool:
        """Whether a token was ever made; revoking the last one does not open the server again."""
        with reading(self._engine) as connection:
            return connection.execute(select(tokens.c.id).limit(1)).first() is not None


def _filters(
    since_us: int | None,
    until_us: int | None,
    site: str | None,
    camera: str | None,
    kind: str | None,
    only_filter: bool,
) -> Iterator[ColumnElement[bool]]:
    """The conditions of a query of events. `only_filter`: no index but that of `seq` may be used, or a follower would
    read all that was ever said of a place to get what was said last. A site alone filters, too: its events in order of
    time go by the index of times, a page at a time, and not all through a sort.
    """
    at_us = events.c.confirmed_at_us + 0 if only_filter else events.c.confirmed_at_us
    if since_us is not None:
        yield at_us >= since_us
    if until_us is not None:
        yield at_us < until_us
    for column, wanted in ((events.c.site, site), (events.c.camera, camera), (events.c.kind, kind)):
        if wanted is not None:
            is_filter = only_filter or (column is events.c.site and camera is None)
            yield (column.concat("") if is_filter else column) == wanted
