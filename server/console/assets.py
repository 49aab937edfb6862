"""Style, scripts and their digests: files that a browser may keep for ever, since their address names their content."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib.resources import files

from flask import Blueprint, Response, url_for

from server.domain.errors import Unknown

_TYPES = {".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}
_KEPT = "public, max-age=31536000, immutable"


def add(blueprint: Blueprint) -> None:
    """`/assets/<digest>/<name>`, for anyone: it reveals nothing about this installation."""

    @blueprint.get("/assets/<digest>/<name>")
    def asset(digest: str, name: str) -> Response:
        if name not in _contents() or digest != _digest(name):
            raise Unknown("no such file: load the page again")
        response = Response(_contents()[name], content_type=_TYPES[name[name.rindex(".") :]])
        response.headers["Cache-Control"] = _KEPT
        return response


def address(name: str) -> str:
    """The address of a file in `static/`. Raises KeyError for a file that is not there."""
    return url_for("console.asset", digest=_digest(name), name=name)


@cache
def _contents() -> dict[str, bytes]:
    folder = files("server.console") / "static"
    return {file.name: file.read_bytes() for file in folder.iterdir() if file.name.endswith(tuple(_TYPES))}


@cache
def _digest(name: str) -> str:
    return hashlib.sha256(_contents()[name]).hexdigest()[:16]
