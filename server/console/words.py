"""Words for people: ages, amounts and digests, as every page writes them."""

from __future__ import annotations

import re

from markupsafe import Markup, escape

from server.delivery.event_text import duration as duration

_UNITS = ((86_400, "day"), (3600, "hour"), (60, "minute"))
_CODE = re.compile("`([^`]+)`")
_BYTES = ((1_000_000_000, "GB"), (1_000_000, "MB"), (1000, "kB"))


def age(seconds: float) -> str:
    """`just now`, `40 seconds ago`, `3 minutes ago`, `2 days ago`; `in 3 minutes` for what is still to come."""
    whole = round(abs(seconds))
    if whole < 5:
        return "just now"
    length = lasting(whole)
    return f"{length} ago" if seconds > 0 else f"in {length}"


def lasting(seconds: float) -> str:
    """`40 seconds`, `3 minutes`, `2 hours`: the largest unit that fits, for ages. `duration` is more exact."""
    whole = round(seconds)
    for size, name in _UNITS:
        if whole >= size:
            return counted(whole // size, name)
    return counted(whole, "second")


def counted(count: int, singular: str, plural: str = "") -> str:
    """`1 visit`, `12 visits`."""
    return f"{count} {singular if count == 1 else plural or singular + 's'}"


def amount(count: int) -> str:
    """`12.3 MB`; decimal units, as disks and providers count."""
    for size, unit in _BYTES:
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return counted(count, "byte")


def short(digest: str) -> str:
    """The first 8 digits of a digest."""
    return digest[:8]


def spelled(word: str) -> str:
    """A word of the wire as people spell it: `link_down` -> `link down`."""
    return word.replace("_", " ")


def with_code(text: str) -> Markup:
    """HTML of a text in which what stands between backticks is code."""
    return Markup(_CODE.sub(r"<code>\1</code>", str(escape(text))))  # noqa: S704  # escaped before
