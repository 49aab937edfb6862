"""Versions of site policies, as people proposed them, and what became of them. A change is a line of the audit, too."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, Select, insert, select, update

from server.domain.errors import Unknown
from server.domain.policy_versions import PolicyVersion
from server.domain.times.clock import Clock
from server.store.engine import reading, writing
from server.store.people.audit import add_line
from server.store.rows import Part
from server.store.schema import policy_versions

_COLUMNS = [policy_versions.c[name] for name in PolicyVersion.__slots__]
_ADDED = insert(policy_versions).returning(policy_versions.c.number)
_LOCK = "policy versions"


class PolicyVersions(Part):
    """The versions in one database. No text ever changes."""

    def add(self, proposed: PolicyVersion) -> PolicyVersion:
        """Keep a proposed version. Returns it with number and time."""
        now_us = self._clock()
        row = {name: getattr(proposed, name) for name in PolicyVersion.__slots__ if name != "number"}
        with writing(self._engine, lock=_LOCK) as connection:
            number = connection.execute(_ADDED, row | {"made_at_us": now_us}).scalar_one()
            about = {"site": proposed.site, "subject": str(number), "detail": proposed.why}
            add_line(connection, now_us, proposed.author, "policy_proposed", **about)
            return _version(connection, number)

    def version(self, number: int) -> PolicyVersion:
        """The version of a number. Raises Unknown."""
        with reading(self._engine) as connection:
            return _version(connection, number)

    def of_site(self, site: str, limit: int) -> Sequence[PolicyVersion]:
        """The newest versions of a site, newest first."""
        return [PolicyVersion(*row) for row in self._rows(_of_site(site, limit))]

    @contextmanager
    def changing(self) -> Iterator[Changing]:
        """A transaction that changes what became of versions. Whoever else changes one waits for its end."""
        with writing(self._engine, lock=_LOCK) as connection:
            yield Changing(connection, self._clock)


class Changing:
    """What can be changed about versions, in one transaction."""

    def __init__(self, connection: Connection, clock: Clock) -> None:
        self._connection = connection
        self._clock = clock

    def of_site(self, site: str, limit: int) -> Sequence[PolicyVersion]:
        """As `PolicyVersions.of_site`."""
        return [PolicyVersion(*row) for row in self._connection.execute(_of_site(site, limit)).all()]

    def version(self, number: int) -> PolicyVersion:
        """As `PolicyVersions.version`."""
        return _version(self._connection, number)

    def put_in_force(self, version: PolicyVersion, author: str) -> None:
        """Note that the version is in the site's file, also where it was taken back before."""
        values = {"in_force_at_us": self._clock(), "in_force_by": author}
        self._mark(version, author, "policy_put_in_force", values | {"taken_back_at_us": None, "taken_back_by": None})

    def take_back(self, version: PolicyVersion, author: str) -> None:
        """Note that the text from which the version was made is in the site's file again."""
        values = {"taken_back_at_us": self._clock(), "taken_back_by": author}
        self._mark(version, author, "policy_taken_back", values)

    def _mark(self, version: PolicyVersion, author: str, what: str, values: dict[str, Any]) -> None:
        found = update(policy_versions).where(policy_versions.c.number == version.number)
        self._connection.execute(found.values(values))
        subject = str(version.number)
        add_line(
            self._connection, self._clock(), author, what, site=version.site, subject=subject, detail=version.digest
        )


def _version(connection: Connection, number: int) -> PolicyVersion:
    row = connection.execute(select(*_COLUMNS).where(policy_versions.c.number == number)).one_or_none()
    if row is None:
        raise Unknown(f"there is no version {number} of a site policy: `sectorwatch policy versions SITE` lists them")
    return PolicyVersion(*row)


def _of_site(site: str, limit: int) -> Select[tuple[Any, ...]]:
    newest = select(*_COLUMNS).where(policy_versions.c.site == site)
    return newest.order_by(policy_versions.c.number.desc()).limit(limit)
