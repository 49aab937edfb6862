"""Tables of derived data with damaged pages are thrown away and made anew from the bursts.

`server.store.revival` makes single states anew. Here the pages themselves cannot be read, so no row can be replaced.
The table is taken out of the schema, and a new one takes its place. Its pages stay unused, since a damaged page may
point anywhere. The next backup has no such pages.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

from sqlalchemy import Connection, Engine, Table, func, insert, select

from server.domain.errors import ConfigurationError, DatabaseDamaged
from server.store.engine import reading, writing
from server.store.revival import revive
from server.store.rows import Versions
from server.store.schema import bursts, camera_states, checkpoints

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
                _fill_heads(connection)
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


def _fill_heads(connection: Connection) -> None:
    """A row for each camera that ever advanced, with a state that is still to be made."""
    mine = (bursts.c.site, bursts.c.camera)
    newest = select(*mine, func.max(bursts.c.last_at_us)).where(bursts.c.status == "folded").group_by(*mine)
    for site, camera, last_at_us in connection.execute(newest).all():
        last = (
            select(bursts.c.policy, bursts.c.received_at_us)
            .where(bursts.c.site == site, bursts.c.camera == camera)
            .where(bursts.c.status == "folded", bursts.c.last_at_us == last_at_us)
            .order_by(bursts.c.burst_id.desc())
            .limit(1)
        )
        policy, received_at_us = connection.execute(last).one()
        row = {"site": site, "camera": camera, "last_at_us": last_at_us, "state": ""}
        connection.execute(insert(camera_states), row | {"policy": policy, "changed_at_us": received_at_us})
