"""What is kept and no longer kept: retention by age and size, erasures, kept frames, and the disk.

These names are all that the rest of the store uses.
"""

from __future__ import annotations

from server.store.retention.frame_limits import visit_stretches
from server.store.retention.frames import Frames, Place
from server.store.retention.gone import read_gone, refuse_gone
from server.store.retention.retention import KeepOf, Retention
from server.store.retention.space import compact, is_compactable

__all__ = [
    "Frames",
    "KeepOf",
    "Place",
    "Retention",
    "compact",
    "is_compactable",
    "read_gone",
    "refuse_gone",
    "visit_stretches",
]
