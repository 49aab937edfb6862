"""Rows of `burst_records` to values: their marks, their facts, their frames.

`server.store.bursts.burst_log` reads them beside the bursts of earlier versions.
"""

from __future__ import annotations

import zlib
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import msgspec
from sqlalchemy import ColumnElement, Connection, Row, literal_column, select, true, tuple_
from sqlalchemy.exc import NoResultFound

from policies.observation import EnsembleInfo, Observation
from server.domain.errors import DatabaseDamaged
from server.domain.records import BurstFacts, Recorded, Status
from server.store.bursts.packing import Packed, joined_id, split_id, unpack
from server.store.rows import MODELS_SEPARATOR, Versions
from server.store.schema import burst_records, cameras, contexts

IS_HELD: ColumnElement[bool] = literal_column("burst_records.is_held = 1")
"""In these words, so that the databases use the index of the bursts that wait."""

LATE, SET_ASIDE = 1, 2
"""The marks in `burst_records.late`. A late burst that is held waits for its refold."""

record_end_us = burst_records.c.first_at_us + burst_records.c.lasts_us

AT_ONCE = 500
"""Numbers in one statement."""

Which = str | Sequence[tuple[str, str]] | None
"""Cameras: those of a site, or these (site, camera), a few hundred at most; None: all."""
PAGE = 200
"""Records that are read at once."""


class Record(NamedTuple):
    """A row of `RECORDS`: a field of a tuple is read much faster than one of a `Row`, and a replay reads many."""

    number: int
    id_key: int
    context: int
    first_at_us: int
    lasts_us: int
    is_held: int
    late: int
    record: bytes


RECORDS = select(*(burst_records.c[name] for name in Record._fields))
_CONTEXTS = select(
    cameras.c.site,
    cameras.c.camera,
    contexts.c.ensemble,
    contexts.c.policy,
    contexts.c.models,
    contexts.c.mask_digest,
    contexts.c.boot_id,
    contexts.c.reason,
).join(cameras, cameras.c.number == contexts.c.camera)

_DAMAGE = (msgspec.MsgspecError, zlib.error, ValueError, LookupError, TypeError, OverflowError, NoResultFound)
"""What the values of a damaged record raise, or a reference to a row that is lost."""


def is_of(which: Which, site: ColumnElement[str], camera: ColumnElement[str]) -> ColumnElement[bool]:
    """Whether a row with these columns is of one of these cameras."""
    if which is None:
        return true()
    return site == which if isinstance(which, str) else tuple_(site, camera).in_(which)


@dataclass(frozen=True, slots=True)
class Camera:
    """A camera's number, and the longest span of its bursts (us)."""

    number: int
    longest_us: int


def read_camera(connection: Connection, site: str, camera: str) -> Camera | None:
    """None for a camera without a record."""
    row = connection.execute(
        select(cameras.c.number, cameras.c.longest_us).where(cameras.c.site == site, cameras.c.camera == camera)
    ).one_or_none()
    return None if row is None else Camera(row.number, row.longest_us)


def standing_of(row: Record) -> Status:
    """What a record's marks say of its burst."""
    if not row.is_held:
        return "folded"
    return "set_aside" if row.late == SET_ASIDE else "held"


def read_record(connection: Connection, burst_id: str) -> Record | None:
    """The record of a burst; None for a burst without one. Raises DatabaseDamaged."""
    id_key, rest = split_id(burst_id)
    rows = map(Record._make, connection.execute(RECORDS.where(burst_records.c.id_key == id_key)))
    return next((row for row in rows if unpacked(row).id_rest == rest), None)


def names_in(number: int, id_key: int, record: bytes) -> tuple[str, list[str]]:
    """The id of a record's burst, and the hashes of its frames. Raises DatabaseDamaged."""
    with named_damage(number):
        packed = unpack(record)
        return joined_id(id_key, packed.id_rest), packed.frame_sha256


def unpacked(row: Record | Row[*tuple[Any, ...]]) -> Packed:
    """What a record holds. Raises DatabaseDamaged."""
    with named_damage(row.number):
        return unpack(row.record)


def count_record_frames(connection: Connection) -> int:
    """Frames of all records. Raises DatabaseDamaged."""
    query = select(burst_records.c.number, burst_records.c.record).execution_options(yield_per=PAGE)
    return sum(unpacked(row).frames for row in connection.execute(query))


@contextmanager
def named_damage(number: int) -> Iterator[None]:
    """Raises DatabaseDamaged, with the number of the record, for what its values raise."""
    try:
        yield
    except _DAMAGE as error:
        raise DatabaseDamaged(
            f"the database is damaged: burst record {number} cannot be read ({error}): `sectorwatch doctor` names "
            "the way back"
        ) from error


@dataclass(frozen=True, slots=True)
class _Context:
    """What the bursts of a context share."""

    site: str
    camera: str
    ensemble: str
    policy: str
    models: tuple[str, ...]
    mask_digest: str | None
    boot_id: str | None
    reason: str

    @classmethod
    def read(cls, connection: Connection, number: int) -> Self:
        return cls.of(*connection.execute(_CONTEXTS.where(contexts.c.number == number)).one())

    @classmethod
    def of(cls, site: str, camera: str, ensemble: str, policy: str, models: str, *rest: Any) -> Self:
        return cls(site, camera, ensemble, policy, tuple(models.split(MODELS_SEPARATOR)), *rest)


class RecordReader:
    """Records to values within one transaction: what bursts share is read once."""

    def __init__(self, connection: Connection, versions: Versions) -> None:
        self._connection = connection
        self._versions = versions
        self._contexts: dict[int, _Context] = {}
        self._ensembles: dict[int, EnsembleInfo] = {}

    def prepare(self, numbers: Collection[int]) -> None:
        """Read what bursts of these contexts share, a few hundred at a time. One that is lost is missed later."""
        new = sorted(set(numbers) - self._contexts.keys())
        for at in range(0, len(new), AT_ONCE):
            query = _CONTEXTS.add_columns(contexts.c.number).where(contexts.c.number.in_(new[at : at + AT_ONCE]))
            for *row, number in self._connection.execute(query):
                self._contexts[number] = _Context.of(*row)

    def facts(self, row: Record) -> BurstFacts:
        """The facts of a record. Raises DatabaseDamaged."""
        with named_damage(row.number):
            return self._facts(row, unpack(row.record))

    def frames(self, row: Record) -> list[Recorded]:
        """The frames of a record in order. Raises DatabaseDamaged."""
        with named_damage(row.number):
            return self._frames(row, unpack(row.record))

    def burst(self, row: Record) -> tuple[BurstFacts, list[Recorded]]:
        """Both at once."""
        with named_damage(row.number):
            packed = unpack(row.record)
            return self._facts(row, packed), self._frames(row, packed)

    def _context(self, number: int) -> _Context:
        shared = self._contexts.get(number)
        if shared is None:
            shared = self._contexts[number] = _Context.read(self._connection, number)
        return shared

    def _facts(self, row: Record, packed: Packed) -> BurstFacts:
        shared = self._context(row.context)
        burst_id, first_at_us = joined_id(row.id_key, packed.id_rest), row.first_at_us
        return BurstFacts(
            burst_id=burst_id,
            site=shared.site,
            camera=shared.camera,
            digest=packed.digest_of(burst_id, shared.site, shared.camera, first_at_us, shared.mask_digest),
            status=standing_of(row),
            cause=("future", "refold", "late_within")[row.late] if row.is_held else None,
            late=bool(row.late),
            reason=shared.reason,
            captured_at_us=first_at_us - packed.lead_us,
            first_at_us=first_at_us,
            last_at_us=first_at_us + row.lasts_us,
            frames=packed.frames,
            boot_id=shared.boot_id,
            mask_digest=shared.mask_digest,
            received_at_us=first_at_us + row.lasts_us + packed.received_us,
            ensemble=shared.ensemble,
            policy=shared.policy,
        )

    def _frames(self, row: Record, packed: Packed) -> list[Recorded]:
        number, first_at_us = row.context, row.first_at_us
        shared = self._context(number)
        ensemble_info = self._ensembles.get(number)
        if ensemble_info is None:
            ensemble_info = self._versions.ensemble_info(self._connection, shared.ensemble)
            self._ensembles[number] = ensemble_info
        burst_id = joined_id(row.id_key, packed.id_rest)
        site, camera, policy, mask = shared.site, shared.camera, shared.policy, shared.mask_digest
        error_s = packed.uncertainty_s
        columns = zip(  # the hot loop of every replay: positions instead of names
            packed.offsets_us,
            packed.answers(shared.models),
            packed.frame_sha256,
            packed.frame_sizes,
            packed.brightnesses,
            strict=True,
        )
        return [
            Recorded(
                policy,
                Observation(
                    site,
                    camera,
                    burst_id,
                    index,
                    first_at_us + offset,
                    ensemble_info,
                    answers,
                    sha256,
                    mask,
                    error_s,
                    size,
                    light,
                ),
            )
            for index, (offset, answers, sha256, size, light) in enumerate(columns)
        ]
