"""Names of the files or objects beside each other in a place of pictures, the same in a folder and an object store."""

from __future__ import annotations

SMALL = ".small"
"""After the name of a picture: its small view."""
OWNER = "owner"
"""The mark of the database that keeps the pictures."""
LEFT_AFTER_S = 3600.0
"""A file that no row names after this time was left by a crash, or by a database that a backup has replaced."""


def digest_of(name: str) -> str:
    """The SHA-256 in the name of a picture or of its view; empty for what a crash left half written."""
    digest = name.removesuffix(SMALL)
    return digest if len(digest) == 64 and not name.startswith(".") else ""
