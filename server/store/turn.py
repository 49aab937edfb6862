"""A turn: the short transaction in which one camera's state advances. All of it is committed, or nothing.

A burst is first kept, with all its observations, and then admitted into the fold; the fold reads what was
stored. So what runs live is what replays, and a burst that has to wait (`held`) is merely not admitted yet.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sqlalchemy import ColumnElement, Connection, Table, delete, insert, select, update

from policies.events import microseconds
from policies.site.site_policy import SitePolicy
from server.domain.checkpoints import thin_before, to_prune
from server.domain.errors import Unprocessable
from server.domain.records import Admitted, Checkpoint, Entry, Folded, Known, Recorded
from server.store.bursts import (
    IS_HELD,
    Loose,
    Shared,
    is_worth_writing,
    keep_burst,
    newest_us,
    read_camera,
    read_frames,
    read_known,
    record_end_us,
)
from server.store.engine import also_lock
from server.store.log import rewrite_log
from server.store.rows import Versions, encoded, insert_once, read_checkpoint
from server.store.schema import burst_records, camera_states, checkpoints, panels, policies

_AT_ONCE = 500


class Turn:
    """One camera's turn; made by `Store.turn`, used inside its `with` block only."""

    def __init__(self, connection: Connection, versions: Versions, site: str, camera: str, now_us: int) -> None:
        self._connection = connection
        self._versions = versions
        self._site = site
        self._camera = camera
        self._now_us = now_us
        self._head = self._read_head()
        self._passed_us = self._read_passed()
        self._kept: list[tuple[int, int, int]] = []

    def known(self, burst_id: str) -> Known | None:
        """As `Store.known`, inside the turn, so that two senders of one burst store it once."""
        return read_known(self._connection, self._versions, burst_id)

    def keep(self, entry: Entry) -> None:
        """Store a new burst with its observations and the seal of its decision record. `admit` lets it into the fold.

        Raises Unprocessable when another camera took this burst_id in the meantime.
        """
        burst_id = entry.burst.burst_id
        also_lock(self._connection, f"burst/{burst_id}")
        if self.known(burst_id) is not None:
            raise Unprocessable(f"burst_id {burst_id} was already used for another burst")
        self._keep_names(entry)
        burst, sent_at = entry.burst, entry.burst.agent.sent_at
        shared = Shared(
            ensemble=entry.ensemble_info.ensemble,
            policy=entry.policy.digest,
            mask_digest=burst.mask_digest,
            boot_id=burst.clock.boot_id,
            agent_version=burst.agent.version,
            reason=burst.reason,
            clock_synced=int(burst.clock.synced),
        )
        loose = Loose(
            captured_at_us=burst.captured_at_us,
            received_at_us=entry.received_at_us,
            sent_at_us=None if sent_at is None else microseconds(sent_at),
            monotonic_ms=burst.clock.monotonic_ms,
            image_bytes=sum(len(frame.image) for frame in burst.frames),
            digest=burst.digest,
            decisions=entry.decisions,
        )
        number = keep_burst(self._connection, shared, loose, entry.observations, is_held=False, late=False)
        self._kept.append((number, burst.frames[0].at_us, burst.frames[-1].at_us))

    def admit(self, until_us: int) -> Admitted | None:
        """Admit all kept bursts that end by `until_us` to the fold; None when there are none. The others wait."""
        kept, self._kept = self._kept, []
        self._hold([number for number, _, last_us in kept if last_us > until_us])
        waiting = self._waiting(until_us)
        due = [*waiting, *((number, first, last) for number, first, last in kept if last <= until_us)]
        if not due:
            return None
        self._set([number for number, _, _ in waiting], is_held=0)
        oldest, newest = min(first for _, first, _ in due), max(last for _, _, last in due)
        if self._passed_us is None:
            return Admitted(oldest, newest)
        self._set([number for number, first, _ in due if first <= self._passed_us], late=1)
        return Admitted(oldest, max(newest, self._passed_us))

    def close(self) -> None:
        """End the turn: what it kept and did not admit waits."""
        self._hold([number for number, _, _ in self._kept])

    def rewind(self, before_us: int) -> Checkpoint:
        """The newest checkpoint of this camera before `before_us`: usually its head."""
        if self._head.at_us is not None and self._head.at_us < before_us:
            return self._head
        return read_checkpoint(self._connection, self._site, self._camera, before_us)

    def observations(self, after: Checkpoint) -> Iterator[Recorded]:
        """This camera's admitted frames after a checkpoint, in order."""
        since_us = None if after.at_us is None else after.at_us + 1
        return read_frames(self._connection, self._versions, self._site, self._camera, since_us)

    def policy(self, digest: str) -> SitePolicy:
        """The policy of a digest, as it was when it judged its first burst."""
        return self._versions.policy(self._connection, digest)

    def settle(self, after: Checkpoint, folded: Folded) -> None:
        """Replace all that follows the checkpoint by `folded`: head, checkpoints, events and announcements.

        Head and checkpoints stay where they are while that saves writing them (`server.store.bursts.heads`).
        """
        rewrite_log(
            self._connection, self._site, self._camera, after.at_us, folded.settled, self._passed_us, self._now_us
        )
        if after.at_us is None or after.at_us != self._head.at_us or is_worth_writing(folded):
            self._move_checkpoints(after, folded)
            self._move_head(folded)

    def _read_head(self) -> Checkpoint:
        row = self._connection.execute(
            select(camera_states.c.last_at_us, camera_states.c.state).where(*self._mine(camera_states))
        ).one_or_none()
        return Checkpoint(row.last_at_us, row.state.encode()) if row else Checkpoint(None, None)

    def _read_passed(self) -> int | None:
        """The instant of the newest folded frame; `_head` may lie before it."""
        if self._head.at_us is None:
            return None
        known = read_camera(self._connection, self._site, self._camera)
        return newest_us(self._connection, known, self._head.at_us)

    def _mine(self, table: Table) -> tuple[ColumnElement[bool], ...]:
        return (table.c.site == self._site, table.c.camera == self._camera)

    def _keep_names(self, entry: Entry) -> None:
        """Store the burst's ensemble and policy, once each. Turns of two cameras may do so at once."""
        insert_once(
            self._connection,
            panels,
            "ensemble",
            {"ensemble": entry.ensemble_info.ensemble, "body": encoded(entry.ensemble_info)},
        )
        insert_once(
            self._connection,
            policies,
            "policy",
            {
                "policy": entry.policy.digest,
                "site": entry.policy.site,
                "text": entry.policy_text,
                "body": encoded(entry.policy),
                "first_used_us": self._now_us,
            },
        )

    def _waiting(self, until_us: int) -> list[tuple[int, int, int]]:
        """Number, first and last instant of this camera's held bursts that end by `until_us`."""
        known = read_camera(self._connection, self._site, self._camera)
        if known is None:
            return []
        query = select(burst_records.c.number, burst_records.c.first_at_us, record_end_us)
        mine = (IS_HELD, burst_records.c.camera == known.number, record_end_us <= until_us)
        return [(number, first, last) for number, first, last in self._connection.execute(query.where(*mine))]

    def _hold(self, numbers: Sequence[int]) -> None:
        self._set(numbers, is_held=1)

    def _set(self, numbers: Sequence[int], **values: int) -> None:
        for begin in range(0, len(numbers), _AT_ONCE):
            mine = burst_records.c.number.in_(numbers[begin : begin + _AT_ONCE])
            self._connection.execute(update(burst_records).where(mine).values(values))

    def _move_checkpoints(self, after: Checkpoint, folded: Folded) -> None:
        mine = self._mine(checkpoints)
        outdated = mine if after.at_us is None else (*mine, checkpoints.c.at_us > after.at_us)
        self._connection.execute(delete(checkpoints).where(*outdated))
        self._connection.execute(
            insert(checkpoints),
            [
                {"site": self._site, "camera": self._camera, "at_us": at_us, "state": state.decode()}
                for at_us, state in folded.checkpoints.items()
            ],
        )
        thinned = mine if after.at_us is None else (*mine, checkpoints.c.at_us >= thin_before(after.at_us))
        instants = self._connection.execute(select(checkpoints.c.at_us).where(*thinned)).scalars()
        if dropped := to_prune(instants, folded.last_at_us):
            self._connection.execute(delete(checkpoints).where(*mine, checkpoints.c.at_us.in_(dropped)))

    def _move_head(self, folded: Folded) -> None:
        values = {
            "last_at_us": folded.last_at_us,
            "state": folded.state.decode(),
            "policy": folded.policy,
            "changed_at_us": self._now_us,
        }
        if self._head.at_us is None:
            self._connection.execute(insert(camera_states), {"site": self._site, "camera": self._camera} | values)
        else:
            self._connection.execute(update(camera_states).where(*self._mine(camera_states)).values(values))
