"""Pages, their JSON and their actions: how they are registered, and how open pages share their live parts."""

from __future__ import annotations

from server.console.pages.addresses import own_address
from server.console.pages.registering import NoQuery, Pages, Part, To
from server.console.pages.sharing import LiveParts

__all__ = ["LiveParts", "NoQuery", "Pages", "Part", "To", "own_address"]
