"""Addresses of the console: which are its own, and which mean a page."""

from __future__ import annotations

from urllib.parse import quote, urlsplit

from flask import current_app, request


def own_address(address: str) -> str:
    """An address of this console, as a form may name it for afterwards; the first page for every other."""
    try:
        parts = urlsplit(address)
    except ValueError:  # brackets without an address of version 6 between them
        return "/"
    is_own = not parts.scheme and not parts.netloc and address.startswith("/")
    has_tricks = address.startswith(("//", "/\\")) or not address.isprintable() or "\\" in address
    return address if is_own and not has_tricks else "/"


def is_for_a_browser() -> bool:
    """Whether a page answers the current request: it prefers HTML, and asks for no address of the programs' API."""
    first = request.path.split("/")[1]
    rules = [rule for rule in current_app.url_map.iter_rules() if rule.rule.split("/")[1] == first]
    is_api = first in ("v1", "v2") or any(not rule.endpoint.startswith("console.") for rule in rules)
    types = request.accept_mimetypes
    return not is_api and types["text/html"] > types["application/json"]


def without_slash() -> str | None:
    """The address of the page that the current one names, but for slashes at its end; None: there is none."""
    path = request.path.rstrip("/")
    adapter = current_app.create_url_adapter(request)
    if path in ("", request.path) or adapter is None or not adapter.test(path, "GET"):
        return None
    query = request.query_string.decode(errors="replace")
    return own_address(quote(path) + (f"?{query}" if query else ""))
