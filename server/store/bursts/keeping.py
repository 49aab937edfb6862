"""Writing a burst's record, with the rows that it refers to. The caller holds the camera's lock."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
from sqlalchemy import Connection, insert, select, update

from policies.observation import Observation
from server.store.bursts.packing import Loose, models_of, pack, split_id
from server.store.bursts.records import AT_ONCE, Camera
from server.store.rows import MODELS_SEPARATOR
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
    known: Camera | None,
    shared: Shared,
    loose: Loose,
    seen: Sequence[Observation],
    *,
    is_held: bool,
    late: bool,
) -> tuple[int, Camera]:
    """Store a burst. Its ensemble and policy are stored already. Returns the record's number, and the camera as it is
    now; `known`: as `read_camera` gave it.
    """
    first, last = seen[0], seen[-1]
    camera = _camera(connection, known, first.site, first.camera, last.at_us - first.at_us)
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
    return int(key[0]), camera


def mark(connection: Connection, numbers: Sequence[int], **marks: int) -> None:
    """Set `is_held` and `late` of records."""
    for begin in range(0, len(numbers), AT_ONCE):
        mine = burst_records.c.number.in_(numbers[begin : begin + AT_ONCE])
        connection.execute(update(burst_records).where(mine).values(marks))


def _camera(connection: Connection, known: Camera | None, site: str, camera: str, lasts_us: int) -> Camera:
    if known is None:
        row = {"site": site, "camera": camera, "longest_us": lasts_us}
        key = connection.execute(insert(cameras), row).inserted_primary_key
        assert key is not None, "one row was inserted"
        return Camera(int(key[0]), lasts_us)
    if lasts_us <= known.longest_us:
        return known
    connection.execute(update(cameras).where(cameras.c.number == known.number).values(longest_us=lasts_us))
    return Camera(known.number, lasts_us)


def _context(connection: Connection, camera: Camera, shared: Shared, models: Sequence[str]) -> int:
    columns = {name: getattr(shared, name) for name in Shared.__slots__} | {"models": MODELS_SEPARATOR.join(models)}
    digest = hashlib.sha256(msgspec.json.encode([camera.number, *columns.values()])).hexdigest()
    number = connection.execute(select(contexts.c.number).where(contexts.c.digest == digest)).scalar_one_or_none()
    if number is None:  # no other camera's turn may insert it meanwhile
        row = {"digest": digest, "camera": camera.number} | columns
        key = connection.execute(insert(contexts), row).inserted_primary_key
        assert key is not None, "one row was inserted"
        number = key[0]
    return int(number)
