"""`/sectors/SITE/CAMERA`: sectors, lines and ignored areas drawn on a picture; a change tried, saved, put in force."""

from __future__ import annotations

from server.console.context import Context
from server.console.pages import Pages
from server.console.sectors import changing, page, preview
from server.console.sectors.page import INDEX_TWIN, TWIN

__all__ = ["TWINS", "add"]

TWINS = (INDEX_TWIN, TWIN)


def add(pages: Pages, context: Context) -> None:
    """Register the pages and what their forms do."""
    page.add(pages, context)
    preview.add(pages, context)
    changing.add(pages, context)
