"""The head of a camera: its newest folded frame and the state after it.

The state is not written with every burst. `camera_states` may lie a few frames behind, as long as these settled no
event and are quickly folded again (`is_worth_writing`); then the state at the head is that state, with the frames after
it folded. A quiet burst so costs the row of its record and no other.
"""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from functools import partial
from itertools import chain
from typing import Any

from sqlalchemy import ColumnElement, Connection, ScalarSelect, Select, and_, delete, func, insert, select, update

from policies.fold import encode_state
from server.domain.errors import Unknown
from server.domain.folding.checkpoints import thin_before, to_prune
from server.domain.folding.refold import WORK_OF_A_THING, Step, steps
from server.domain.records import BurstFacts, CameraHead, Checkpoint, Folded
from server.domain.times.clock import SECOND_US
from server.store.bursts.behind import Behind, frames_behind
from server.store.bursts.burst_log import find_bursts, longest_us, read_frames
from server.store.bursts.records import Camera, Which, is_of, read_camera, record_end_us
from server.store.compact import pack_state
from server.store.rows import Versions, empty_state, read_checkpoint, readable_state, stored_text
from server.store.schema import burst_records, camera_states, cameras, checkpoints

WARM_UP_US = 3600 * SECOND_US
"""The span before its instant that is folded for a state, where no older state can be read. No rules remember an unseen
thing for longer. Of a thing in view all the time, only the beginning is lost.
"""
EXACT_US = 12 * WARM_UP_US
"""An older state so near is where the fold begins: what it gives is what was lost, bit for bit."""

_WORK = 200
"""Frames of an empty view that may have to be folded again. With a track or a presence a frame takes more."""
_ITS_CAMERA = and_(cameras.c.site == camera_states.c.site, cameras.c.camera == camera_states.c.camera)


def is_worth_writing(folded: Folded) -> bool:
    """Whether the frames that were folded since the stored state are too much to be folded again with each turn."""
    return bool(folded.settled) or folded.frames * (1 + WORK_OF_A_THING * folded.things) > _WORK


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


def newest_instants(connection: Connection) -> dict[tuple[str, str], int]:
    """As `newest_us`, of every camera with a stored state, by site and camera."""
    head, last_us = camera_states.c, _of_later(func.max(record_end_us))
    query = select(head.site, head.camera, func.coalesce(last_us, head.last_at_us))
    rows = connection.execute(query.join(cameras, _ITS_CAMERA, isouter=True)).all()
    return {(site, camera): int(newest_us) for site, camera, newest_us in rows}


def newest_burst(connection: Connection, versions: Versions, site: str, camera: str) -> BurstFacts | None:
    """The folded burst of a camera with the newest frame. One that began before the newest may have ended after it."""
    find = partial(find_bursts, connection, versions, site, camera, with_held=False, is_newest_first=True)
    last = next(iter(find(limit=1)), None)
    if last is None:
        return None
    since_us = last.first_at_us - longest_us(connection, site, camera)
    found = find(lambda times: (times.first_at_us >= since_us,))
    return max(found, key=lambda facts: (facts.last_at_us, facts.burst_id))


def fold_start(connection: Connection, site: str, camera: str, at_us: int) -> Checkpoint:
    """Where the fold of a lost state at an instant begins: the newest older state that can be read, if it is near."""
    stored = read_checkpoint(connection, site, camera, at_us + 1)
    is_near = stored.at_us is not None and stored.at_us >= at_us - EXACT_US
    return stored if is_near else Checkpoint(at_us - WARM_UP_US, None)


def _of_later(what: ColumnElement[Any]) -> ScalarSelect[Any]:
    """Of the folded bursts after a camera's stored state."""
    later = select(what).where(
        burst_records.c.camera == cameras.c.number,
        burst_records.c.is_held == 0,
        burst_records.c.first_at_us > camera_states.c.last_at_us - cameras.c.longest_us,
        record_end_us > camera_states.c.last_at_us,
    )
    return later.correlate(camera_states, cameras).scalar_subquery()


def _heads(connection: Connection, which: Which) -> Select[Any]:
    """Each stored state with the bursts after it: how many, the number of the last that was accepted, and when they
    end. Of each camera by itself: PostgreSQL would join the states with all bursts there are.
    """
    head = camera_states.c
    columns = [stored_text(connection, head.state) if name == "state" else head[name] for name in CameraHead.__slots__]
    last = func.max(burst_records.c.number + 0)  # of the number alone, PostgreSQL might look through all from the last
    query = (
        select(*columns, _of_later(func.count()), _of_later(last), _of_later(func.max(record_end_us)))
        .join(cameras, _ITS_CAMERA, isouter=True)
        .order_by(head.site, head.camera)
    )
    return query.where(is_of(which, head.site, head.camera))


def read_heads(connection: Connection, versions: Versions, which: Which = None) -> list[CameraHead]:
    """The heads of these cameras, by site and camera. Frames after a stored state are folded again when
    others follow. A state that cannot be read is folded here, and not stored.
    """
    heads: dict[tuple[str, str], CameraHead] = {}
    behind: dict[tuple[str, str], tuple[CameraHead, int, int, int]] = {}
    readable: list[CameraHead] = []
    for *row, bursts, number, last_us in connection.execute(_heads(connection, which)).all():
        stored = CameraHead(*row)
        name, follows = (stored.site, stored.camera), (stored, bursts, number, last_us)
        state = readable_state(stored.state, stored.last_at_us)
        heads[name] = stored if state is None else replace(stored, state=state.decode())
        if state is not None and not bursts:
            continue
        known = versions.heads.get(name)
        if known is not None and known[0] == follows:
            heads[name] = known[1]
            continue
        behind[name] = follows
        if state is not None:
            readable.append(heads[name])
    read = frames_behind(connection, versions, readable)
    for name, follows in behind.items():
        head = _folded(connection, versions, heads[name], read[name]) if name in read else None
        heads[name] = head or _head(connection, versions, follows[0])
        versions.remember_head(name, follows, heads[name])
    return list(heads.values())


def move_head(connection: Connection, site: str, camera: str, folded: Folded, now_us: int) -> None:
    """Write a camera's head after a fold."""
    values = {
        "last_at_us": folded.last_at_us,
        "state": folded.state.decode(),
        "policy": folded.policy,
        "changed_at_us": now_us,
    }
    mine = (camera_states.c.site == site, camera_states.c.camera == camera)
    if connection.execute(update(camera_states).where(*mine).values(values)).rowcount == 0:
        connection.execute(insert(camera_states), {"site": site, "camera": camera} | values)


def rewind_head(
    connection: Connection, versions: Versions, site: str, camera: str, to: Checkpoint, now_us: int
) -> None:
    """Take a camera back to a checkpoint, after which no frame is left; without one, to before its first burst."""
    mine = (camera_states.c.site == site, camera_states.c.camera == camera)
    outdated = [checkpoints.c.site == site, checkpoints.c.camera == camera]
    if to.at_us is None or to.state is None:
        connection.execute(delete(camera_states).where(*mine))
    else:
        outdated.append(checkpoints.c.at_us > to.at_us)
        last = next(read_frames(connection, versions, site, camera, to.at_us, to.at_us + 1), None)
        values = {"last_at_us": to.at_us, "state": to.state.decode(), "changed_at_us": now_us}
        policy = {} if last is None else {"policy": last.policy}
        connection.execute(update(camera_states).where(*mine).values(values | policy))
    connection.execute(delete(checkpoints).where(*outdated))


def move_checkpoints(
    connection: Connection, site: str, camera: str, after_us: int | None, folded: Folded, until_us: int | None = None
) -> None:
    """Replace a camera's checkpoints after `after_us`, up to `until_us` (None: no limit), by those of a fold."""
    mine = (checkpoints.c.site == site, checkpoints.c.camera == camera)
    outdated = mine if after_us is None else (*mine, checkpoints.c.at_us > after_us)
    outdated = outdated if until_us is None else (*outdated, checkpoints.c.at_us <= until_us)
    connection.execute(delete(checkpoints).where(*outdated))
    connection.execute(
        insert(checkpoints),
        [
            {"site": site, "camera": camera, "at_us": at_us, "state": pack_state(state)}
            for at_us, state in folded.checkpoints.items()
        ],
    )
    thinned = mine if after_us is None else (*mine, checkpoints.c.at_us >= thin_before(after_us))
    instants = list(connection.execute(select(checkpoints.c.at_us).where(*thinned)).scalars())
    if dropped := to_prune(instants, max(instants)):
        connection.execute(delete(checkpoints).where(*mine, checkpoints.c.at_us.in_(dropped)))


def count_rewriting(connection: Connection, site: str, camera: str) -> None:
    """Say that a camera's past has changed: a refold that began before is not committed."""
    mine = (cameras.c.site == site, cameras.c.camera == camera)
    connection.execute(update(cameras).where(*mine).values(rewritten=cameras.c.rewritten + 1))


def leave_unreadable(connection: Connection, versions: Versions, only: tuple[str, str] | None = None) -> None:
    """Let each camera (or one, if given) begin anew after frames that its stored state lies behind, if their policy
    cannot be read.
    """
    query = select(camera_states.c.site, camera_states.c.camera, camera_states.c.last_at_us)
    if only is not None:
        query = query.where(camera_states.c.site == only[0], camera_states.c.camera == only[1])
    for site, camera, at_us in connection.execute(query).all():
        try:
            _last(connection, versions, site, camera, Checkpoint(at_us, empty_state(at_us)))
        except Unknown:
            last_us = newest_us(connection, read_camera(connection, site, camera), at_us)
            mine = (camera_states.c.site == site, camera_states.c.camera == camera)
            state = empty_state(last_us).decode()
            connection.execute(update(camera_states).where(*mine).values(last_at_us=last_us, state=state))


def _head(connection: Connection, versions: Versions, stored: CameraHead) -> CameraHead:
    site, camera, at_us = stored.site, stored.camera, stored.last_at_us
    state = readable_state(stored.state, at_us)
    start = Checkpoint(at_us, state) if state is not None else fold_start(connection, site, camera, at_us)
    try:
        last = _last(connection, versions, site, camera, start)
    except (
        Unknown
    ):  # a policy or an ensemble of the frames after it is gone: what is stored is the newest that is known
        last, start = None, Checkpoint(at_us, state)
    if last is None:
        known = start.state if start.at_us == at_us else None
        return replace(stored, state=(known or empty_state(at_us)).decode())
    later = find_bursts(connection, versions, site, camera, lambda times: (times.first_at_us > at_us,))
    received_at_us = max((burst.received_at_us for burst in later if burst.status == "folded"), default=0)
    return _moved(stored, last, received_at_us)


def _folded(connection: Connection, versions: Versions, stored: CameraHead, behind: Behind) -> CameraHead | None:
    """The head after the frames behind a stored state that can be read; None where their policy cannot."""
    start = Checkpoint(stored.last_at_us, stored.state.encode())
    try:
        last = deque(steps(behind.frames, start, partial(versions.policy, connection)), maxlen=1)
    except Unknown:
        return None
    return _moved(stored, last[0], behind.received_at_us) if last else stored


def _moved(stored: CameraHead, last: Step, received_at_us: int) -> CameraHead:
    """A head after its last frame; `received_at_us`: when the last burst after the stored state was received."""
    return CameraHead(
        site=stored.site,
        camera=stored.camera,
        last_at_us=last.recorded.observation.at_us,
        state=encode_state(last.state).decode(),
        policy=last.recorded.policy,
        changed_at_us=max(stored.changed_at_us, received_at_us),
    )


def _last(connection: Connection, versions: Versions, site: str, camera: str, start: Checkpoint) -> Step | None:
    """The fold of the newest frame after a state; None if there is none."""
    assert start.at_us is not None
    after = read_frames(connection, versions, site, camera, start.at_us + 1)
    first = next(after, None)
    if first is None:
        return None
    (last,) = deque(steps(chain((first,), after), start, partial(versions.policy, connection)), maxlen=1)
    return last
