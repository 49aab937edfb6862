"""One change of a camera's past: folded in slices outside of any write lock, then committed in one short turn.

Until the commit nothing is changed, so a process that is killed leaves the bursts waiting, and the next one begins
anew. Meanwhile the camera's turns go on from its head, and the fold follows them. The commit checks that nobody else
has changed this past; else the fold begins anew.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, Engine, func, select

from policies.site.site_policy import SitePolicy
from server.domain.folding.correction import Change, Correction
from server.domain.records import Checkpoint, LateBurst, Recorded, Settled
from server.domain.times.clock import Clock
from server.store.bursts import (
    AT_ONCE,
    LATE,
    SET_ASIDE,
    count_rewriting,
    late_bursts,
    mark,
    move_checkpoints,
    move_head,
    newest_us,
    read_camera,
    read_frames,
    record_end_us,
    rewind_head,
)
from server.store.engine import reading, writing
from server.store.people.audit import add_line
from server.store.refolding.difference import Difference
from server.store.rows import Versions, read_checkpoint
from server.store.schema import burst_records, camera_states, cameras

_SLICE = 300
"""Frames of one slice: some hundredths of a second."""
_TAIL = 60
"""Frames that came since the last slice and may be folded within the commit, besides those of the late bursts."""


@dataclass(frozen=True, slots=True)
class PastChange:
    """A change of one camera's past: records (by number) that come into the fold, and those that leave it.

    `by`: who changes it, for a line in the audit, as `Annotations.add`.
    """

    site: str
    camera: str
    added: Sequence[int] = ()
    removed: Sequence[int] = ()
    by: str | None = None


@dataclass(slots=True)
class _Begun:
    """A fold on its way. `rewritten` is what the camera counted when it began; `is_first`: it had no head then. `late`
    are the added bursts.
    """

    start: Checkpoint
    rewritten: int
    is_first: bool
    late: Sequence[LateBurst]
    correction: Correction
    difference: Difference


class Outdated(Exception):
    """Somebody else has changed the past since the fold began."""


class Refold:
    """Folds one change. Call `advance` until it is done; each call takes some hundredths of a second."""

    def __init__(self, engine: Engine, versions: Versions, clock: Clock, change: PastChange) -> None:
        self._engine = engine
        self._versions = versions
        self._clock = clock
        self._site, self._camera = change.site, change.camera
        self._added, self._removed = frozenset(change.added), frozenset(change.removed)
        self._by = change.by
        self._begun: _Begun | None = None

    def advance(self) -> bool:
        """Fold the next slice or, after the last, commit; whether all is done. Raises Outdated."""
        with reading(self._engine) as connection:
            begun = self._begun = self._begun or self._begin(connection)
            if not self._slice(connection, begun):
                return False
        with writing(self._engine, lock=f"{self._site}/{self._camera}") as connection:
            self._begun = None  # it is not committed, or done
            is_done = self._commit(connection, begun)
        self._begun = begun
        return is_done

    def _begin(self, connection: Connection) -> _Begun:
        if not self._is_as_it_was(connection):
            raise Outdated
        numbers = [*self._added, *self._removed]
        late, removed = (late_bursts(connection, sorted(some)) for some in (self._added, self._removed))
        change = Change(
            added={burst.burst_id for burst in late},
            removed={burst.burst_id for burst in removed},
            last_us=max(_chunked(connection, numbers, func.max(record_end_us))),
        )
        first_us = min(burst.at_us for burst in (*late, *removed))
        start = read_checkpoint(connection, self._site, self._camera, first_us)
        return _Begun(
            start=start,
            rewritten=self._rewritten(connection),
            is_first=self._passed(connection)[0] is None,
            late=late,
            correction=Correction(start, self._policy, self._newest_us(connection), change),
            difference=Difference(self._site, self._camera, start.at_us),
        )

    def _slice(self, connection: Connection, begun: _Begun) -> bool:
        """Fold the next frames; whether no more are needed, or are there.

        It does not pass the camera's newest frame: a burst of the next turn begins after it.
        """
        correction, settled, count = begun.correction, list[Settled](), 0
        _, passed_us = self._passed(connection)
        for recorded in self._frames(connection, begun, None if passed_us is None else passed_us + 1):
            if count >= _SLICE and recorded.observation.at_us != correction.position_us:
                break
            settled += correction.add(recorded)
            count += 1
        else:
            count = 0
        if correction.position_us is not None:
            begun.difference.add(connection, settled, correction.position_us)
        return count == 0 or correction.agrees

    def _commit(self, connection: Connection, begun: _Begun) -> bool:
        """Change log, marks, checkpoints and head; False if too many frames came for this turn."""
        site, camera, now_us, correction = self._site, self._camera, self._clock(), begun.correction
        head_us, passed_us = self._passed(connection)
        is_same = self._rewritten(connection) == begun.rewritten and begun.is_first == (head_us is None)
        if not is_same or not self._is_as_it_was(connection):
            raise Outdated
        until_us = correction.position_us if correction.agrees else None
        if until_us is None:
            added = {burst.burst_id for burst in begun.late}
            tail = list(self._frames(connection, begun))
            if sum(frame.observation.burst_id not in added for frame in tail) > _TAIL:
                return False
            begun.difference.add(connection, [each for frame in tail for each in correction.add(frame)], None)
        mark(connection, sorted(self._added), is_held=0, late=LATE)
        mark(connection, sorted(self._removed), is_held=1, late=SET_ASIDE)
        begun.difference.write(connection, passed_us, now_us, begun.late)
        if (folded := correction.folded(())) is None:
            rewind_head(connection, self._versions, site, camera, begun.start, now_us)
        else:
            move_checkpoints(connection, site, camera, begun.start.at_us, folded, until_us)
            if until_us is None or head_us is None or until_us >= head_us:
                move_head(connection, site, camera, folded, now_us)
        count_rewriting(connection, site, camera)
        if self._by is not None:
            what = "folded_in" if self._added else "set_aside"
            detail = f"{len(self._added) + len(self._removed)} bursts"
            add_line(connection, now_us, self._by, what, site=site, subject=camera, detail=detail)
        return True

    def _frames(self, connection: Connection, begun: _Begun, until_us: int | None = None) -> Iterator[Recorded]:
        """The frames that are not folded yet, of what is in the fold now or comes into it."""
        at_us = begun.correction.position_us
        since_us = None if at_us is None else at_us + 1
        return read_frames(connection, self._versions, self._site, self._camera, since_us, until_us, also=self._added)

    def _policy(self, digest: str) -> SitePolicy:
        with reading(self._engine) as connection:
            return self._versions.policy(connection, digest)

    def _rewritten(self, connection: Connection) -> int:
        mine = (cameras.c.site == self._site, cameras.c.camera == self._camera)
        rewritten: int = connection.execute(select(cameras.c.rewritten).where(*mine)).scalar_one()
        return rewritten

    def _is_as_it_was(self, connection: Connection) -> bool:
        """Whether all that comes into the fold is outside of it, and the other way round."""
        held = _chunked(connection, [*self._added, *self._removed], func.sum(burst_records.c.is_held))
        there = _chunked(connection, [*self._added, *self._removed], func.count())
        return sum(held) == len(self._added) and sum(there) == len(self._added) + len(self._removed) > 0

    def _passed(self, connection: Connection) -> tuple[int | None, int | None]:
        """The instants of the camera's stored state, and of its newest frame in the fold."""
        mine = (camera_states.c.site == self._site, camera_states.c.camera == self._camera)
        head_us = connection.execute(select(camera_states.c.last_at_us).where(*mine)).scalar_one_or_none()
        if head_us is None:
            return None, None
        return head_us, newest_us(connection, read_camera(connection, self._site, self._camera), head_us)

    def _newest_us(self, connection: Connection) -> int:
        """The instant from which the ages of checkpoints count: the newest frame that will be in the fold."""
        known = read_camera(connection, self._site, self._camera)
        assert known is not None, "its records are changed"
        query = select(burst_records.c.number, burst_records.c.is_held, record_end_us.label("end_us"))
        of_camera = query.where(burst_records.c.camera == known.number).order_by(burst_records.c.first_at_us.desc())
        for row in connection.execute(of_camera.execution_options(yield_per=AT_ONCE)):
            if row.number in self._added or (not row.is_held and row.number not in self._removed):
                return int(row.end_us)
        return 0


def _chunked(connection: Connection, numbers: Sequence[int], what: ColumnElement[int]) -> list[int]:
    """An aggregate of records, for each part of the numbers."""
    parts = (numbers[begin : begin + AT_ONCE] for begin in range(0, len(numbers), AT_ONCE))
    return [
        connection.execute(select(what).where(burst_records.c.number.in_(part))).scalar_one() or 0 for part in parts
    ]
