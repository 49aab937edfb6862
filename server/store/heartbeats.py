"""The newest heartbeat of each camera, and what else shows whether it is watched."""

from __future__ import annotations

from sqlalchemy import Connection, and_, insert, select, update

from server.domain.records import BurstSpan, CameraActivity, StoredHeartbeat
from server.store.bursts import IS_HELD, find_bursts, read_heads
from server.store.engine import reading, writing
from server.store.rows import Part, Versions
from server.store.schema import burst_records, cameras, heartbeats

_RECENT = 8
_Name = tuple[str, str]
_COLUMNS = [heartbeats.c[name] for name in StoredHeartbeat.__slots__]


class Heartbeats(Part):
    """The heartbeats in one database."""

    def keep(self, heartbeat: StoredHeartbeat) -> bool:
        """Store a camera's newest heartbeat. False for an older one of the same run of the agent, which is not
        stored.
        """
        mine = and_(heartbeats.c.site == heartbeat.site, heartbeats.c.camera == heartbeat.camera)
        row = {name: getattr(heartbeat, name) for name in StoredHeartbeat.__slots__} | {"received_at_us": self._clock()}
        with writing(self._engine, lock=f"heartbeat/{heartbeat.site}/{heartbeat.camera}") as connection:
            known = connection.execute(
                select(heartbeats.c.started_at_us, heartbeats.c.sent_at_us).where(mine)
            ).one_or_none()
            if known is None:
                connection.execute(insert(heartbeats), row)
                return True
            if known.started_at_us == heartbeat.started_at_us and known.sent_at_us > heartbeat.sent_at_us:
                return False
            connection.execute(update(heartbeats).where(mine).values(row))
            return True

    def newest(self, site: str, camera: str) -> StoredHeartbeat | None:
        """The newest heartbeat of a camera; None before its first."""
        mine = (heartbeats.c.site == site, heartbeats.c.camera == camera)
        row = self._row(select(*_COLUMNS).where(*mine))
        return None if row is None else StoredHeartbeat(*row)

    def activities(self, site: str | None = None) -> list[CameraActivity]:
        """The activity of every camera (of a site) that ever sent a burst or a heartbeat, by site and camera."""
        with reading(self._engine) as connection:
            newest = {(row.site, row.camera): StoredHeartbeat(*row) for row in connection.execute(select(*_COLUMNS))}
            seen = {(head.site, head.camera): head for head in read_heads(connection, self._versions)}
            ahead = _ahead(connection)
            names = sorted(name for name in {*newest, *seen, *ahead} if site in (None, name[0]))
            return [
                CameraActivity(
                    *name, newest.get(name), _recent(connection, self._versions, name), seen.get(name), name in ahead
                )
                for name in names
            ]


def _ahead(connection: Connection) -> set[_Name]:
    """The cameras with held bursts."""
    held = select(cameras.c.site, cameras.c.camera).where(
        cameras.c.number.in_(select(burst_records.c.camera).where(IS_HELD))
    )
    return {(row.site, row.camera) for row in connection.execute(held)}


def _recent(connection: Connection, versions: Versions, name: _Name) -> tuple[BurstSpan, ...]:
    """The spans of a camera's newest bursts that are in the fold, newest first."""
    found = find_bursts(connection, versions, *name, with_held=False, is_newest_first=True, limit=_RECENT)
    return tuple(
        BurstSpan(facts.burst_id, facts.first_at_us, facts.last_at_us, facts.received_at_us) for facts in found
    )
