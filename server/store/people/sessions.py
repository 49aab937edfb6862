"""Sessions of the console's users: how they begin, by a password, and how they end."""

from __future__ import annotations

import hashlib
import secrets
from contextlib import suppress
from typing import Any

from sqlalchemy import ColumnElement, Connection, Engine, Row, bindparam, delete, exists, insert, or_, select, update
from sqlalchemy.exc import IntegrityError

from server.domain.errors import SectorwatchError, Unauthorized
from server.domain.people import SignedIn, is_name
from server.domain.times.clock import SECOND_US, Clock
from server.store.engine import writing
from server.store.people.accounts import LOCK
from server.store.people.attempts import Addresses, begin_attempt, forget_attempts, forget_old_attempts
from server.store.people.audit import add_line, drop_line
from server.store.people.passwords import hash_of, is_outdated, is_right
from server.store.rows import Part, Versions
from server.store.schema import grants, sessions, signing_keys, users

IDLE_US = 12 * 3600 * SECOND_US
"""A session ends when it was not used for so long."""
LONGEST_US = 7 * 86_400 * SECOND_US
"""It ends so long after its begin, however often it is used."""

_TOUCH_US = 60 * SECOND_US
_TOUCH_WAIT_S = 0.05
"""So long a page waits for the database's writer to note that a session was used."""
_SECRET_BYTES = 32
_WRONG = "the name or the password is wrong"


class Sessions(Part):
    """The sessions in one database. A session's secret is 256 random bits, of which the database has the SHA-256."""

    def __init__(self, engine: Engine, clock: Clock, versions: Versions) -> None:
        super().__init__(engine, clock, versions)
        self._addresses = Addresses(lambda: clock() / SECOND_US)
        self._not_touched_us: int | None = None

    def begin_session(self, name: str, password: str, address: str = "", device: str = "") -> str:
        """Begin a session; its secret, for the cookie. `device`: the number of a browser in which this user had one.

        Whether there is a user of this name shows neither in the answer nor in its time. Raises Unauthorized for a
        wrong name or password, and OverQuota while the name or the address has to wait.
        """
        self._addresses.begin(address)
        row, line = self._begin_attempt(name, address, device) if is_name(name) else (None, 0)
        if not is_right(None if row is None else row.hash, password) or row is None:
            raise Unauthorized(_WRONG)
        again = hash_of(password) if is_outdated(row.hash) else None
        secret = secrets.token_urlsafe(_SECRET_BYTES)
        with writing(self._engine, lock=LOCK) as connection:
            has_begun = self._begin(connection, row, secret, address)
            if has_begun:
                drop_line(connection, line)
                forget_attempts(connection, name, device)
            if has_begun and again is not None:
                connection.execute(update(users).where(users.c.name == name).values(hash=again))
        if not has_begun:
            raise Unauthorized(_WRONG)
        return secret

    def session(self, secret: str, *, is_use: bool = True) -> SignedIn | None:
        """A session that is not over; None otherwise. With `is_use` it counts as used, to the minute.

        Reading never waits for whoever writes: while the database takes no write at once, the use is not noted, and for
        a minute this process does not try again.
        """
        now_us, hashed = self._clock(), _hash(secret)
        rows = self._rows(_SESSION, {"id": hashed, "now_us": now_us, "idle_since_us": now_us - IDLE_US})
        if not rows:
            return None
        if is_use and rows[0].seen_at_us <= now_us - _TOUCH_US:
            self._touch(sessions.c.id == hashed, now_us)
        roles = {row.site: row.role for row in rows if row.site is not None}
        return SignedIn(rows[0].name, roles)

    def end_session(self, secret: str) -> None:
        """End a session, if it is one that is not over."""
        now_us = self._clock()
        this = (sessions.c.id == _hash(secret), ~_is_over(now_us, now_us - IDLE_US))
        with writing(self._engine, lock=LOCK) as connection:
            name = connection.execute(select(sessions.c.name).where(*this)).scalar_one_or_none()
            if name is not None:
                connection.execute(update(sessions).where(*this).values(ended_at_us=now_us))
                add_line(connection, now_us, name, "signed_out", subject=name)

    def signing_key(self, purpose: str = "cookies") -> bytes:
        """A random key, made at the first call: the same for all servers of this database."""
        query = select(signing_keys.c.key).where(signing_keys.c.purpose == purpose)
        row = self._row(query)
        if row is None:
            made = {"purpose": purpose, "key": secrets.token_bytes(_SECRET_BYTES), "made_at_us": self._clock()}
            with suppress(IntegrityError), writing(self._engine, lock=LOCK) as connection:
                connection.execute(insert(signing_keys), made)
            row = self._row(query)
            assert row is not None
        return bytes(row.key)

    def sweep(self) -> None:
        """Delete sessions that are over, and failed attempts that no longer count."""
        with writing(self._engine, lock=LOCK) as connection:
            _drop_over(connection, self._clock())
            forget_old_attempts(connection, self._clock())

    def _touch(self, this: ColumnElement[bool], now_us: int) -> None:
        failed_us = self._not_touched_us
        if failed_us is not None and 0 <= now_us - failed_us < _TOUCH_US:
            return
        try:
            with writing(self._engine, lock=LOCK, wait_s=_TOUCH_WAIT_S) as connection:
                connection.execute(update(sessions).where(this).values(seen_at_us=now_us))
        except SectorwatchError:  # neither a long transaction nor a full disk ends a session
            self._not_touched_us = now_us
        else:
            self._not_touched_us = None

    def _begin_attempt(self, name: str, address: str, device: str) -> tuple[Row[*tuple[Any, ...]] | None, int]:
        """The row of the user of this name, if there is one, and the number of the audit's line of a failure.

        One commit for every name, so that the time shows nobody which names there are. The audit has the failures of
        users alone: what is no user's name may be a password in the wrong field.
        """
        with writing(self._engine, lock=LOCK) as connection:
            now_us = self._clock()
            begin_attempt(connection, name, now_us, device)
            mine = select(users).where(users.c.name == name, users.c.removed_at_us.is_(None))
            row = connection.execute(mine).one_or_none()
            if row is None:
                return None, 0
            return row, add_line(connection, now_us, name, "sign_in_failed", subject=name, detail=_from(address))

    def _begin(self, connection: Connection, checked: Row[*tuple[Any, ...]], secret: str, address: str) -> bool:
        """Begin the session, unless the user was changed since the password was checked."""
        present = connection.execute(select(users).where(users.c.name == checked.name)).one_or_none()
        if present != checked:
            return False
        now_us, name = self._clock(), checked.name
        _drop_over(connection, now_us)
        session = {"id": _hash(secret), "name": name, "epoch": checked.epoch, "created_at_us": now_us}
        times = {"seen_at_us": now_us, "expires_at_us": now_us + LONGEST_US}
        connection.execute(insert(sessions), session | times)
        add_line(connection, now_us, name, "signed_in", subject=name, detail=_from(address))
        return True


def _is_over(now_us: Any, idle_since_us: Any) -> Any:
    return or_(
        sessions.c.ended_at_us.is_not(None),
        sessions.c.expires_at_us <= now_us,
        sessions.c.seen_at_us <= idle_since_us,
    )


_SESSION = (
    select(users.c.name, grants.c.site, grants.c.role, sessions.c.seen_at_us)
    .join(sessions, (sessions.c.name == users.c.name) & (sessions.c.epoch == users.c.epoch))
    .join(grants, grants.c.name == users.c.name, isouter=True)
    .where(sessions.c.id == bindparam("id"), users.c.removed_at_us.is_(None))
    .where(~_is_over(bindparam("now_us"), bindparam("idle_since_us")))
)
"""Each request of each open page asks this: building the statement took longer than asking it."""


def _drop_over(connection: Connection, now_us: int) -> None:
    of_user = exists().where(users.c.name == sessions.c.name, users.c.epoch == sessions.c.epoch)
    connection.execute(delete(sessions).where(or_(_is_over(now_us, now_us - IDLE_US), ~of_user)))


def _from(address: str) -> str | None:
    return f"from {address}" if address else None


def _hash(secret: str) -> bytes:
    return hashlib.sha256(secret.encode(errors="replace")).digest()
