"""A turn: the short transaction in which one camera's state advances. All of it is committed, or nothing.

A burst is first kept, with all its observations, and then admitted into the fold; the fold reads what was
stored. So what runs live is what replays, and a burst that has to wait (`held`) is merely not admitted yet.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import NamedTuple

from sqlalchemy import ColumnElement, Connection, Table, select

from policies.events import microseconds
from policies.site.site_policy import SitePolicy
from server.domain.errors import Unprocessable
from server.domain.records import Admitted, Checkpoint, Entry, Folded, Known, Recorded
from server.store.bursts import (
    IS_HELD,
    LATE,
    SET_ASIDE,
    Loose,
    Shared,
    count_rewriting,
    is_worth_writing,
    keep_burst,
    late_bursts,
    mark,
    move_checkpoints,
    move_head,
    newest_us,
    read_camera,
    read_frames,
    read_known,
    record_end_us,
)
from server.store.care.revival import revive
from server.store.engine import also_lock
from server.store.events.rewriting import rewrite_log
from server.store.people import number_judging
from server.store.retention import read_gone, refuse_gone
from server.store.rows import Versions, encoded, insert_once, read_checkpoint, readable_state, stored_text
from server.store.schema import burst_records, camera_states, panels, policies

_AT_ONCE = 50
"""Bursts that waited for the clock, in one turn."""


class _Due(NamedTuple):
    """A burst of this turn: its record's number, and its first and last instant (us)."""

    number: int
    first_us: int
    last_us: int


class Turn:
    """One camera's turn; made by `Store.turn`, used inside its `with` block only."""

    def __init__(self, connection: Connection, versions: Versions, site: str, camera: str, now_us: int) -> None:
        self._connection = connection
        self._versions = versions
        self._site = site
        self._camera = camera
        self._now_us = now_us
        self._head = self._read_head()
        self._known_camera = read_camera(connection, site, camera)
        self._passed_us = self._read_passed()
        self._kept: list[_Due] = []
        self._in_order: list[_Due] = []
        self._late: list[_Due] = []
        self.has_kept = False
        """Whether it stored a burst."""

    def known(self, burst_id: str) -> Known | None:
        """As `Store.known`, inside the turn, so that two senders of one burst store it once."""
        return read_known(self._connection, self._versions, burst_id)

    def policy_version(self) -> int | None:
        """The number of the version that judges the site now, where sites are in the database; None: there is none.

        Of the turns of one camera, none sees an older version than the turn before it.
        """
        return number_judging(self._connection, self._site)

    def keep(self, entry: Entry) -> None:
        """Store a new burst with its observations and the seal of its decision record. `admit` lets it into the fold.

        Raises Unprocessable when another camera took this burst_id in the meantime, and for a burst of a time that is
        no longer kept.
        """
        burst_id = entry.burst.burst_id
        also_lock(self._connection, f"burst/{burst_id}")
        if self.known(burst_id) is not None:
            raise Unprocessable(f"burst_id {burst_id} was already used for another burst")
        frames = entry.burst.frames
        refuse_gone(self._connection, self._site, self._camera, frames[0].at_us, frames[-1].at_us)
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
            is_derived=self._is_ensemble_stored(entry),
        )
        number, self._known_camera = keep_burst(
            self._connection, self._known_camera, shared, loose, entry.observations, is_held=False, late=False
        )
        self.has_kept = True
        self._kept.append(_Due(number, burst.frames[0].at_us, burst.frames[-1].at_us))

    def admit(self, until_us: int, late_within_us: int | None = None) -> Admitted | None:
        """Admit bursts that end by `until_us` to the fold: those just kept, and the oldest that waited for it.

        None when there are none. Those of later instants wait. A burst more than `late_within_us` older than the
        camera's newest frame is set aside. While older late bursts wait for their refold, another late burst waits too.
        """
        kept, self._kept = self._kept, []
        waited, is_all = self._waited(until_us)
        kept = self._set_aside(kept, until_us, late_within_us)
        ahead = [each for each in kept if each.last_us > until_us or not is_all]
        self._set(ahead, is_held=1)
        due = [*waited, *(each for each in kept if each not in ahead)]
        passed_us = self._passed_us
        self._late = [each for each in due if passed_us is not None and each.first_us <= passed_us]
        self._in_order = [each for each in due if each not in self._late]
        self._set(waited, is_held=0)
        self._set(self._late, late=LATE)
        if self._late and self._is_refold_due():
            return self.postpone()
        return self._admitted()

    def postpone(self) -> Admitted | None:
        """Let the late ones of the admitted bursts wait for a refold outside of turns; what is left to be folded."""
        self._set(self._late, is_held=1)
        self._late = []
        return self._admitted()

    def close(self) -> None:
        """End the turn: what it kept and did not admit waits."""
        self._set(self._kept, is_held=1)

    def rewind(self, before_us: int) -> Checkpoint:
        """The newest checkpoint of this camera before `before_us`: usually its head."""
        if self._head.at_us is not None and self._head.at_us < before_us:
            return self._head
        return read_checkpoint(self._connection, self._site, self._camera, before_us)

    def observations(self, after: Checkpoint) -> Iterator[Recorded]:
        """This camera's admitted frames after a checkpoint, in order."""
        since_us = None if after.at_us is None else after.at_us + 1
        return read_frames(
            self._connection, self._versions, self._site, self._camera, since_us, known=self._known_camera
        )

    def policy(self, digest: str) -> SitePolicy:
        """The policy of a digest, as it was when it judged its first burst."""
        return self._versions.policy(self._connection, digest)

    def settle(self, after: Checkpoint, folded: Folded) -> None:
        """Replace all that follows the checkpoint by `folded`: head, checkpoints, events and announcements.

        Head and checkpoints stay where they are while that saves writing them (`server.store.bursts.heads`).
        """
        late = late_bursts(self._connection, [each.number for each in self._late]) if self._late else ()
        rewrite_log(
            self._connection,
            self._site,
            self._camera,
            after.at_us,
            folded.settled,
            self._passed_us,
            self._now_us,
            partial(read_gone, self._connection, self._site, self._camera),
            late,
        )
        if late:
            count_rewriting(self._connection, self._site, self._camera)
        if after.at_us is None or after.at_us != self._head.at_us or is_worth_writing(folded):
            move_checkpoints(self._connection, self._site, self._camera, after.at_us, folded)
            move_head(self._connection, self._site, self._camera, folded, self._now_us)

    def _read_head(self) -> Checkpoint:
        """Where the stored state cannot be read, it is folded anew first."""
        state = stored_text(self._connection, camera_states.c.state)
        query = select(camera_states.c.last_at_us, state).where(*self._mine(camera_states))
        row = self._connection.execute(query).one_or_none()
        if row is not None and readable_state(row[1], row[0]) is None:
            revive(self._connection, self._versions, (self._site, self._camera))
            row = self._connection.execute(query).one()
        return Checkpoint(None, None) if row is None else Checkpoint(row[0], readable_state(row[1], row[0]))

    def _read_passed(self) -> int | None:
        """The instant of the newest folded frame; `_head` may lie before it."""
        if self._head.at_us is None:
            return None
        return newest_us(self._connection, self._known_camera, self._head.at_us)

    def _mine(self, table: Table) -> tuple[ColumnElement[bool], ...]:
        return (table.c.site == self._site, table.c.camera == self._camera)

    def _keep_names(self, entry: Entry) -> None:
        """Store the burst's ensemble and policy, once each. Turns of two cameras may do so at once."""
        ensemble, policy = entry.ensemble_info, entry.policy
        insert_once(self._connection, panels.c.ensemble, ensemble.ensemble, lambda: {"body": encoded(ensemble)})
        insert_once(
            self._connection,
            policies.c.policy,
            policy.digest,
            lambda: {
                "site": policy.site,
                "text": entry.policy_text,
                "body": encoded(policy),
                "first_used_us": self._now_us,
            },
        )

    def _is_ensemble_stored(self, entry: Entry) -> bool:
        """Whether the ensemble of the burst is stored as it is: the decisions can be made again of its answers then.

        The first ensemble of a digest is stored. Another one with this digest may weigh the answers in another way.
        """
        stored = self._versions.ensemble_info(self._connection, entry.ensemble_info.ensemble)
        return stored == entry.ensemble_info

    def _waited(self, until_us: int) -> tuple[list[_Due], bool]:
        """This camera's oldest bursts that waited for `until_us`, and whether these are all.

        Not all at once, after a server's clock was behind for long: no turn may last for minutes.
        """
        known = self._known_camera
        if known is None:
            return [], True
        query = (
            select(burst_records.c.number, burst_records.c.first_at_us, record_end_us)
            .where(IS_HELD, burst_records.c.late == 0, burst_records.c.camera == known.number)
            .where(record_end_us <= until_us)
            .order_by(burst_records.c.first_at_us)
        )
        found = [_Due(*row) for row in self._connection.execute(query.limit(_AT_ONCE + 1))]
        return found[:_AT_ONCE], len(found) <= _AT_ONCE

    def _set_aside(self, kept: list[_Due], until_us: int, late_within_us: int | None) -> list[_Due]:
        """Mark the bursts that come too late; the others.

        Lateness is measured against the camera's newest frame, but not against a frame that lies ahead of the clock: a
        clock that was years ahead for a minute would make every honest burst too late.
        """
        if self._passed_us is None or late_within_us is None:
            return kept
        oldest_us = min(self._passed_us, until_us) - late_within_us
        too_late = [each for each in kept if each.first_us < oldest_us]
        self._set(too_late, is_held=1, late=SET_ASIDE)
        return [each for each in kept if each not in too_late]

    def _is_refold_due(self) -> bool:
        """Whether late bursts of this camera wait for their refold."""
        known = self._known_camera
        mine = (IS_HELD, burst_records.c.late == LATE, burst_records.c.camera == (known and known.number))
        return self._connection.execute(select(burst_records.c.number).where(*mine).limit(1)).first() is not None

    def _admitted(self) -> Admitted | None:
        due = [*self._in_order, *self._late]
        if not due:
            return None
        oldest, newest = min(each.first_us for each in due), max(each.last_us for each in due)
        return Admitted(oldest, max(newest, self._passed_us or newest), bool(self._late))

    def _set(self, bursts: Sequence[_Due], **values: int) -> None:
        mark(self._connection, [each.number for each in bursts], **values)
