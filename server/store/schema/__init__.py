"""The data dictionary: every table, every column, its unit and meaning.

Only types that both databases have: names and JSON are text, instants are integer microseconds of Unix time (`_us`),
flags are 0 or 1. Text that orders rows is compared byte by byte, as Python compares ASCII.
Migrations (`server/store/migrations`) build these tables. A test compares the two.
"""

from __future__ import annotations

from collections.abc import Iterator

from server.store.schema.bursts import burst_records, camera_states, cameras, checkpoints, contexts, panels, policies
from server.store.schema.columns import metadata
from server.store.schema.events import (
    annotation_rows,
    channels,
    counters,
    dead_letters,
    events,
    notices,
    origins,
    outbox,
    tickets,
)
from server.store.schema.fleet import generations, replicas
from server.store.schema.old_bursts import bursts, decisions, observations
from server.store.schema.people import attempts, audit, grants, policy_versions, sessions, signing_keys, users
from server.store.schema.upkeep import (
    erasures,
    frame_sites,
    gone_frames,
    heartbeats,
    keeping,
    kept_frames,
    leaving_frames,
    removals,
    space_samples,
    tokens,
)

__all__ = [
    "annotation_rows",
    "attempts",
    "audit",
    "burst_records",
    "bursts",
    "camera_states",
    "cameras",
    "channels",
    "checkpoints",
    "contexts",
    "counters",
    "data_dictionary",
    "dead_letters",
    "decisions",
    "erasures",
    "events",
    "frame_sites",
    "generations",
    "gone_frames",
    "grants",
    "heartbeats",
    "keeping",
    "kept_frames",
    "leaving_frames",
    "metadata",
    "notices",
    "observations",
    "origins",
    "outbox",
    "panels",
    "policies",
    "policy_versions",
    "removals",
    "replicas",
    "sessions",
    "signing_keys",
    "space_samples",
    "tickets",
    "tokens",
    "users",
]


def data_dictionary() -> Iterator[str]:
    """Every table and column with its meaning, as lines of text."""
    for table in metadata.sorted_tables:
        yield f"{table.name}: {table.comment}"
        yield from (f"    {column.name}: {column.comment}" for column in table.columns)
