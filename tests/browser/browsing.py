"""Pages of a server in a browser, at the size of a phone and of a desk, watched for faults."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from playwright.sync_api import Browser, BrowserContext, Page, expect

from tests.browser.filling import OPERATOR, PASSWORD
from tests.browser.watch import Watch

Size = Literal["phone", "desktop"]
SIZES: tuple[Size, ...] = ("phone", "desktop")
_CONTEXTS: Mapping[Size, Mapping[str, Any]] = MappingProxyType(
    {
        "phone": {
            "viewport": {"width": 390, "height": 844},
            "device_scale_factor": 2,
            "has_touch": True,
            "is_mobile": True,
        },
        "desktop": {"viewport": {"width": 1280, "height": 900}},
    }
)
WITHIN_MS = 15_000
"""How long a test waits for what a page does not show yet: the machine may be busy."""
VARIABLE = "SECTORWATCH_ARTEFACTS"


class Browsing:
    """Opens pages of the server at `url`; the pages end with `close`. Relative addresses are those of the server.

    `sessions` holds the cookies of users who have signed in, for other instances too.
    """

    def __init__(self, browser: Browser, url: str, sessions: dict[str, Any] | None = None) -> None:
        self.url = url
        self.watch = Watch(url)
        self._browser = browser
        self._sessions = {} if sessions is None else sessions
        self._contexts: list[BrowserContext] = []

    def page(
        self,
        size: Size = "desktop",
        *,
        user: str | None = OPERATOR,
        java_script: bool = True,
        colours: Literal["light", "dark"] = "light",
    ) -> Page:
        """An empty page in the browser of a user who has signed in; None: of somebody who has not."""
        if user is not None and user not in self._sessions:
            page = self.page(user=None)
            page.goto("/sign-in?next=/now")
            sign_in(page, user)
            self._sessions[user] = page.context.storage_state()
        context = self._browser.new_context(
            base_url=self.url,
            java_script_enabled=java_script,
            color_scheme=colours,
            locale="en-GB",
            reduced_motion="reduce",
            storage_state=None if user is None else self._sessions[user],
            **_CONTEXTS[size],
        )
        context.set_default_timeout(WITHIN_MS)
        self.watch.over(context)
        self._contexts.append(context)
        return context.new_page()

    def close(self) -> None:
        """End all pages. What they still have to say is heard before."""
        for context in self._contexts:
            context.close()
        self._contexts.clear()


def press(page: Page, key: str) -> None:
    """Press a key that leads to another page. That page is loaded then: its scripts hear the next key."""
    with page.expect_navigation():
        page.keyboard.press(key)


def sign_in(page: Page, user: str) -> None:
    """Fill in the form of the page and send it, by keyboard alone; the page that follows is there."""
    name, password = page.get_by_label("Name"), page.get_by_label("Password")
    for field, text in ((name, user), (password, PASSWORD)):
        expect(field).to_be_focused()  # by the page itself, which may take a moment after it is loaded
        page.keyboard.type(text)
        expect(field).to_have_value(text)
        page.keyboard.press("Tab")
    press(page, "Enter")
    assert "/sign-in" not in page.url, page.locator("main").inner_text()


def artefacts() -> Path:
    """The folder of what the tests leave for a person to look at."""
    return Path(os.environ.get(VARIABLE) or Path(sys.prefix) / "artefacts")


def screenshot(page: Page, name: str) -> Path:
    """A picture of the whole page as a PNG among the artefacts."""
    file = artefacts() / f"{name}.png"
    file.parent.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=file, full_page=True)
    return file
