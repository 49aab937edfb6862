"""Changes of a camera's past that take longer than a turn may: folded beside turns, and committed in one short turn."""

from __future__ import annotations

from server.store.refolding.marks import aside_of, folded_of
from server.store.refolding.refold import PastChange
from server.store.refolding.refolds import Refolds, change_past

__all__ = [
    "PastChange",
    "Refolds",
    "aside_of",
    "change_past",
    "folded_of",
]
