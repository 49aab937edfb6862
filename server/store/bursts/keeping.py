"""Writing a burst's record, with the rows that it refers to. The caller holds the camera's lock."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
from sqlalchemy import Connection, insert, select, update

from policies.observation import Observation
from server.store.bursts.burst_log import AT_ONCE, Camera, read_camera
from server.store.bursts.packing import Loose, models_of, pack, split_id
from server.store.rows import MODELS_SEPARATOR, insert_once
from server.store.schema import burst_records, cameras, contexts


@dataclass(frozen=True, slots=True)
class Shared:
    """What many bursts of a camera have in common besides the models' names; columns of `contexts`."""

    ensemble: str
    policy: str
    mask_digest: str | None
    boot_id: str | None
    agent_version: str | None
    reason: str
    clock_synced: int


def keep_burst(
    connection: Connection,
    shared: Shared,
    loose: Loose,
    seen: Sequence[Observation],
    *,
    is_held: bool,
    late: bool,
) -> int:
    """Store a burst. Its ensemble and policy are stored already. Returns the record's number."""
    first, last = seen[0], seen[-1]
    camera = _camera(connection, first.site, first.camera, last.at_us - first.at_us)
    stored = connection.execute(
        insert(burst_records),
        {
            "id_key": split_id(first.burst_id)[0],
            "camera": camera.number,
            "context": _context(connection, camera, shared, models_of(seen)),
            "first_at_us": first.at_us,
            "lasts_us": last.at_us - first.at_us,
            "is_held": int(is_held),
            "late": int(late),
            "record": pack(loose, seen),
        },
    )
    key = stored.inserted_primary_key
    assert key is not None, "one row was inserted"
    return int(key[0])


def mark(connection: Connection, numbers: Sequence[int], **marks: int) -> None:
    """Set `is_held` and `late` of records."""
    for begin in range(0, len(numbers), AT_ONCE):
        mine = burst_records.c.number.in_(numbers[begin : begin + AT_ONCE])
        connection.execute(update(burst_records).where(mine).values(marks))


def _camera(connection: Connection, site: str, camera: str, lasts_us: int) -> Camera:
    known = read_camera(connection, site, camera)
    if known is None:
        connection.execute(insert(cameras), {"site": site, "camera": camera, "longest_us": lasts_us})
        known = read_camera(connection, site, camera)
        assert known is not None
    elif lasts_us > known.longest_us:
        connection.execute(update(cameras).where(cameras.c.number == known.number).values(longest_us=lasts_us))
    return known


def _context(connection: Connection, camera: Camera, shared: Shared, models: Sequence[str]) -> int:
    columns = {name: getattr(shared, name) for name in Shared.__slots__} | {"models": MODELS_SEPARATOR.join(models)}
    digest = hashlib.sha256(msgspec.json.encode([camera.number, *columns.values()])).hexdigest()
    insert_once(connection, contexts, "digest", {"digest": digest, "camera": camera.number} | columns)
    number: int = connection.execute(select(contexts.c.number).where(contexts.c.digest == digest)).scalar_one()
    return number
