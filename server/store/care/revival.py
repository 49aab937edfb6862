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

from policies.fold import encode_state
from server.domain.errors import Unknown
from server.domain.folding.refold import steps
from server.domain.records import Checkpoint
from server.store.bursts import fold_start, leave_unreadable, read_frames
from server.store.compact import pack_state
from server.store.rows import Versions, empty_state, readable_state, stored_text
from server.store.schema import camera_states, checkpoints, removals

log = logging.getLogger(__name__)

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
    _begin_anew(connection, only)
    for (site, camera), instants in unreadable_states(connection, only).items():
        for at_us, state in _folded(connection, versions, site, camera, instants):
            for table, instant in _PLACES:
                mine = (table.c.site == site, table.c.camera == camera, instant == at_us)
                stored = pack_state(state) if table is checkpoints else state.decode()
                connection.execute(update(table).where(*mine).values(state=stored))
        log.warning(
            "states of a camera could not be read and are made anew",
            extra={"site": site, "camera": camera, "states": len(instants)},
        )
    leave_unreadable(connection, versions, only)


def _begin_anew(connection: Connection, only: tuple[str, str] | None) -> None:
    """Where the frames before it are no longer kept, an unreadable state gives way to an empty one."""
    state = stored_text(connection, removals.c.state)
    query = select(removals.c.number, removals.c.site, removals.c.camera, removals.c.until_us, state)
    for number, site, camera, until_us, stored in connection.execute(query).all():
        if only in (None, (site, camera)) and readable_state(stored, until_us - 1) is None:
            anew = empty_state(until_us - 1).decode()
            connection.execute(update(removals).where(removals.c.number == number).values(state=anew))
            log.warning(
                "the state after deleted bursts cannot be read; their camera begins anew after them",
                extra={"site": site, "camera": camera},
            )


def _folded(
    connection: Connection, versions: Versions, site: str, camera: str, instants: Sequence[int]
) -> Iterator[tuple[int, bytes]]:
    """The state at each of the rising instants, folded from the newest older state that can be read, if it is near.

    A policy that cannot be read is parsed from its text. If that fails, the camera begins with an empty state.
    """
    before: Checkpoint | None = None
    for at_us in instants:
        start = fold_start(connection, site, camera, at_us)
        if before is not None and (before.at_us or 0) >= (start.at_us or 0):
            start = before
        state = _fold(connection, versions, site, camera, start, at_us)
        before = Checkpoint(at_us, state)
        yield at_us, state


def _fold(connection: Connection, versions: Versions, site: str, camera: str, start: Checkpoint, at_us: int) -> bytes:
    assert start.at_us is not None
    recorded = read_frames(connection, versions, site, camera, start.at_us + 1, at_us + 1)
    try:
        last = deque(steps(recorded, start, partial(versions.policy, connection)), maxlen=1)
    except Unknown:  # its policy cannot be read: the camera begins with an empty state
        return empty_state(at_us)
    if last:
        return encode_state(last[0].state)
    return start.state or empty_state(at_us)
