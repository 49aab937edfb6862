"""Refolds stored states that another version of the rules wrote and this version cannot read.

Without it, a camera with somebody in view during an upgrade could not advance. The event log stays as it is: a state
only affects later events.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from functools import partial

import msgspec
from sqlalchemy import Connection, select, update

from policies.fold import State, decode_state, encode_state
from server.domain.clock import SECOND_US
from server.domain.errors import Unknown
from server.domain.records import Checkpoint
from server.domain.refold import steps
from server.store.bursts import leave_unreadable, read_frames
from server.store.rows import Versions
from server.store.schema import camera_states, checkpoints, removals

WARM_UP_US = 3600 * SECOND_US
"""The span before its instant that is folded for a state. No rules remember an unseen thing for longer. Of a thing in
view all the time, only the beginning is lost.
"""

_HEADS = select(camera_states.c.site, camera_states.c.camera, camera_states.c.last_at_us, camera_states.c.state)
_CHECKPOINTS = select(checkpoints.c.site, checkpoints.c.camera, checkpoints.c.at_us, checkpoints.c.state)
_REMOVALS = select(removals.c.number, removals.c.until_us, removals.c.state)


def revive(connection: Connection, versions: Versions) -> None:
    """Replace every stored state that cannot be read; the others stay."""
    unread: dict[tuple[str, str], set[int]] = {}
    for query in (_HEADS, _CHECKPOINTS):
        for site, camera, at_us, state in connection.execute(query):
            if not _is_readable(state):
                unread.setdefault((site, camera), set()).add(at_us)
    _begin_anew(connection)
    for (site, camera), instants in unread.items():
        for at_us, state in _folded(connection, versions, site, camera, sorted(instants)):
            for table, instant in ((camera_states, camera_states.c.last_at_us), (checkpoints, checkpoints.c.at_us)):
                mine = (table.c.site == site, table.c.camera == camera, instant == at_us)
                connection.execute(update(table).where(*mine).values(state=state))
    leave_unreadable(connection, versions)


def _begin_anew(connection: Connection) -> None:
    """Where the frames before it are no longer kept, an unreadable state gives way to an empty one."""
    for number, until_us, state in connection.execute(_REMOVALS).all():
        if not _is_readable(state):
            anew = encode_state(State(last_at_us=until_us - 1)).decode()
            connection.execute(update(removals).where(removals.c.number == number).values(state=anew))


def _is_readable(state: str) -> bool:
    try:
        decode_state(state)
    except msgspec.DecodeError:
        return False
    return True


def _folded(
    connection: Connection, versions: Versions, site: str, camera: str, instants: Sequence[int]
) -> Iterator[tuple[int, str]]:
    """The state at each of the rising instants. One within WARM_UP_US of the next is where the next fold starts.

    A policy that cannot be read is parsed from its text. If that fails, the camera begins with an empty state.
    """
    start = Checkpoint(None, None)
    for at_us in instants:
        if start.at_us is None or start.at_us < at_us - WARM_UP_US:
            start = Checkpoint(at_us - WARM_UP_US, None)
        assert start.at_us is not None
        recorded = read_frames(connection, versions, site, camera, start.at_us + 1, at_us + 1)
        try:
            (last,) = deque(steps(recorded, start, partial(versions.policy, connection)), maxlen=1)
            state = encode_state(last.state)
        except Unknown:  # its policy cannot be read: the camera begins with an empty state
            state = encode_state(State(last_at_us=at_us))
        start = Checkpoint(at_us, state)
        yield at_us, state.decode()
