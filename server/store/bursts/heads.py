"""The head of a camera: its newest folded frame and the state after it.

The state is not written with every burst. `camera_states` may lie a few frames behind, as long as these settled no
event and are quickly folded again (`is_worth_writing`); then the state at the head is that state, with the frames after
it folded. A quiet burst so costs the row of its record and no other.
"""

from __future__ import annotations

from collections import deque
from functools import partial
from itertools import chain

from sqlalchemy import Connection, and_, func, select, update

from policies.fold import State, encode_state
from server.domain.errors import Unknown
from server.domain.records import CameraHead, Checkpoint, Folded
from server.domain.refold import Step, steps
from server.store.bursts.burst_log import Camera, find_bursts, read_camera, read_frames, record_end_us
from server.store.rows import Versions
from server.store.schema import burst_records, camera_states, cameras

_WORK = 200
"""Frames of an empty view that may have to be folded again. With a track or a presence a frame takes more."""
_WORK_OF_A_THING = 4

_HEADS = (
    select(
        *(camera_states.c[name] for name in CameraHead.__slots__),
        func.count(burst_records.c.number),
        func.max(burst_records.c.number),
        func.max(record_end_us),
    )
    .join(
        cameras,
        and_(cameras.c.site == camera_states.c.site, cameras.c.camera == camera_states.c.camera),
        isouter=True,
    )
    .join(
        burst_records,
        and_(
            burst_records.c.camera == cameras.c.number,
            burst_records.c.is_held == 0,
            burst_records.c.first_at_us > camera_states.c.last_at_us - cameras.c.longest_us,
            record_end_us > camera_states.c.last_at_us,
        ),
        isouter=True,
    )
    .group_by(*(camera_states.c[name] for name in CameraHead.__slots__))
    .order_by(camera_states.c.site, camera_states.c.camera)
)
"""Each stored state with the bursts after it: how many, the number of the last that was accepted, and when they end."""


def is_worth_writing(folded: Folded) -> bool:
    """Whether the frames that were folded since the stored state are too much to be folded again with each turn."""
    return bool(folded.settled) or folded.frames * (1 + _WORK_OF_A_THING * folded.things) > _WORK


def newest_us(connection: Connection, known: Camera | None, stored_us: int) -> int:
    """The instant of a camera's newest folded frame, given that of its stored state."""
    if known is None:
        return stored_us
    newest = connection.execute(
        select(func.max(record_end_us)).where(
            burst_records.c.camera == known.number,
            burst_records.c.is_held == 0,
            burst_records.c.first_at_us > stored_us - known.longest_us,
            record_end_us > stored_us,
        )
    ).scalar_one()
    return stored_us if newest is None else int(newest)


def read_heads(connection: Connection, versions: Versions) -> list[CameraHead]:
    """The heads of all cameras, by site and camera. Frames after a stored state are folded again when others follow."""
    heads: list[CameraHead] = []
    for *row, bursts, number, last_us in connection.execute(_HEADS).all():
        stored = CameraHead(*row)
        if not bursts:
            heads.append(stored)
            continue
        name, follows = (stored.site, stored.camera), (stored, bursts, number, last_us)
        known = versions.heads.get(name)
        if known is None or known[0] != follows:
            known = versions.heads[name] = (follows, _head(connection, versions, stored))
        heads.append(known[1])
    return heads


def leave_unreadable(connection: Connection, versions: Versions) -> None:
    """Let each camera begin anew after frames that its stored state lies behind, if their policy cannot be read."""
    for row in connection.execute(
        select(camera_states.c.site, camera_states.c.camera, camera_states.c.last_at_us)
    ).all():
        try:
            _last(connection, versions, CameraHead(row.site, row.camera, row.last_at_us, "{}", "", 0))
        except Unknown:
            last_us = newest_us(connection, read_camera(connection, row.site, row.camera), row.last_at_us)
            mine = (camera_states.c.site == row.site, camera_states.c.camera == row.camera)
            state = encode_state(State(last_at_us=last_us)).decode()
            connection.execute(update(camera_states).where(*mine).values(last_at_us=last_us, state=state))


def _head(connection: Connection, versions: Versions, stored: CameraHead) -> CameraHead:
    try:
        last = _last(connection, versions, stored)
    except (
        Unknown
    ):  # a policy or an ensemble of the frames after it is gone: what is stored is the newest that is known
        return stored
    if last is None:
        return stored
    later = find_bursts(
        connection, versions, stored.site, stored.camera, lambda times: (times.first_at_us > stored.last_at_us,)
    )
    changed_at_us = max((burst.received_at_us for burst in later if burst.status == "folded"), default=0)
    return CameraHead(
        site=stored.site,
        camera=stored.camera,
        last_at_us=last.recorded.observation.at_us,
        state=encode_state(last.state).decode(),
        policy=last.recorded.policy,
        changed_at_us=max(stored.changed_at_us, changed_at_us),
    )


def _last(connection: Connection, versions: Versions, stored: CameraHead) -> Step | None:
    """The fold of the newest frame after the stored state; None if there is none."""
    after = read_frames(connection, versions, stored.site, stored.camera, stored.last_at_us + 1)
    first = next(after, None)
    if first is None:
        return None
    start = Checkpoint(stored.last_at_us, stored.state.encode())
    (last,) = deque(steps(chain((first,), after), start, partial(versions.policy, connection)), maxlen=1)
    return last
