"""The stored bursts: kept as compact records, and read whichever form they have.

These names are all that the rest of the store uses.
"""

from __future__ import annotations

from server.store.bursts.burst_log import (
    IS_HELD,
    Camera,
    count_record_frames,
    find_bursts,
    longest_us,
    read_burst_frames,
    read_camera,
    read_decisions,
    read_facts,
    read_frames,
    read_known,
    read_seal,
    record_end_us,
)
from server.store.bursts.conversion import convert, convert_held
from server.store.bursts.deletion import delete_bursts, delete_held, is_newer_before, last_number
from server.store.bursts.heads import (
    fold_start,
    is_worth_writing,
    leave_unreadable,
    newest_burst,
    newest_us,
    read_heads,
)
from server.store.bursts.keeping import Shared, keep_burst
from server.store.bursts.old_form import Times
from server.store.bursts.packing import Loose, seal_of

__all__ = [
    "IS_HELD",
    "Camera",
    "Loose",
    "Shared",
    "Times",
    "convert",
    "convert_held",
    "count_record_frames",
    "delete_bursts",
    "delete_held",
    "find_bursts",
    "fold_start",
    "is_newer_before",
    "is_worth_writing",
    "keep_burst",
    "last_number",
    "leave_unreadable",
    "longest_us",
    "newest_burst",
    "newest_us",
    "read_burst_frames",
    "read_camera",
    "read_decisions",
    "read_facts",
    "read_frames",
    "read_heads",
    "read_known",
    "read_seal",
    "record_end_us",
    "seal_of",
]
