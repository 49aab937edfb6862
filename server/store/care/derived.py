"""Tables of derived data with damaged pages are thrown away and made anew from the bursts.

`server.store.care.revival` makes single states anew. Here the pages themselves cannot be read, so no row can be
replaced. The table is taken out of the schema, and a new one takes its place. Its pages stay unused, since a damaged
page may point anywhere. The next backup has no such pages.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

from sqlalchemy import Connection, Engine, Table, func, insert, select

from server.domain.errors import ConfigurationError, DatabaseDamaged
from server.store.bursts import newest_burst
from server.store.care.revival import revive
from server.store.engine import reading, writing
from server.store.rows import Versions
from server.store.schema import bursts, camera_states, cameras, checkpoints, contexts, policies, removals

log = logging.getLogger(__name__)

T = TypeVar("T")

_DERIVED = (camera_states, checkpoints)


def mending(engine: Engine, versions: Versions, work: Callable[[], T]) -> T:
    """The result of `work`, which reads; once more where derived data had to be made anew. Raises what `work` does."""
    try:
        return work()
    except DatabaseDamaged:
        if not remake_derived(engine, versions):
            raise
        return work()


def remake_derived(engine: Engine, versions: Versions) -> bool:
    """Make the tables of derived data anew that have damaged pages; whether there were any, and could be made anew."""
    if engine.dialect.name != "sqlite":
        return False
    try:
        # Each in a transaction of its own: SQLite writes nothing in one that met a damaged page.
        damaged = [table for table in _DERIVED if _is_damaged(engine, table)]
        if not damaged:
            return False
        with writing(engine, lock="schema") as connection:
            _replace(connection, damaged)
            if camera_states in damaged:
                _fill_heads(connection, versions)
            revive(connection, versions)
    except ConfigurationError as error:  # other tables are damaged too, or nothing can be written here
        log.error("derived data cannot be made anew", extra={"cause": error.detail})
        return False
    names = ",".join(table.name for table in damaged)
    log.warning("damaged derived data is thrown away and made anew", extra={"tables": names})
    return True


def _is_damaged(engine: Engine, table: Table) -> bool:
    try:
        with reading(engine) as connection:
            found = connection.exec_driver_sql(f"PRAGMA integrity_check('{table.name}')").scalars().all()
    except DatabaseDamaged:
        return True
    return list(found) != ["ok"]


def _replace(connection: Connection, tables: list[Table]) -> None:
    connection.exec_driver_sql("PRAGMA writable_schema = ON")
    for table in tables:
        connection.exec_driver_sql("DELETE FROM sqlite_schema WHERE tbl_name = ?", (table.name,))
    connection.exec_driver_sql("PRAGMA writable_schema = RESET")
    for table in tables:
        table.create(connection)


def _fill_heads(connection: Connection, versions: Versions) -> None:
    """A row for each camera that ever advanced, with a state that is still to be made."""
    for site, camera in sorted(_names(connection)):
        newest = newest_burst(connection, versions, site, camera)
        mine = (removals.c.site == site, removals.c.camera == camera)
        gone_until_us = connection.execute(select(func.max(removals.c.until_us)).where(*mine)).scalar_one()
        if newest is not None and (gone_until_us is None or newest.last_at_us >= gone_until_us):
            last_at_us, policy, changed_at_us = newest.last_at_us, newest.policy, newest.received_at_us
        elif gone_until_us is not None:
            last_at_us, policy, changed_at_us = gone_until_us - 1, _last_policy(connection, site, camera), 0
        else:  # all of its bursts wait
            continue
        row = {"site": site, "camera": camera, "last_at_us": last_at_us, "state": ""}
        connection.execute(insert(camera_states), row | {"policy": policy, "changed_at_us": changed_at_us})


def _names(connection: Connection) -> set[tuple[str, str]]:
    return {
        (site, camera)
        for table in (cameras, bursts, removals)
        for site, camera in connection.execute(select(table.c.site, table.c.camera).distinct())
    }


def _last_policy(connection: Connection, site: str, camera: str) -> str:
    """The policy of a camera's last bursts, also where none of them is kept."""
    query = (
        select(contexts.c.policy)
        .join(cameras, cameras.c.number == contexts.c.camera)
        .where(cameras.c.site == site, cameras.c.camera == camera)
        .order_by(contexts.c.number.desc())
        .limit(1)
    )
    found = connection.execute(query).scalar_one_or_none()
    if found is None:  # its bursts went in the form of before
        newest = select(policies.c.policy).where(policies.c.site == site).order_by(policies.c.first_used_us.desc())
        found = connection.execute(newest.limit(1)).scalar_one()
    return str(found)
