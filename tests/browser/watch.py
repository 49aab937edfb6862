"""What goes wrong in a browser while a test uses it: in the console, in scripts, and on the network."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from playwright.sync_api import BrowserContext, ConsoleMessage, Page, Request, WebError

_LOUD = ("error", "warning")
_LATE_MS, _STEP_MS = 15_000, 50
"""How long an expected fault may come after what caused it, and how often the test looks."""
_LEFT = "net::ERR_ABORTED"
"""Of a request that nobody waits for any more: the reader has gone to another page."""


class Watch:
    """The faults of all pages of its contexts, which may ask for nothing outside of `origin`.

    A refusal by the Content-Security-Policy is an error in the console.
    """

    def __init__(self, origin: str) -> None:
        self._origin = urlsplit(origin)[:2]
        self.faults: list[str] = []

    def over(self, context: BrowserContext) -> None:
        """Watch a context from now on."""
        context.on("console", self._spoken)
        context.on("weberror", self._thrown)
        context.on("request", self._asked)
        context.on("requestfailed", self._failed)

    @contextmanager
    def expecting(self, page: Page, pattern: str) -> Iterator[None]:
        """Within the block there is at least one fault that matches, and such faults do not count."""
        before, self.faults = self.faults, []
        yield
        for _ in range(_LATE_MS // _STEP_MS):  # the console's messages come after the page
            if any(re.search(pattern, fault) for fault in self.faults):
                break
            page.wait_for_timeout(_STEP_MS)
        expected = [fault for fault in self.faults if re.search(pattern, fault)]
        self.faults = before + [fault for fault in self.faults if fault not in expected]
        assert expected, f"no fault like {pattern!r}; there are {self.faults}"

    def _spoken(self, message: ConsoleMessage) -> None:
        if message.type in _LOUD:
            place = message.location
            self.faults.append(f"console {message.type}: {message.text} ({place['url']}:{place['lineNumber']})")

    def _thrown(self, error: WebError) -> None:
        self.faults.append(f"uncaught error: {error.error}")

    def _asked(self, request: Request) -> None:
        address = urlsplit(request.url)
        if address.scheme not in ("data", "blob") and address[:2] != self._origin:
            self.faults.append(f"request to another host: {request.url}")

    def _failed(self, request: Request) -> None:
        if request.failure != _LEFT:
            self.faults.append(f"failed request: {request.url} {request.failure}")
