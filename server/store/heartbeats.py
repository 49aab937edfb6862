"""The newest heartbeat of each camera, and what else shows whether it is watched."""

from __future__ import annotations

from functools import partial

from sqlalchemy import and_, insert, select, update

from server.domain.records import CameraActivity, StoredHeartbeat
from server.domain.times.clock import SECOND_US
from server.store.bursts import Changes, Which, is_of, last_set_aside, newest_spans, read_heads, waiting_cameras
from server.store.care.derived import mending
from server.store.engine import reading, writing
from server.store.rows import Part
from server.store.schema import burst_records, heartbeats

_RECENT = 8
_AHEAD_US = 300 * SECOND_US
"""Of the server's clock: beyond, a burst says nothing about the present."""
_OVERTAKEN_US = 600 * SECOND_US
_COLUMNS = [heartbeats.c[name] for name in StoredHeartbeat.__slots__]


class Heartbeats(Part):
    """The heartbeats in one database."""

    def keep(self, heartbeat: StoredHeartbeat) -> bool:
        """Store a camera's newest heartbeat. False for an older one of the same run of the agent, which is not stored.

        One that is older by more than _OVERTAKEN_US was not overtaken: the agent's clock was set back in between.
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
            if (
                known.started_at_us == heartbeat.started_at_us
                and 0 < known.sent_at_us - heartbeat.sent_at_us <= _OVERTAKEN_US
            ):
                return False
            connection.execute(update(heartbeats).where(mine).values(row))
            return True

    def newest(self, site: str, camera: str) -> StoredHeartbeat | None:
        """The newest heartbeat of a camera; None before its first."""
        mine = (heartbeats.c.site == site, heartbeats.c.camera == camera)
        row = self._row(select(*_COLUMNS).where(*mine))
        return None if row is None else StoredHeartbeat(*row)

    def activities(self, which: Which = None) -> list[CameraActivity]:
        """The activity of each of these cameras that ever sent a burst or a heartbeat, by site and camera."""
        return mending(self._engine, self._versions, partial(self._activities, which))

    def changes(self) -> Changes:
        """Tells which cameras `activities` is to be asked of again."""
        return Changes(self._engine)

    def _activities(self, which: Which) -> list[CameraActivity]:
        with reading(self._engine) as connection:
            mine = select(*_COLUMNS).where(is_of(which, heartbeats.c.site, heartbeats.c.camera))
            newest = {(row.site, row.camera): StoredHeartbeat(*row) for row in connection.execute(mine)}
            seen = {(head.site, head.camera): head for head in read_heads(connection, self._versions, which)}
            waiting = waiting_cameras(connection, burst_records.c.late == 0)
            ahead = {name for name in waiting if _is_one(name, which)}
            names = sorted({*newest, *seen, *ahead})
            recent = newest_spans(connection, names, which, self._clock() + _AHEAD_US, _RECENT)
            aside = last_set_aside(connection, which)
            return [
                CameraActivity(*name, newest.get(name), recent[name], seen.get(name), name in ahead, aside.get(name))
                for name in names
            ]


def _is_one(name: tuple[str, str], which: Which) -> bool:
    if which is None:
        return True
    return name[0] == which if isinstance(which, str) else name in which
