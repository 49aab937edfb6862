"""Folds states anew that cannot be read: another version of the rules wrote them, or they are damaged.

A state is derived from the observations. Without this module, a camera with somebody in view during an upgrade, or one
whose state lost a byte, could not advance. The event log stays as it is: a state only affects later events.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator, Sequence
from functools import partial

from sqlalchemy import Connection, select, update

from policies.fold import State, encode_state
from server.domain.clock import SECOND_US
from server.domain.errors import Unknown
from server.domain.records import CameraHead, Checkpoint
from server.domain.refold import steps
from server.store.rows import (
    Versions,
    folded_of,
    observation_query,
    read_checkpoint,
    read_observations,
    readable_state,
    stored_text,
)
from server.store.schema import camera_states, checkpoints, observations

log = logging.getLogger(__name__)

WARM_UP_US = 3600 * SECOND_US
"""The span before its instant that is folded for a state, where no older state can be read. No rules remember an unseen
thing for longer. Of a thing in view all the time, only the beginning is lost.
"""
EXACT_US = 12 * WARM_UP_US
"""An older state so near is where the fold begins: what it gives is what was lost, bit for bit."""

_PLACES = ((camera_states, camera_states.c.last_at_us), (checkpoints, checkpoints.c.at_us))


def unreadable_states(
    connection: Connection, only: tuple[str, str] | None = None
) -> dict[tuple[str, str], tuple[int, ...]]:
    """The instants of the states that cannot be read, of each camera (site, camera) that has any; of one, if given."""
    found: dict[tuple[str, str], set[int]] = {}
    for table, instant in _PLACES:
        query = select(table.c.site, table.c.camera, instant, stored_text(connection, table.c.state))
        if only is not None:
            query = query.where(table.c.site == only[0], table.c.camera == only[1])
        for site, camera, at_us, stored in connection.execute(query):
            if readable_state(stored, at_us) is None:
                found.setdefault((site, camera), set()).add(at_us)
    return {name: tuple(sorted(instants)) for name, instants in found.items()}


def revive(connection: Connection, versions: Versions, only: tuple[str, str] | None = None) -> None:
    """Replace every stored state (of one camera, if given) that cannot be read; the others stay."""
    for (site, camera), instants in unreadable_states(connection, only).items():
        for at_us, state in _folded(connection, versions, site, camera, instants):
            for table, instant in _PLACES:
                mine = (table.c.site == site, table.c.camera == camera, instant == at_us)
                connection.execute(update(table).where(*mine).values(state=state))
        log.warning(
            "states of a camera could not be read and are made anew",
            extra={"site": site, "camera": camera, "states": len(instants)},
        )


def readable_head(connection: Connection, versions: Versions, head: CameraHead) -> CameraHead:
    """The head of a camera; with a state that is folded here, and not stored, where the stored one cannot be read."""
    if head.state:
        return head
    ((_, state),) = _folded(connection, versions, head.site, head.camera, [head.last_at_us])
    return CameraHead(head.site, head.camera, head.last_at_us, state, head.policy, head.changed_at_us)


def _folded(
    connection: Connection, versions: Versions, site: str, camera: str, instants: Sequence[int]
) -> Iterator[tuple[int, str]]:
    """The state at each of the rising instants, folded from the newest older state within EXACT_US.

    A policy that cannot be read is parsed from its text. If that fails, the camera begins with an empty state.
    """
    start = Checkpoint(None, None)
    for at_us in instants:
        stored = read_checkpoint(connection, site, camera, at_us + 1)
        newest = max((start, stored), key=lambda checkpoint: checkpoint.at_us or 0)
        start = newest if (newest.at_us or 0) >= at_us - EXACT_US else Checkpoint(at_us - WARM_UP_US, None)
        state = _fold(connection, versions, site, camera, start, at_us)
        start = Checkpoint(at_us, state)
        yield at_us, state.decode()


def _fold(connection: Connection, versions: Versions, site: str, camera: str, start: Checkpoint, at_us: int) -> bytes:
    between = (observations.c.at_us > start.at_us, observations.c.at_us <= at_us)
    query = observation_query().where(*folded_of(site, camera), *between)
    recorded = read_observations(connection, query, versions)
    try:
        last = deque(steps(recorded, start, partial(versions.policy, connection)), maxlen=1)
    except Unknown:  # its policy cannot be read: the camera begins with an empty state
        return encode_state(State(last_at_us=at_us))
    if last:
        return encode_state(last[0].state)
    return start.state or encode_state(State(last_at_us=at_us))
