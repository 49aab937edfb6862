"""Rows to values: the queries and decodings shared by the modules of the store."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any
from typing import cast as typed

import msgspec
from sqlalchemy import ColumnElement, Connection, Engine, LargeBinary, Row, Select, and_, bindparam, cast, select

from policies.events import Event
from policies.fold import decode_state
from policies.observation import EnsembleInfo, Observation, Prediction
from policies.site.site_policy import RULES_VERSION, InvalidPolicy, SitePolicy, parse_site_policy
from server.domain.clock import Clock
from server.domain.errors import DatabaseDamaged, Unknown
from server.domain.records import (
    BurstFacts,
    CameraHead,
    Checkpoint,
    Known,
    LoggedEvent,
    Notice,
    Noticed,
    Recorded,
    Status,
)
from server.store.engine import reading
from server.store.schema import bursts, camera_states, checkpoints, events, observations, panels, policies

log = logging.getLogger(__name__)

MODELS_SEPARATOR = ","
"""Between the names of a notice's models; no model's name contains it."""

_PAGE = 1000
_LAST = "\U0010ffff"

_answers = msgspec.json.Decoder(dict[str, tuple[Prediction, ...] | None])
_event = msgspec.json.Decoder(Event)
_ensemble_info = msgspec.json.Decoder(EnsembleInfo)
_policy = msgspec.json.Decoder(SitePolicy)
_ids = msgspec.json.Decoder(tuple[str, ...])


def encoded(value: object) -> str:
    """JSON text, the same for equal values: sets and mappings in sorted order, floats to the last bit."""
    return msgspec.json.encode(value, order="deterministic").decode()


def read_known(connection: Connection, burst_id: str) -> Known | None:
    row = connection.execute(
        select(bursts.c.digest, bursts.c.status).where(bursts.c.burst_id == burst_id)
    ).one_or_none()
    return Known(row.digest, typed(Status, row.status)) if row else None


def stored_text(connection: Connection, column: ColumnElement[str]) -> ColumnElement[Any]:
    """A column that may hold damaged texts: as bytes on SQLite, whose driver raises where bytes are no text."""
    return cast(column, LargeBinary) if connection.dialect.name == "sqlite" else column


def readable_state(stored: object, at_us: int) -> bytes | None:
    """A stored state (JSON), as bytes, if this version can read it and it is of this instant; else None."""
    state = stored.encode() if isinstance(stored, str) else stored
    try:
        if isinstance(state, bytes) and decode_state(state).last_at_us == at_us:
            return state
    except (msgspec.DecodeError, UnicodeError):
        pass
    return None


def read_checkpoint(connection: Connection, site: str, camera: str, before_us: int) -> Checkpoint:
    """A camera's newest checkpoint before an instant; the empty one if there is none. One that cannot be read is passed
    over: the fold from an older one makes it anew.
    """
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


def read_heads(connection: Connection) -> list[CameraHead]:
    """The heads of all cameras, by site and camera. The state is empty where it cannot be read."""
    head = camera_states.c
    columns = [stored_text(connection, head.state) if name == "state" else head[name] for name in CameraHead.__slots__]
    heads = [CameraHead(*row) for row in connection.execute(select(*columns).order_by(head.site, head.camera))]
    return [replace(each, state=(readable_state(each.state, each.last_at_us) or b"").decode()) for each in heads]


class Versions:
    """Ensembles and policies by digest, each read once: what a digest names never changes."""

    def __init__(self) -> None:
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
        parsed = parse_site_policy(text)
        version = version or (RULES_VERSION if parsed.digest == digest else 1)
        return parsed.under(digest, version)
    except InvalidPolicy as error:
        raise Unknown(f"policy {digest[:12]}, of version {version} of the rules, cannot be read: {error}") from None


def read_observations(connection: Connection, query: Select[Any], versions: Versions) -> Iterator[Recorded]:
    """The observations of a query (made by `observation_query`), page by page, so that memory stays flat.

    The bursts' columns are read once per burst and page, which takes half the time of a join.
    """
    for page in connection.execute(query.execution_options(yield_per=_PAGE)).partitions():
        bursts_of_page = _read_burst_rows(connection, {row[0] for row in page}, versions)
        # The hot loop of every replay: positions instead of names.
        for burst_id, frame, at_us, answers, sha256, width, height, light in page:
            site, camera, mask, error_s, ensemble_info, policy = bursts_of_page[burst_id]
            predictions = _answers.decode(answers)
            size = (width, height)
            seen = Observation(
                site, camera, burst_id, frame, at_us, ensemble_info, predictions, sha256, mask, error_s, size, light
            )
            yield Recorded(policy, seen)


def _read_burst_rows(connection: Connection, burst_ids: set[str], versions: Versions) -> dict[str, _BurstRow]:
    return {
        burst_id: (site, camera, mask, error_s, versions.ensemble_info(connection, ensemble), policy)
        for burst_id, site, camera, mask, error_s, ensemble, policy in connection.execute(
            _BURST_ROWS, {"burst_ids": list(burst_ids)}
        )
    }


_BURST_ROWS = select(
    bursts.c.burst_id,
    bursts.c.site,
    bursts.c.camera,
    bursts.c.mask_digest,
    bursts.c.uncertainty_s,
    bursts.c.ensemble,
    bursts.c.policy,
).where(bursts.c.burst_id.in_(bindparam("burst_ids", expanding=True)))

_BurstRow = tuple[str, str, str | None, float, EnsembleInfo, str]
"""Site, camera, mask digest, bound of the clock's error, ensemble, policy digest."""


def observation_query() -> Select[Any]:
    """All observations, in the order of folding."""
    return select(
        observations.c.burst_id,
        observations.c.frame,
        observations.c.at_us,
        observations.c.answers,
        observations.c.frame_sha256,
        observations.c.width_px,
        observations.c.height_px,
        observations.c.brightness,
    ).order_by(observations.c.at_us, observations.c.burst_id, observations.c.frame)


def folded_of(site: str, camera: str) -> tuple[ColumnElement[bool], ...]:
    """The conditions for a camera's observations, without those of held bursts."""
    held = select(bursts.c.burst_id).where(bursts.c.status == "held", bursts.c.site == site, bursts.c.camera == camera)
    return (observations.c.site == site, observations.c.camera == camera, observations.c.burst_id.not_in(held))


def begins_with(key: ColumnElement[str], prefix: str) -> ColumnElement[bool]:
    """Whether a key begins with `prefix`. Unlike LIKE, both databases use the index, and both are case-sensitive."""
    return and_(key >= prefix, key < prefix + _LAST)


EVENT_COLUMNS = (
    events.c.seq,
    events.c.body,
    events.c.late,
    events.c.withdrawn_at_us,
    events.c.burst_id,
    events.c.supersedes,
)


BURST_COLUMNS = [bursts.c[name] for name in BurstFacts.__slots__]


def burst_facts(row: Row[*tuple[Any, ...]]) -> BurstFacts:
    """The burst of a row of BURST_COLUMNS."""
    return replace(BurstFacts(*row), late=bool(row.late))


def noticed(row: Row[*tuple[Any, ...]]) -> Notice:
    """The notice of a row."""
    models = tuple(row.models.split(MODELS_SEPARATOR))
    return Notice(row.number, row.seq, row.at_us, typed(Noticed, row.what), row.ensemble, models, row.detail)


def logged(row: Row[*tuple[Any, ...]]) -> LoggedEvent:
    """The event of a row that holds EVENT_COLUMNS. Raises DatabaseDamaged."""
    try:
        event = _event.decode(row.body)
    except msgspec.DecodeError as error:
        raise DatabaseDamaged(
            f"the database is damaged: the event of announcement {row.seq} cannot be read ({error}): "
            "`sectorwatch doctor` names the way back"
        ) from None
    return LoggedEvent(
        seq=row.seq,
        event=event,
        late=bool(row.late),
        withdrawn_at_us=row.withdrawn_at_us,
        burst_id=row.burst_id,
        supersedes=() if row.supersedes is None else _ids.decode(row.supersedes),
    )
