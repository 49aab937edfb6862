"""The audit: who changed what, and who signed in or failed to."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import ColumnElement, Connection, delete, func, insert, select

from server.domain.people import AuditLine
from server.domain.times.clock import SECOND_US
from server.store.engine import writing
from server.store.rows import Part
from server.store.schema import audit

_LONGEST = 1000
"""Characters of a subject and of a detail that are kept."""
_AT_ONCE = 1000


class Audit(Part):
    """The audit's lines in one database. `add_line` writes them. No line is ever changed. Old ones are deleted, and a
    failure to sign in that was none.
    """

    def page(
        self,
        *,
        sites: frozenset[str] | None = None,
        since_us: int | None = None,
        before: int | None = None,
        limit: int = 100,
    ) -> Sequence[AuditLine]:
        """The newest lines, newest first; `before` a number: those before it. `sites` None: all lines.

        With `sites`, lines that concern no single site are left out.
        """
        wanted: list[ColumnElement[bool]] = []
        if sites is not None:
            wanted.append(audit.c.site.in_(sorted(sites)))
        if since_us is not None:
            wanted.append(audit.c.at_us >= since_us)
        if before is not None:
            wanted.append(audit.c.number < before)
        query = select(audit).where(*wanted).order_by(audit.c.number.desc()).limit(limit)
        return [AuditLine(*row) for row in self._rows(query)]

    def sweep(self, keep_days: float) -> int:
        """Delete lines that are older than so many days (0: none), some at once; how many went.

        The newest line stays, so that the numbers never begin again.
        """
        if not keep_days:
            return 0
        before_us = self._clock() - round(keep_days * 86_400 * SECOND_US)
        with writing(self._engine, lock="audit") as connection:
            newest = select(func.max(audit.c.number)).scalar_subquery()
            is_old = audit.c.at_us < before_us, audit.c.number < newest
            old = select(audit.c.number).where(*is_old).order_by(audit.c.number).limit(_AT_ONCE)
            numbers = connection.execute(old).scalars().all()
            connection.execute(delete(audit).where(audit.c.number.in_(numbers)))
        return len(numbers)


def add_line(
    connection: Connection,
    at_us: int,
    author: str,
    what: str,
    *,
    site: str | None = None,
    subject: str | None = None,
    detail: str | None = None,
) -> int:
    """Add a line in the transaction of what it tells of; its number.

    `author` is a user's name, COMMAND_LINE, or `token` and its id.
    """
    row = {
        "at_us": at_us,
        "author": author,
        "what": what,
        "site": site,
        "subject": subject and subject[:_LONGEST],
        "detail": detail and detail[:_LONGEST],
    }
    return int(connection.execute(insert(audit).returning(audit.c.number), row).scalar_one())


def drop_line(connection: Connection, number: int) -> None:
    """Delete a line that was added before its fact was certain, and that is wrong."""
    connection.execute(delete(audit).where(audit.c.number == number))
