"""Users of the console, with their passwords and roles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy import Connection, delete, insert, select, update

from server.domain.errors import Conflict
from server.domain.people import COMMAND_LINE, Role, User, check_name, check_password, shown_roles
from server.store.engine import reading, writing
from server.store.people.accounts import LOCK, present_row, read_users
from server.store.people.attempts import forget_attempts
from server.store.people.audit import add_line
from server.store.people.passwords import hash_of
from server.store.people.sessions import Sessions
from server.store.schema import grants, users

_ANY_USER = select(users.c.name).limit(1)


class Users(Sessions):
    """The users in one database, and their sessions. A change adds a line to the audit, in the same transaction."""

    def has_users(self) -> bool:
        """Whether a user was ever added. Removing the last one does not open the console again."""
        return self._row(_ANY_USER) is not None

    def user(self, name: str) -> User | None:
        """The user of this name; None where there is none, or none any more."""
        with reading(self._engine) as connection:
            return next(iter(read_users(connection, name)), None)

    def list_users(self) -> Sequence[User]:
        """All users by name, without those that were removed."""
        with reading(self._engine) as connection:
            return read_users(connection)

    def add(self, name: str, password: str, roles: Mapping[str, Role], author: str = COMMAND_LINE) -> None:
        """Add a user; `roles` by site. Raises Conflict for one that is there, and Unprocessable."""
        check_name(name)
        check_password(name, password)
        values = {"hash": hash_of(password), "created_at_us": self._clock(), "removed_at_us": None}
        with writing(self._engine, lock=LOCK) as connection:
            row = connection.execute(select(users).where(users.c.name == name)).one_or_none()
            if row is None:
                connection.execute(insert(users), {"name": name, "epoch": 1, **values})
            elif row.removed_at_us is None:
                raise Conflict(f"there is a user {name} already: `sectorwatch users password {name}` changes it")
            else:
                connection.execute(update(users).where(users.c.name == name).values(epoch=row.epoch + 1, **values))
            _set_roles(connection, name, roles)
            forget_attempts(connection, name)
            self._note(connection, author, "user_added", name, shown_roles(roles))

    def remove(self, name: str, author: str = COMMAND_LINE) -> None:
        """Remove a user, whose sessions end. Raises Unknown."""
        with writing(self._engine, lock=LOCK) as connection:
            _end_sessions(connection, name, removed_at_us=self._clock())
            connection.execute(delete(grants).where(grants.c.name == name))
            self._note(connection, author, "user_removed", name)

    def set_password(self, name: str, password: str, author: str = COMMAND_LINE) -> None:
        """Give a user another password, and end all of its sessions. Raises Unknown and Unprocessable."""
        check_password(name, password)
        made = hash_of(password)
        with writing(self._engine, lock=LOCK) as connection:
            _end_sessions(connection, name, hash=made)
            forget_attempts(connection, name)
            self._note(connection, author, "password_changed", name)

    def set_roles(self, name: str, roles: Mapping[str, Role], author: str = COMMAND_LINE) -> None:
        """Replace what a user may do, from its next request on. Raises Unknown."""
        with writing(self._engine, lock=LOCK) as connection:
            present_row(connection, name)
            _set_roles(connection, name, roles)
            self._note(connection, author, "role_changed", name, shown_roles(roles))

    def sign_out(self, name: str, author: str = COMMAND_LINE) -> None:
        """End all sessions of a user. Raises Unknown."""
        with writing(self._engine, lock=LOCK) as connection:
            _end_sessions(connection, name)
            self._note(connection, author, "sessions_ended", name)

    def _note(self, connection: Connection, author: str, what: str, name: str, detail: str | None = None) -> None:
        add_line(connection, self._clock(), author, what, subject=name, detail=detail)


def _set_roles(connection: Connection, name: str, roles: Mapping[str, Role]) -> None:
    connection.execute(delete(grants).where(grants.c.name == name))
    for site, role in roles.items():
        connection.execute(insert(grants), {"name": name, "site": site, "role": role})


def _end_sessions(connection: Connection, name: str, **values: object) -> None:
    """Sessions of the epoch of before are over."""
    epoch = present_row(connection, name).epoch + 1
    connection.execute(update(users).where(users.c.name == name).values(epoch=epoch, **values))
