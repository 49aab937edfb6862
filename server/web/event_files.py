"""Events in other forms than JSON: CSV, JSON lines and Parquet, by `Accept`, in pieces as they are read.

Such an answer has no page unless `limit` asks for one: it holds all events that were logged when it began. A client
that reads slowly holds a request thread and no transaction. Only AT_ONCE of these answers are made at a time, and one
for a client, so that no client alone keeps the others from theirs.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial

from flask import Response, request
from werkzeug.datastructures import MIMEAccept

from server.analysis.exports import EVENTS, MEDIA_TYPES, Form, event_row, fault_of, pieces
from server.domain.errors import NotAcceptable, RetryLater
from server.domain.records import LoggedEvent
from server.web.json_http import JSON

AT_ONCE = 2
RETRY_AFTER_S = 30
PAGE = 500
"""Events that are read at once."""

Read = Callable[[int, int], Sequence[LoggedEvent]]
"""Gives the next events, so many at most, that were announced after a number."""


def chosen_form() -> Form | None:
    """The form that the current request prefers; None: JSON, also where it accepts none of them.

    Raises NotAcceptable where it accepts nothing but a form that cannot be made here.
    """
    # Without their parameters (`text/csv; charset=utf-8`), by which none of ours differ.
    accepted = MIMEAccept([(type_.partition(";")[0].strip(), q) for type_, q in request.accept_mimetypes])
    made = {type_: form for form, type_ in MEDIA_TYPES.items() if fault_of(form) is None}
    best = accepted.best_match([JSON, *made])
    if best is None:
        for form, type_ in MEDIA_TYPES.items():
            if (fault := fault_of(form)) and accepted[type_] > 0:
                raise NotAcceptable(f"{type_} cannot be had from this server. {fault}")
    return None if best is None else made.get(best)


def page_of(form: Form, events: Iterable[LoggedEvent], notes: Sequence[str]) -> Response:
    """A page of events, whole."""
    return _answer(form, b"".join(pieces(form, EVENTS, map(event_row, events), notes)))


class EventFiles:
    """Answers with all events of a question. Safe to use from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._clients: set[str] = set()

    def all(self, client: str, form: Form, after: int, last_seq: int, read: Read, notes: Sequence[str]) -> Response:
        """The events announced after `after` up to `last_seq`. Raises RetryLater while others are being read."""
        place = self._place(client)
        try:
            first = read(PAGE, after)  # here, so that a database that does not answer is a problem, and no half file
            rows = map(event_row, _up_to(last_seq, first, read))
            answer = _answer(form, place.held(pieces(form, EVENTS, rows, notes)))
        except BaseException:
            place.leave()
            raise
        answer.call_on_close(place.leave)
        return answer

    def _place(self, client: str) -> _Place:
        with self._lock:
            if client in self._clients:
                raise RetryLater("an export of this client is being read already", retry_after_s=RETRY_AFTER_S)
            if len(self._clients) >= AT_ONCE:
                raise RetryLater(f"{AT_ONCE} exports are being read already", retry_after_s=RETRY_AFTER_S)
            self._clients.add(client)
        return _Place(partial(self._clients.discard, client))


class _Place:
    """One of the AT_ONCE, which is left once, whether the answer is read, given up or never begun."""

    def __init__(self, free: Callable[[], None]) -> None:
        self._free = free
        self._lock = threading.Lock()
        self._is_left = False

    def held(self, file: Iterator[bytes]) -> Iterator[bytes]:
        try:
            yield from file
        finally:
            self.leave()

    def leave(self) -> None:
        with self._lock:
            if not self._is_left:
                self._is_left = True
                self._free()


def _up_to(last_seq: int, page: Sequence[LoggedEvent], read: Read) -> Iterator[LoggedEvent]:
    while True:
        yield from (logged for logged in page if logged.seq <= last_seq)
        if len(page) < PAGE or page[-1].seq >= last_seq:
            return
        page = read(PAGE, page[-1].seq)


def _answer(form: Form, body: bytes | Iterator[bytes]) -> Response:
    charset = "; charset=utf-8" if form == "csv" else ""
    answer = Response(body, content_type=MEDIA_TYPES[form] + charset)
    if form != "jsonl":
        answer.headers["Content-Disposition"] = f'attachment; filename="events.{form}"'
    return answer
