"""The stored bursts: kept as compact records, and read whichever form they have.

These names are all that the rest of the store uses.
"""

from __future__ import annotations

from server.store.bursts.burst_log import (
    burst_times,
    find_bursts,
    longest_us,
    read_facts,
    read_frames,
    read_kept,
    read_known,
    unreadable_numbers,
)
from server.store.bursts.changes import Changes
from server.store.bursts.conversion import convert, convert_held
from server.store.bursts.deletion import (
    Doomed,
    delete_bursts,
    delete_held,
    delete_numbered,
    held_numbers,
    is_newer_before,
    last_number,
)
from server.store.bursts.heads import (
    count_rewriting,
    fold_start,
    is_worth_writing,
    leave_unreadable,
    move_checkpoints,
    move_head,
    newest_burst,
    newest_instants,
    newest_us,
    read_heads,
    rewind_head,
)
from server.store.bursts.judged import read_seal
from server.store.bursts.keeping import Shared, keep_burst, mark
from server.store.bursts.leaps import SAMPLE_US
from server.store.bursts.looks import Looks
from server.store.bursts.marked import late_bursts, marked, waiting_cameras
from server.store.bursts.neighbours import read_neighbours
from server.store.bursts.old_form import Times, has_old_bursts, has_old_frames, meeting
from server.store.bursts.packing import Loose, seal_of
from server.store.bursts.records import (
    AT_ONCE,
    IS_HELD,
    LATE,
    SET_ASIDE,
    Camera,
    Which,
    count_record_frames,
    is_of,
    names_in,
    read_camera,
    read_record,
    record_end_us,
)
from server.store.bursts.spans import last_set_aside, newest_spans

__all__ = [
    "AT_ONCE",
    "IS_HELD",
    "LATE",
    "SAMPLE_US",
    "SET_ASIDE",
    "Camera",
    "Changes",
    "Doomed",
    "Looks",
    "Loose",
    "Shared",
    "Times",
    "Which",
    "burst_times",
    "convert",
    "convert_held",
    "count_record_frames",
    "count_rewriting",
    "delete_bursts",
    "delete_held",
    "delete_numbered",
    "find_bursts",
    "fold_start",
    "has_old_bursts",
    "has_old_frames",
    "held_numbers",
    "is_newer_before",
    "is_of",
    "is_worth_writing",
    "keep_burst",
    "last_number",
    "last_set_aside",
    "late_bursts",
    "leave_unreadable",
    "longest_us",
    "mark",
    "marked",
    "meeting",
    "move_checkpoints",
    "move_head",
    "names_in",
    "newest_burst",
    "newest_instants",
    "newest_spans",
    "newest_us",
    "read_camera",
    "read_facts",
    "read_frames",
    "read_heads",
    "read_kept",
    "read_known",
    "read_neighbours",
    "read_record",
    "read_seal",
    "record_end_us",
    "rewind_head",
    "seal_of",
    "unreadable_numbers",
    "waiting_cameras",
]
