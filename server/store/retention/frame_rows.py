"""Rows of kept frames: what is deleted, what is remembered of it, and of which time no frame is accepted."""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import Any

from sqlalchemy import Connection, Row, Select, delete, insert, select

from server.domain.keeping import DAY_US
from server.domain.pictures.kept_frames import KeptFrame
from server.store.retention.leaving import AT_ONCE, let_leave, portions
from server.store.retention.slices import Region
from server.store.schema import cameras, erasures, gone_frames, keeping, kept_frames

FRAMES: Select[Any] = select(
    cameras.c.site, cameras.c.camera, kept_frames.c.at_us, kept_frames.c.sha256, kept_frames.c.bytes
).join(cameras, cameras.c.number == kept_frames.c.camera)


def kept_frame(row: Row[Any]) -> KeptFrame:
    return KeptFrame(row.site, row.camera, row.at_us, row.sha256.hex(), row.bytes)


def delete_rows(connection: Connection, rows: Sequence[Row[*tuple[Any, ...]]], now_us: int) -> None:
    """Delete frames (number, camera, sha256); the pictures that no other frame has are to leave. The caller holds
    LOCK, and calls `remove_leaving` after the commit.
    """
    for some in portions(rows):
        connection.execute(delete(kept_frames).where(kept_frames.c.number.in_([row.number for row in some])))
        gone = {key_of(row.camera, row.sha256.hex()): row.sha256.hex() for row in some}
        there = keys_gone(connection, gone)
        day = now_us // DAY_US
        remembered = [{"key": key, "gone_day": day} for key, sha256 in gone.items() if sha256 not in there]
        if remembered:
            connection.execute(insert(gone_frames), remembered)
        let_leave(connection, [bytes(row.sha256) for row in some])


def within(connection: Connection, region: Region, limit: int) -> list[Row[*tuple[Any, ...]]]:
    """The first frames of a region, at most so many."""
    query = (
        select(kept_frames.c.number, kept_frames.c.camera, kept_frames.c.sha256, kept_frames.c.at_us)
        .join(cameras, cameras.c.number == kept_frames.c.camera)
        .where(cameras.c.site == region.site, cameras.c.camera == region.camera)
        .where(kept_frames.c.at_us < region.until_us)
        .order_by(kept_frames.c.at_us)
    )
    if region.since_us is not None:
        query = query.where(kept_frames.c.at_us >= region.since_us)
    found: list[Row[*tuple[Any, ...]]] = []
    with connection.execute(query.execution_options(yield_per=AT_ONCE)) as rows:
        for row in rows:
            if not is_within(row.at_us, region.stay):
                found.append(row)
            if len(found) == limit:
                break
    return found


def is_within(at_us: int, stretches: Sequence[tuple[int, int]]) -> bool:
    """Whether an instant is in one of these stretches (first and last instant), which are in order and apart."""
    next_end = bisect_left(stretches, at_us, key=itemgetter(1))
    return next_end < len(stretches) and stretches[next_end][0] <= at_us


def refused(connection: Connection, name: tuple[str, str]) -> list[tuple[int, int]]:
    """The stretches of a camera of which nothing is accepted any more: erased, or before its first burst."""
    mine = (erasures.c.site == name[0], erasures.c.camera == name[1])
    query = select(erasures.c.since_us, erasures.c.until_us).where(*mine)
    found = [(row.since_us, row.until_us) for row in connection.execute(query)]
    border = select(keeping.c.bursts_from_us).where(keeping.c.site == name[0], keeping.c.camera == name[1])
    from_us = connection.execute(border).scalar_one_or_none()
    return found if from_us is None else [*found, (-(2**63), from_us)]


def keys_gone(connection: Connection, keys: Mapping[int, str]) -> set[str]:
    """The values of those keys whose pictures went."""
    found: set[str] = set()
    for some in portions(list(keys)):
        query = select(gone_frames.c.key).where(gone_frames.c.key.in_(some))
        found |= {keys[key] for key in connection.execute(query).scalars()}
    return found


def key_of(camera: int, sha256: str) -> int:
    """63 bits that stand for a camera and a picture."""
    return int.from_bytes(hashlib.sha256(f"{camera}/{sha256}".encode()).digest()[:8], "big") >> 1
