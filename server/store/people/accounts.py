"""Rows of users, as users and sessions read them."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Row, select

from server.domain.errors import Unknown
from server.domain.people import Role, User
from server.store.schema import grants, users

LOCK = "users"
"""Whoever changes users or sessions holds it."""


def read_users(connection: Connection, name: str | None = None) -> list[User]:
    """The users (of this name) that were not removed, by name."""
    query = (
        select(users.c.name, users.c.created_at_us, grants.c.site, grants.c.role)
        .join(grants, grants.c.name == users.c.name, isouter=True)
        .where(users.c.removed_at_us.is_(None))
        .order_by(users.c.name, grants.c.site)
    )
    rows = connection.execute(query if name is None else query.where(users.c.name == name)).all()
    roles: dict[tuple[str, int], dict[str, Role]] = {}
    for row in rows:
        mine = roles.setdefault((row.name, row.created_at_us), {})
        if row.site is not None:
            mine[row.site] = row.role
    return [User(name, mine, created_at_us) for (name, created_at_us), mine in roles.items()]


def present_row(connection: Connection, name: str) -> Row[*tuple[Any, ...]]:
    """The row of a user that was not removed. Raises Unknown."""
    row = connection.execute(select(users).where(users.c.name == name, users.c.removed_at_us.is_(None))).one_or_none()
    if row is None:
        raise Unknown(f"there is no user {name[:80]}: `sectorwatch users list` shows all")
    return row
