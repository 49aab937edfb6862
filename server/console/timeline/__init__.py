"""The page of a day, and the feed from which pages learn that something is new."""

from __future__ import annotations

from server.console.context import Context
from server.console.pages import Pages
from server.console.timeline import live, routes

TWINS = (routes.TWIN, live.TWIN)


def add(pages: Pages, context: Context) -> None:
    """Register the pages and the feed."""
    routes.add(pages, context)
    live.add(pages, context)
