"""Versions of site policies, as people proposed them, and what became of them. A change is a line of the audit, too."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
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
        with self.changing() as changing:
            return changing.add(proposed)

    def version(self, number: int) -> PolicyVersion:
        """The version of a number. Raises Unknown."""
        with reading(self._engine) as connection:
            return _version(connection, number)

    def of_site(self, site: str, limit: int) -> Sequence[PolicyVersion]:
        """The newest versions of a site, newest first."""
        return [PolicyVersion(*row) for row in self._rows(_of_site(site, limit))]

    def judging(self, site: str) -> PolicyVersion | None:
        """The version that judges the site's bursts, where sites are in the database; None: the site has none."""
        with reading(self._engine) as connection:
            return _judging(connection, site)

    def every_judging(self) -> Sequence[PolicyVersion]:
        """The version that judges, of each site in the database, by site."""
        query = select(*_COLUMNS).where(policy_versions.c.judges == 1).order_by(policy_versions.c.site)
        return [PolicyVersion(*row) for row in self._rows(query)]

    def number_judging(self, site: str) -> int | None:
        """The number of `judging`."""
        with reading(self._engine) as connection:
            return number_judging(connection, site)

    def numbers_judging(self) -> Mapping[str, int]:
        """The numbers of `every_judging`, by site."""
        query = select(policy_versions.c.site, policy_versions.c.number).where(policy_versions.c.judges == 1)
        return {row.site: row.number for row in self._rows(query)}

    @contextmanager
    def changing(self) -> Iterator[Changing]:
        """A transaction that changes what became of versions. Whoever else changes one waits for its end."""
        with writing(self._engine, lock=_LOCK) as connection:
            yield Changing(connection, self._clock)


class Changing:
    """What can be changed about versions, in one transaction. Each change is a line of the audit."""

    def __init__(self, connection: Connection, clock: Clock) -> None:
        self._connection = connection
        self._clock = clock

    def of_site(self, site: str, limit: int) -> Sequence[PolicyVersion]:
        """As `PolicyVersions.of_site`."""
        return [PolicyVersion(*row) for row in self._connection.execute(_of_site(site, limit)).all()]

    def version(self, number: int) -> PolicyVersion:
        """As `PolicyVersions.version`."""
        return _version(self._connection, number)

    def judging(self, site: str) -> PolicyVersion | None:
        """As `PolicyVersions.judging`."""
        return _judging(self._connection, site)

    def with_text(self, site: str, text: str) -> PolicyVersion | None:
        """The newest version of a site with this text; rather one that was in force."""
        query = select(*_COLUMNS).where(policy_versions.c.site == site, policy_versions.c.text == text)
        order = policy_versions.c.in_force_at_us.is_(None), policy_versions.c.number.desc()
        row = self._connection.execute(query.order_by(*order).limit(1)).one_or_none()
        return None if row is None else PolicyVersion(*row)

    def add(self, proposed: PolicyVersion) -> PolicyVersion:
        """As `PolicyVersions.add`."""
        now_us = self._clock()
        row = {name: getattr(proposed, name) for name in PolicyVersion.__slots__ if name != "number"}
        number = self._connection.execute(_ADDED, row | {"made_at_us": now_us}).scalar_one()
        about = {"site": proposed.site, "subject": str(number), "detail": proposed.why}
        add_line(self._connection, now_us, proposed.author, "policy_proposed", **about)
        return _version(self._connection, number)

    def let_judge(self, version: PolicyVersion) -> None:
        """From the commit on, the version judges its site's bursts, in the place of another one."""
        self._let_none_judge(version.site)
        this = update(policy_versions).where(policy_versions.c.number == version.number)
        self._connection.execute(this.values(judges=1))

    def remove(self, version: PolicyVersion, author: str) -> None:
        """Take back the version that judges a site, with none in its place."""
        self._let_none_judge(version.site)
        values = {"taken_back_at_us": self._clock(), "taken_back_by": author}
        self._mark(version, author, "policy_removed", values)

    def put_in_force(self, version: PolicyVersion, author: str) -> None:
        """Note that the version is in the site's file, also where it was taken back before."""
        values = {"in_force_at_us": self._clock(), "in_force_by": author}
        self._mark(version, author, "policy_put_in_force", values | {"taken_back_at_us": None, "taken_back_by": None})

    def take_back(self, version: PolicyVersion, author: str) -> None:
        """Note that the text from which the version was made is in the site's file again."""
        values = {"taken_back_at_us": self._clock(), "taken_back_by": author}
        self._mark(version, author, "policy_taken_back", values)

    def _let_none_judge(self, site: str) -> None:
        of_site = update(policy_versions).where(policy_versions.c.site == site, policy_versions.c.judges == 1)
        self._connection.execute(of_site.values(judges=None))

    def _mark(self, version: PolicyVersion, author: str, what: str, values: dict[str, Any]) -> None:
        found = update(policy_versions).where(policy_versions.c.number == version.number)
        self._connection.execute(found.values(values))
        subject = str(version.number)
        add_line(
            self._connection, self._clock(), author, what, site=version.site, subject=subject, detail=version.digest
        )


def number_judging(connection: Connection, site: str) -> int | None:
    """The number of the version that judges the site's bursts; None: the site is not in the database."""
    query = select(policy_versions.c.number).where(policy_versions.c.site == site, policy_versions.c.judges == 1)
    return connection.execute(query).scalar_one_or_none()


def _judging(connection: Connection, site: str) -> PolicyVersion | None:
    query = select(*_COLUMNS).where(policy_versions.c.site == site, policy_versions.c.judges == 1)
    row = connection.execute(query).one_or_none()
    return None if row is None else PolicyVersion(*row)


def _version(connection: Connection, number: int) -> PolicyVersion:
    row = connection.execute(select(*_COLUMNS).where(policy_versions.c.number == number)).one_or_none()
    if row is None:
        raise Unknown(f"there is no version {number} of a site policy: `sectorwatch policy versions SITE` lists them")
    return PolicyVersion(*row)


def _of_site(site: str, limit: int) -> Select[tuple[Any, ...]]:
    newest = select(*_COLUMNS).where(policy_versions.c.site == site)
    return newest.order_by(policy_versions.c.number.desc()).limit(limit)
