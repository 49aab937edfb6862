"""Annotations by people. Rows are only ever added; the newest one of a subject counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, func, insert, select

from server.domain.records import Annotation
from server.store.engine import writing
from server.store.people.audit import add_line
from server.store.rows import Part, begins_with
from server.store.schema import annotation_rows

_AT_ONCE = 500
_COLUMNS = [annotation_rows.c[name] for name in Annotation.__slots__]


class Annotations(Part):
    """The annotations in one database."""

    def add(self, made: Sequence[Annotation], *, by: str | None = None) -> list[Annotation]:
        """Store annotations in this order, all or none. Returns them with number and time.

        `by`: who adds them (a user's name, COMMAND_LINE, or `token` and its id), for a line in the audit for each site,
        which is stored with them or not at all. None: no line.
        """
        with writing(self._engine, lock="annotations") as connection:
            last = connection.execute(select(func.max(annotation_rows.c.number))).scalar_one() or 0
            now = self._clock()
            kept = [replace(annotation, number=last + i, made_at_us=now) for i, annotation in enumerate(made, 1)]
            if kept:
                connection.execute(insert(annotation_rows), [_row(annotation) for annotation in kept])
            if by is not None:
                _audit(connection, kept, now, by)
        return kept

    def all(self, site: str | None = None, after: int = 0, limit: int | None = None) -> list[Annotation]:
        """All annotations (of a site) with a number above `after`, in the order they were made."""
        query: Select[Any] = (
            select(*_COLUMNS).where(annotation_rows.c.number > after).order_by(annotation_rows.c.number)
        )
        if site is not None:
            query = query.where(annotation_rows.c.site == site)
        if limit is not None:
            query = query.limit(limit)
        return [_annotation(row) for row in self._rows(query)]

    def current(self, site: str | None = None) -> list[Annotation]:
        """The newest annotation of each subject (of a site), in order of the facts' time."""
        return self._newest(*(() if site is None else (annotation_rows.c.site == site,)))

    def about(self, prefix: str) -> list[Annotation]:
        """The newest annotation of each subject whose id begins with `prefix`."""
        return self._newest(begins_with(annotation_rows.c.subject, prefix))

    def of(self, subjects: Sequence[str]) -> dict[str, Annotation]:
        """The newest annotation of each of these subjects that has one."""
        found: dict[str, Annotation] = {}
        for start in range(0, len(subjects), _AT_ONCE):
            some = subjects[start : start + _AT_ONCE]
            found |= {each.subject: each for each in self._newest(annotation_rows.c.subject.in_(some))}
        return found

    def history(self, subject: str, limit: int) -> list[Annotation]:
        """The newest annotations of one subject, in the order they were made; at most `limit`."""
        mine = select(*_COLUMNS).where(annotation_rows.c.subject == subject)
        rows = self._rows(mine.order_by(annotation_rows.c.number.desc()).limit(limit))
        return [_annotation(row) for row in rows][::-1]

    def _newest(self, *where: ColumnElement[bool]) -> list[Annotation]:
        """The newest of each subject among the annotations that match. A subject has one site."""
        newest = select(func.max(annotation_rows.c.number)).where(*where).group_by(annotation_rows.c.subject)
        query = (
            select(*_COLUMNS)
            .where(annotation_rows.c.number.in_(newest))
            .order_by(annotation_rows.c.at_us, annotation_rows.c.number)
        )
        return [_annotation(row) for row in self._rows(query)]


def _audit(connection: Connection, kept: Sequence[Annotation], now_us: int, by: str) -> None:
    """A line for each site: its first annotation, and how many more."""
    for site, count in Counter(each.site for each in kept).items():
        first = next(each for each in kept if each.site == site)
        author = "" if first.author == by else f", by {first.author}"
        more = f", and {count - 1} more" if count > 1 else ""
        detail = f"{first.truth} {first.kind}{author}{more}"
        add_line(connection, now_us, by, "annotation_added", site=site, subject=first.subject, detail=detail)


def _row(annotation: Annotation) -> dict[str, Any]:
    return {name: getattr(annotation, name) for name in Annotation.__slots__} | {"is_told": int(annotation.is_told)}


def _annotation(row: Any) -> Annotation:
    return replace(Annotation(*row), is_told=bool(row.is_told))
