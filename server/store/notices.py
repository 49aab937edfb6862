"""Notices about the server, stored and announced. Rows are only ever added."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Engine, func, insert, select

from server.domain.clock import Clock
from server.domain.records import Notice, Noticed
from server.store.engine import reading, writing
from server.store.outbox import take_numbers
from server.store.rows import MODELS_SEPARATOR, noticed
from server.store.schema import notices


class Notices:
    """The notices in one database; safe to use from several threads and processes."""

    def __init__(self, engine: Engine, clock: Clock) -> None:
        self._engine = engine
        self._clock = clock

    def add(self, what: Noticed, ensemble: str, models: Sequence[str], detail: str) -> Notice:
        """Store a notice with the present time, and announce it on every channel, in one transaction."""
        with writing(self._engine, lock="notices") as connection:
            last = connection.execute(select(func.max(notices.c.number))).scalar_one() or 0
            seq = take_numbers(connection, 1)[0]
            notice = Notice(last + 1, seq, self._clock(), what, ensemble, tuple(models), detail)
            row = {name: getattr(notice, name) for name in Notice.__slots__}
            connection.execute(insert(notices), row | {"models": MODELS_SEPARATOR.join(models)})
        return notice

    def all(self, limit: int | None = None) -> list[Notice]:
        """The newest notices, at most `limit`, oldest first."""
        query = select(*(notices.c[name] for name in Notice.__slots__)).order_by(notices.c.number.desc())
        with reading(self._engine) as connection:
            rows = connection.execute(query.limit(limit) if limit is not None else query).all()
        return [noticed(row) for row in reversed(rows)]
