"""Rows to values: the queries and decodings shared by the modules of the store."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, cast

import msgspec
from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Engine,
    LargeBinary,
    Row,
    Select,
    and_,
    false,
    func,
    insert,
    select,
)
from sqlalchemy import cast as as_type
from sqlalchemy.exc import IntegrityError

from policies.fold import State, decode_state, encode_state
from policies.observation import EnsembleInfo
from policies.site.equal_parts import with_equal_parts_shared
from policies.site.site_policy import RULES_VERSION, InvalidPolicy, SitePolicy, parse_site_policy
from server.domain.announcements import Notice, Noticed
from server.domain.errors import Unknown
from server.domain.records import CameraHead, Checkpoint
from server.domain.times.clock import Clock
from server.store.compact import unpack_state
from server.store.engine import at_once, reading
from server.store.schema import cameras, checkpoints, panels, policies, removals

log = logging.getLogger(__name__)

MODELS_SEPARATOR = ","
"""Between names of models; no model's name contains it."""

_MOST_HEADS = 2048
"""Heads that are remembered: some 3 kB each."""
_DIGITS = 32
_HEX = re.compile(r"[0-9a-f]{0,32}")

_Follows = tuple[CameraHead, int, int, int]

_ensemble_info = msgspec.json.Decoder(EnsembleInfo)
_policy = msgspec.json.Decoder(SitePolicy)


def encoded(value: object) -> str:
    """JSON text, the same for equal values: sets and mappings in sorted order, floats to the last bit."""
    return msgspec.json.encode(value, order="deterministic").decode()


def insert_once(
    connection: Connection, key: Column[Any], value: object, rest: Callable[[], Mapping[str, object]] = dict
) -> Any:
    """The primary key of the row with this value, which is inserted, with the rest of its columns, unless it is stored.

    Turns of two cameras may do so at once. Neither waits for the other's end: the row stays if its turn fails, and
    refers to no row that this turn has written.
    """
    (primary,) = key.table.primary_key
    query = select(primary).where(key == value)
    stored = connection.execute(query).scalar_one_or_none()
    if stored is None:
        with suppress(IntegrityError), at_once(connection) as another:  # another camera's turn may insert it first
            another.execute(insert(key.table), {key.name: value, **rest()})
        stored = connection.execute(query).scalar_one()
    return stored


def stored_text(connection: Connection, column: ColumnElement[str]) -> ColumnElement[Any]:
    """A column that may hold damaged texts: as bytes on SQLite, whose driver raises where bytes are no text."""
    return as_type(column, LargeBinary) if connection.dialect.name == "sqlite" else column


def readable_state(stored: object, at_us: int) -> bytes | None:
    """A stored state, as JSON in bytes, if this version can read it and it is of this instant; else None."""
    given = stored.encode() if isinstance(stored, str) else stored
    try:
        if isinstance(given, bytes) and decode_state(state := unpack_state(given)).last_at_us == at_us:
            return state
    except (msgspec.DecodeError, ValueError):
        pass
    return None


def empty_state(at_us: int) -> bytes:
    """The state of a camera that begins anew after an instant."""
    return encode_state(State(last_at_us=at_us))


def read_checkpoint(connection: Connection, site: str, camera: str, before_us: int) -> Checkpoint:
    """A camera's newest checkpoint before an instant; the empty one if there is none. One that cannot be read is passed
    over: the fold from an older one makes it anew.

    The state at the end of a stretch that is no longer kept is a checkpoint, too; an empty state if it cannot be read,
    as the frames before it are gone.
    """
    return max(
        _newest_checkpoint(connection, site, camera, before_us),
        _newest_removal(connection, site, camera, before_us),
        key=lambda each: -(2**63) if each.at_us is None else each.at_us,
    )


def read_checkpoints(connection: Connection, site: str, before_us: int) -> dict[str, Checkpoint]:
    """As `read_checkpoint`, of every camera of a site, by name."""
    mine = and_(checkpoints.c.site == cameras.c.site, checkpoints.c.camera == cameras.c.camera)
    newest = select(func.max(checkpoints.c.at_us)).where(mine, checkpoints.c.at_us < before_us).correlate(cameras)
    found = (
        select(cameras.c.camera, checkpoints.c.at_us, stored_text(connection, checkpoints.c.state))
        .join(checkpoints, and_(mine, checkpoints.c.at_us == newest.scalar_subquery()), isouter=True)
        .where(cameras.c.site == site)
    )
    ends = select(removals.c.camera).where(removals.c.site == site, removals.c.until_us <= before_us).distinct()
    removed = set(connection.execute(ends).scalars())
    points: dict[str, Checkpoint] = {}
    for camera, at_us, stored in connection.execute(found).all():
        state = None if at_us is None else readable_state(stored, at_us)
        is_known = camera not in removed and (at_us is None or state is not None)
        points[camera] = Checkpoint(at_us, state) if is_known else read_checkpoint(connection, site, camera, before_us)
    return points


def _newest_checkpoint(connection: Connection, site: str, camera: str, before_us: int) -> Checkpoint:
    query = (
        select(checkpoints.c.at_us, stored_text(connection, checkpoints.c.state))
        .where(checkpoints.c.site == site, checkpoints.c.camera == camera, checkpoints.c.at_us < before_us)
        .order_by(checkpoints.c.at_us.desc())
    )
    with connection.execute(query.execution_options(yield_per=1)) as rows:
        for at_us, stored in rows:
            if (state := readable_state(stored, at_us)) is not None:
                return Checkpoint(at_us, state)
    return Checkpoint(None, None)


def _newest_removal(connection: Connection, site: str, camera: str, before_us: int) -> Checkpoint:
    row = connection.execute(
        select(removals.c.until_us, stored_text(connection, removals.c.state))
        .where(removals.c.site == site, removals.c.camera == camera, removals.c.until_us <= before_us)
        .order_by(removals.c.until_us.desc())
        .limit(1)
    ).one_or_none()
    return Checkpoint(None, None) if row is None else Checkpoint(row[0] - 1, state_at_end(row[1], row[0]))


def state_at_end(stored: object, until_us: int) -> bytes:
    """The stored state at the end of a stretch that is no longer kept; an empty one where it cannot be read."""
    return readable_state(stored, until_us - 1) or empty_state(until_us - 1)


class Versions:
    """Ensembles and policies by digest, each read once: what a digest names never changes.

    `heads`: for some sites and cameras the newest head that was made, and what it was made of.
    """

    def __init__(self) -> None:
        self.heads: dict[tuple[str, str], tuple[_Follows, CameraHead]] = {}
        self._ensemble_infos: dict[str, EnsembleInfo] = {}
        self._policies: dict[str, SitePolicy] = {}

    def remember_head(self, name: tuple[str, str], follows: _Follows, head: CameraHead) -> None:
        """Keep the newest head that was made of a camera, and of _MOST_HEADS cameras at most."""
        self.heads[name] = follows, head
        if len(self.heads) > _MOST_HEADS:
            with suppress(KeyError, RuntimeError):  # another thread may do so at the same time
                del self.heads[next(iter(self.heads))]

    def ensemble_info(self, connection: Connection, ensemble: str) -> EnsembleInfo:
        """The ensemble of a digest. Raises Unknown."""
        if ensemble not in self._ensemble_infos:
            body = connection.execute(select(panels.c.body).where(panels.c.ensemble == ensemble)).scalar_one_or_none()
            if body is None:
                raise Unknown(f"no description of ensemble {ensemble[:12]} is stored")
            self._ensemble_infos[ensemble] = _ensemble_info.decode(body)
        return self._ensemble_infos[ensemble]

    def known_policy(self, digest: str) -> SitePolicy | None:
        """The policy of a digest that was read before; None: it was not."""
        return self._policies.get(digest)

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
            self._policies[digest] = with_equal_parts_shared(_read_policy(digest, row.body, row.text))
        return self._policies[digest]


class Part:
    """Some of the tables of one database. Safe to use from several threads and processes."""

    def __init__(self, engine: Engine, clock: Clock, versions: Versions) -> None:
        self._engine = engine
        self._clock = clock
        self._versions = versions

    def _rows(
        self, query: Select[*tuple[Any, ...]], values: Mapping[str, object] | None = None
    ) -> Sequence[Row[*tuple[Any, ...]]]:
        """The rows of a query, with these values of its parameters, in a transaction of its own."""
        with reading(self._engine) as connection:
            return connection.execute(query, values).all()

    def _row(self, query: Select[*tuple[Any, ...]]) -> Row[*tuple[Any, ...]] | None:
        """The first row of a query; None when there is none."""
        return next(iter(self._rows(query)), None)


def _read_policy(digest: str, body: str, text: str) -> SitePolicy:
    """The stored policy. If it is of another version of the rules, or damaged, its text is parsed by this version."""
    version: int | None = None
    try:
        policy = _policy.decode(body)
        if "*" in policy.rules.min_score:  # the first policies left the shipped numbers out
            return policy
        version = policy.version
    except msgspec.ValidationError:
        version = msgspec.json.decode(body).get("version", 1)
    except msgspec.DecodeError:
        log.warning("stored policy is damaged; its text is read instead", extra={"policy": digest[:12]})
    try:
        version = version or (RULES_VERSION if parse_site_policy(text).digest == digest else 1)
        return parse_site_policy(text, version).under(digest, version)
    except InvalidPolicy as error:
        raise Unknown(f"policy {digest[:12]}, of version {version} of the rules, cannot be read: {error}") from None


def begins_with(key: ColumnElement[str], prefix: str) -> ColumnElement[bool]:
    """Whether the id of an event or another fact begins with `prefix`. The databases use its index.

    A prefix of hexadecimal digits finds ids of 32 such digits; another one finds ids of other forms, which are text.
    """
    if _HEX.fullmatch(prefix):
        return key.between(prefix.ljust(_DIGITS, "0"), prefix.ljust(_DIGITS, "f"))
    return key.between(prefix, prefix + chr(sys.maxunicode)) if prefix.isprintable() else false()


def noticed(row: Row[*tuple[Any, ...]]) -> Notice:
    """The notice of a row."""
    models = tuple(row.models.split(MODELS_SEPARATOR))
    return Notice(
        row.number, row.seq, row.at_us, cast(Noticed, row.what), row.ensemble, models, row.detail, row.instance
    )
