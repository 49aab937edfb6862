"""What a changed fold makes different in the event log, collected slice by slice, so that memory stays flat."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from sqlalchemy import Connection, Row

from server.domain.records import LateBurst, Settled
from server.store.events.rewriting import correct_log, is_logged, ordered_rows, read_by_id, read_log
from server.store.retention import read_gone


class Difference:
    """The differences between one camera's log and a fold after `after_us`, as far as the fold has come."""

    def __init__(self, site: str, camera: str, after_us: int | None) -> None:
        self._site = site
        self._camera = camera
        self._until_us = after_us
        self._settled: set[str] = set()
        self._fresh: dict[str, Settled] = {}
        self._gone: set[str] = set()

    def add(self, connection: Connection, settled: Sequence[Settled], until_us: int | None) -> None:
        """Compare what the fold settled up to `until_us` (None: to its end) with that part of the log."""
        fresh: dict[str, Settled] = {}
        for each in settled:
            if each.event.id not in self._settled:  # the first frame that settles an event makes it
                self._settled.add(each.event.id)
                fresh[each.event.id] = each
        rows = read_log(connection, self._site, self._camera, self._until_us, until_us)
        for event_id, row in rows.items():
            if event_id in fresh and is_logged(row, fresh[event_id]):
                del fresh[event_id]
            else:
                self._gone.add(event_id)
        self._fresh |= fresh
        self._until_us = until_us

    def write(self, connection: Connection, passed_us: int | None, now_us: int, late: Sequence[LateBurst]) -> None:
        """Correct the log. Its events are read again, since turns may have announced some anew."""
        window: dict[str, Row[Any]] = read_by_id(connection, sorted(self._gone))
        in_order = ordered_rows(window.values())
        gone_of = partial(read_gone, connection, self._site, self._camera)
        correct_log(connection, self._fresh, {row.id: row for row in in_order}, passed_us, now_us, gone_of, late)
