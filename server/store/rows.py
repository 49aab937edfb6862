"""Rows to values: the queries and decodings shared by the modules of the store."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, cast

import msgspec
from sqlalchemy import ColumnElement, Connection, Engine, Row, Select, Table, false, insert, select
from sqlalchemy.exc import IntegrityError

from policies.observation import EnsembleInfo
from policies.site.site_policy import InvalidPolicy, SitePolicy, parse_site_policy
from server.domain.clock import Clock
from server.domain.errors import Unknown
from server.domain.records import (
    BurstFacts,
    CameraHead,
    Checkpoint,
    LoggedEvent,
    Notice,
    Noticed,
)
from server.store.compact import Columns, decode_origin, unpack_event
from server.store.engine import reading
from server.store.schema import checkpoints, events, origins, panels, policies

MODELS_SEPARATOR = ","
"""Between names of models; no model's name contains it."""

_DIGITS = 32
_HEX = re.compile(r"[0-9a-f]{0,32}")

_ensemble_info = msgspec.json.Decoder(EnsembleInfo)
_policy = msgspec.json.Decoder(SitePolicy)
_ids = msgspec.json.Decoder(tuple[str, ...])


def encoded(value: object) -> str:
    """JSON text, the same for equal values: sets and mappings in sorted order, floats to the last bit."""
    return msgspec.json.encode(value, order="deterministic").decode()


def insert_once(connection: Connection, table: Table, key: str, row: dict[str, object]) -> None:
    """Insert a row unless its key is stored. Turns of two cameras may do so at once."""
    stored = connection.execute(select(table.c[key]).where(table.c[key] == row[key])).first()
    if stored is None:
        with suppress(IntegrityError), connection.begin_nested():  # another camera's turn may insert it first
            connection.execute(insert(table), row)


def read_checkpoint(connection: Connection, site: str, camera: str, before_us: int) -> Checkpoint:
    """A camera's newest checkpoint before an instant; the empty one if there is none."""
    row = connection.execute(
        select(checkpoints.c.at_us, checkpoints.c.state)
        .where(checkpoints.c.site == site, checkpoints.c.camera == camera, checkpoints.c.at_us < before_us)
        .order_by(checkpoints.c.at_us.desc())
        .limit(1)
    ).one_or_none()
    return Checkpoint(row.at_us, row.state.encode()) if row else Checkpoint(None, None)


class Versions:
    """Ensembles and policies by digest, each read once: what a digest names never changes.

    `heads`: for each site and camera the newest head that was made, and what it was made of.
    """

    def __init__(self) -> None:
        self.heads: dict[tuple[str, str], tuple[tuple[CameraHead, int, int, int], CameraHead]] = {}
        self._ensemble_infos: dict[str, EnsembleInfo] = {}
        self._policies: dict[str, SitePolicy] = {}

    def ensemble_info(self, connection: Connection, ensemble: str) -> EnsembleInfo:
        """The ensemble of a digest. Raises Unknown."""
        if ensemble not in self._ensemble_infos:
            body = connection.execute(select(panels.c.body).where(panels.c.ensemble == ensemble)).scalar_one_or_none()
            if body is None:
                raise Unknown(f"no description of ensemble {ensemble[:12]} is stored")
            self._ensemble_infos[ensemble] = _ensemble_info.decode(body)
        return self._ensemble_infos[ensemble]

    def policy(self, connection: Connection, digest: str) -> SitePolicy:
        """The policy of a digest, as it was when it judged its first burst.

        Raises Unknown for an unknown digest, and for a policy that this version of the rules cannot read.
        """
        if digest not in self._policies:
            row = connection.execute(
                select(policies.c.body, policies.c.text).where(policies.c.policy == digest)
            ).one_or_none()
            if row is None:
                raise Unknown(f"no policy {digest[:12]} is stored")
            self._policies[digest] = _read_policy(digest, row.body, row.text)
        return self._policies[digest]


class Part:
    """Some of the tables of one database. Safe to use from several threads and processes."""

    def __init__(self, engine: Engine, clock: Clock, versions: Versions) -> None:
        self._engine = engine
        self._clock = clock
        self._versions = versions

    def _rows(self, query: Select[*tuple[Any, ...]]) -> Sequence[Row[*tuple[Any, ...]]]:
        """The rows of a query, in a transaction of its own."""
        with reading(self._engine) as connection:
            return connection.execute(query).all()

    def _row(self, query: Select[*tuple[Any, ...]]) -> Row[*tuple[Any, ...]] | None:
        """The first row of a query; None when there is none."""
        return next(iter(self._rows(query)), None)


def _read_policy(digest: str, body: str, text: str) -> SitePolicy:
    """The stored policy. If it is of another version of the rules, its text is parsed by this version."""
    try:
        return _policy.decode(body)
    except msgspec.ValidationError:
        version = msgspec.json.decode(body).get("version", 1)
    try:
        return parse_site_policy(text).under(digest, version)
    except InvalidPolicy as error:
        raise Unknown(f"policy {digest[:12]}, of version {version} of the rules, cannot be read: {error}") from None


def begins_with(key: ColumnElement[str], prefix: str) -> ColumnElement[bool]:
    """Whether the id of an event or another fact begins with `prefix`. The databases use its index."""
    if not _HEX.fullmatch(prefix):
        return false()
    return key.between(prefix.ljust(_DIGITS, "0"), prefix.ljust(_DIGITS, "f"))


_ORIGIN = select(origins.c.body).where(origins.c.number == events.c.origin).correlate(events).scalar_subquery()
EVENT_COLUMNS = (
    events.c.seq,
    *(events.c[name] for name in Columns.__slots__),
    events.c.body,
    events.c.late,
    events.c.withdrawn_at_us,
    events.c.supersedes,
    _ORIGIN.label("origin_body"),
)


def settled_by(burst: BurstFacts) -> tuple[ColumnElement[bool], ...]:
    """The conditions for the events that a burst's frames settled: by the index of its camera and time."""
    return (
        events.c.site == burst.site,
        events.c.camera == burst.camera,
        events.c.confirmed_at_us.between(burst.first_at_us, burst.last_at_us),
        events.c.burst_id == burst.burst_id,
    )


def noticed(row: Row[*tuple[Any, ...]]) -> Notice:
    """The notice of a row."""
    models = tuple(row.models.split(MODELS_SEPARATOR))
    return Notice(row.number, row.seq, row.at_us, cast(Noticed, row.what), row.ensemble, models, row.detail)


def logged(row: Row[*tuple[Any, ...]]) -> LoggedEvent:
    """The event of a row that holds EVENT_COLUMNS."""
    return LoggedEvent(
        seq=row.seq,
        event=unpack_event(
            row.body,
            cast(Columns, row),  # it has these columns, and lists of events are long
            None if row.origin_body is None else decode_origin(row.origin_body),
        ),
        late=bool(row.late),
        withdrawn_at_us=row.withdrawn_at_us,
        burst_id=row.burst_id,
        supersedes=() if row.supersedes is None else _ids.decode(row.supersedes),
    )
