"""The pictures of pages that the documents show: painted scenes only, nothing of anybody's camera.

`python -m tests.browser.pictures` makes them anew in `deploy/pictures`.
"""

from __future__ import annotations

import io
import tempfile
from collections.abc import Mapping
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path

from PIL import Image

from policies.events import Event
from server.settings import ServerSettings
from server.store import open_store
from tests.browser.browsing import Browsing
from tests.browser.chromium import launched
from tests.browser.console import served
from tests.browser.filling import SATURDAY, fill
from tests.documentation import ROOT

FOLDER = ROOT / "deploy" / "pictures"
MOST_BYTES = 100_000
_WIDTH = 960
_WITHIN_MS = 120_000
"""A day is replayed beside serving before the ways of its tracks are there."""

_PAGES: Mapping[str, tuple[str, str]] = {
    "now": ("/now?site=yard", ".card img"),
    "day": ("/day/2026-11-28?site=yard", ".visits img"),
    "event": ("/events/EVENT?site=yard", ".deciding img"),
    "sectors": ("/sectors/yard/gate", "#paths:not([hx-get]) polyline"),
}
"""The address of each page, and what comes last there."""
NAMES = tuple(f"{name}.webp" for name in _PAGES)


def events_of(folder: Path) -> list[Event]:
    """The events of the yard in a filled data folder, in order of time."""
    with closing(open_store(ServerSettings(data_dir=folder).database_url)) as store:
        return [logged.event for logged in store.events(site="yard")]


def at_the_table(events: list[Event], after: datetime) -> Event:
    """The first event of somebody who comes to the table."""
    return next(each for each in events if each.at > after and (each.kind, each.sector) == ("entered", "table"))


def take(browsing: Browsing, events: list[Event], folder: Path) -> None:
    """Put the pictures into a folder, as WebP."""
    event = at_the_table(events, SATURDAY + timedelta(hours=12))
    page = browsing.page()
    for name, (address, last) in _PAGES.items():
        page.goto(address.replace("EVENT", event.id))
        page.wait_for_selector(last, state="attached", timeout=_WITHIN_MS)
        page.wait_for_function("[...document.images].every((image) => image.complete || image.loading === 'lazy')")
        page.wait_for_load_state("load")
        with Image.open(io.BytesIO(page.screenshot())) as shot:
            small = shot.convert("RGB").resize((_WIDTH, round(shot.height * _WIDTH / shot.width)))
        small.save(folder / f"{name}.webp", quality=80, method=6)


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "data"
        fill(folder, ())
        with launched() as chromium, served(folder) as address, closing(Browsing(chromium, address)) as browsing:
            take(browsing, events_of(folder), FOLDER)


if __name__ == "__main__":
    main()
