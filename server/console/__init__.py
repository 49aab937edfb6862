"""The console: pages for whoever looks after a site. What happened, why nothing did, is a camera alive, which policy.

Each page is a module with `add`, a template, and a line here. A page is one function that gives a struct; its template
shows it, and its twin under `/v1` answers it as JSON (`pages`).
"""

from __future__ import annotations

from flask import Flask

from server.console import (
    event,
    judging,
    now,
    sectors,
    signing_in,
    timeline,
    tuning,
    why,
)
from server.console.access import Access
from server.console.context import Context
from server.console.operation import channels, models
from server.console.pages import LiveParts, Pages
from server.web.auth import Authenticator

__all__ = ["TWINS", "Access", "Context", "install"]

_PAGES = (
    timeline,
    now,
    event,
    judging,
    why,
    tuning,
    sectors,
    models,
    channels,
)
TWINS = (
    *timeline.TWINS,
    now.TWIN,
    event.TWIN,
    why.TWIN,
    *tuning.TWINS,
    *sectors.TWINS,
    models.TWIN,
    channels.TWIN,
)
"""The JSON of the pages, for the OpenAPI document."""


def install(app: Flask, access: Access, authenticator: Authenticator, context: Context) -> None:
    """Add the console to an application."""
    live_parts = LiveParts(context.clock, context.store.last_seq)
    pages = Pages(access, authenticator, access.install(app), live_parts)
    signing_in.add(pages, access)
    for page in _PAGES:
        page.add(pages, context)
    app.register_blueprint(pages.shown)
    app.register_blueprint(pages.twins)
