"""In front of HTTP: a full server tells those who come to upload so for as little as it can.

What a refusal costs is taken from those who were admitted, and under overload most requests are refused. So where
there is no room (`Admission.knock`), the first line of a request is enough: if it is an upload's, the answer that the
application would give is given before anything parses a header, and before a request thread is woken. Whatever is not
plainly such a line goes the usual way, on which it is refused as well.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from email.utils import formatdate

from werkzeug.exceptions import HTTPException
from werkzeug.routing import Map

from server.domain.errors import RetryLater
from server.web.problem_json import refusal

LINE_BYTES = 1024
"""A request line that is longer is no upload's."""

UPLOADS = frozenset({"intake.bursts", "flexserve.classify", "flexserve.batch", "inference_v2.infer"})
"""The endpoints whose views knock."""

_LINE = re.compile(rb"POST (/[\w./-]*) HTTP/1\.1\r\n", re.ASCII)


class Turnstile:
    """The answers of a full server with these `routes`. `knock` raises RetryLater while it is full; `answered` hears of
    each refusal: its method, the pattern of its route, its status."""

    def __init__(
        self, routes: Map, knock: Callable[[], None], answered: Callable[[str, str | None, int], None]
    ) -> None:
        self._routes = routes.bind("")
        self._knock = knock
        self._answered = answered

    def closed(self) -> RetryLater | None:
        """Why nobody is let in, while that is so."""
        try:
            self._knock()
        except RetryLater as full:
            return full
        return None

    def answer(self, full: RetryLater, begun: bytes, client: str) -> bytes | None:
        """What to send to a `client` whose request begins so, if it is an upload. The connection ends with it."""
        line = _LINE.match(begun)
        if line is None:
            return None
        path = line[1].decode("ascii")
        try:
            rule, _values = self._routes.match(path, method="POST", return_rule=True)
        except HTTPException:
            return None
        if rule.endpoint not in UPLOADS:
            return None
        status, headers, body = refusal(full, "POST", path, client)
        self._answered("POST", rule.rule, status)
        headers |= {"Content-Length": str(len(body)), "Date": formatdate(usegmt=True), "Connection": "close"}
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        return f"HTTP/1.1 {status.value} {status.phrase.upper()}\r\nServer: gunicorn\r\n{head}\r\n".encode() + body
