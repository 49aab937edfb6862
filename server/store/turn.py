"""A turn: the short transaction in which one camera's state advances. All of it is committed, or nothing.

A burst is first kept, with all its observations, and then admitted into the fold; the fold reads what was
stored. So what runs live is what replays, and a burst that has to wait (`held`) is merely not admitted yet.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

from sqlalchemy import ColumnElement, Connection, Table, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from policies.events import microseconds
from policies.site.site_policy import SitePolicy
from server.domain.checkpoints import to_prune
from server.domain.errors import Unprocessable
from server.domain.records import Admitted, Checkpoint, Entry, Folded, Known, Recorded
from server.store.log import rewrite_log
from server.store.revival import revive
from server.store.rows import (
    Versions,
    encoded,
    folded_of,
    observation_query,
    read_checkpoint,
    read_known,
    read_observations,
    readable_state,
    stored_text,
)
from server.store.schema import (
    bursts,
    camera_states,
    checkpoints,
    decisions,
    observations,
    panels,
    policies,
)


class Turn:
    """One camera's turn; made by `Store.turn`, used inside its `with` block only."""

    def __init__(self, connection: Connection, versions: Versions, site: str, camera: str, now_us: int) -> None:
        self._connection = connection
        self._versions = versions
        self._site = site
        self._camera = camera
        self._now_us = now_us
        self._head = self._read_head()

    def known(self, burst_id: str) -> Known | None:
        """As `Store.known`, inside the turn, so that two senders of one burst store it once."""
        return read_known(self._connection, burst_id)

    def keep(self, entry: Entry) -> None:
        """Store a new burst with its observations and decision record. The fold does not contain it yet.

        Raises Unprocessable when another camera took this burst_id in the meantime.
        """
        self._keep_names(entry)
        try:
            self._connection.execute(insert(bursts), self._burst_row(entry))
        except IntegrityError:
            raise Unprocessable(f"burst_id {entry.burst.burst_id} was already used for another burst") from None
        self._connection.execute(
            insert(observations),
            [
                {
                    "burst_id": seen.burst_id,
                    "frame": seen.index,
                    "site": seen.site,
                    "camera": seen.camera,
                    "at_us": seen.at_us,
                    "frame_sha256": seen.frame_sha256,
                    "width_px": seen.size[0],
                    "height_px": seen.size[1],
                    "brightness": seen.brightness,
                    "answers": encoded(seen.answers),
                }
                for seen in entry.observations
            ],
        )
        self._connection.execute(
            insert(decisions), {"burst_id": entry.burst.burst_id, "body": entry.decisions.decode()}
        )

    def admit(self, until_us: int) -> Admitted | None:
        """Admit all kept bursts that end by `until_us` to the fold; None when there are none."""
        waiting = (
            (bursts.c.status == "held")
            & (bursts.c.site == self._site)
            & (bursts.c.camera == self._camera)
            & (bursts.c.last_at_us <= until_us)
        )
        oldest, newest = self._connection.execute(
            select(func.min(bursts.c.first_at_us), func.max(bursts.c.last_at_us)).where(waiting)
        ).one()
        if oldest is None:
            return None
        passed_us = self._head.at_us
        if passed_us is not None and oldest <= passed_us:
            behind = waiting & (bursts.c.first_at_us <= passed_us)
            self._connection.execute(update(bursts).where(behind).values(late=1))
        self._connection.execute(update(bursts).where(waiting).values(status="folded", cause=None))
        return Admitted(oldest, newest if passed_us is None else max(newest, passed_us))

    def rewind(self, before_us: int) -> Checkpoint:
        """The newest checkpoint of this camera before `before_us`: usually its head."""
        if self._head.at_us is not None and self._head.at_us < before_us:
            return self._head
        return read_checkpoint(self._connection, self._site, self._camera, before_us)

    def observations(self, after: Checkpoint) -> Iterator[Recorded]:
        """This camera's admitted frames after a checkpoint, in order."""
        query = observation_query().where(*folded_of(self._site, self._camera))
        if after.at_us is not None:
            query = query.where(observations.c.at_us > after.at_us)
        return read_observations(self._connection, query, self._versions)

    def policy(self, digest: str) -> SitePolicy:
        """The policy of a digest, as it was when it judged its first burst."""
        return self._versions.policy(self._connection, digest)

    def settle(self, after: Checkpoint, folded: Folded) -> None:
        """Replace all that follows the checkpoint by `folded`: head, checkpoints, events and announcements."""
        rewrite_log(
            self._connection, self._site, self._camera, after.at_us, folded.settled, self._head.at_us, self._now_us
        )
        self._move_checkpoints(after, folded)
        self._move_head(folded)

    def _read_head(self) -> Checkpoint:
        """Where the stored state cannot be read, it is folded anew first."""
        state = stored_text(self._connection, camera_states.c.state)
        query = select(camera_states.c.last_at_us, state).where(*self._mine(camera_states))
        row = self._connection.execute(query).one_or_none()
        if row is not None and readable_state(row[1], row[0]) is None:
            revive(self._connection, self._versions, (self._site, self._camera))
            row = self._connection.execute(query).one()
        return Checkpoint(None, None) if row is None else Checkpoint(row[0], readable_state(row[1], row[0]))

    def _mine(self, table: Table) -> tuple[ColumnElement[bool], ...]:
        return (table.c.site == self._site, table.c.camera == self._camera)

    def _keep_names(self, entry: Entry) -> None:
        """Store the burst's ensemble and policy, once each. Turns of two cameras may do so at once."""
        self._insert_once(
            panels, "ensemble", {"ensemble": entry.ensemble_info.ensemble, "body": encoded(entry.ensemble_info)}
        )
        self._insert_once(
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

    def _insert_once(self, table: Table, key: str, row: dict[str, object]) -> None:
        stored = self._connection.execute(select(table.c[key]).where(table.c[key] == row[key])).first()
        if stored is None:
            with suppress(IntegrityError), self._connection.begin_nested():  # another camera's turn may insert it first
                self._connection.execute(insert(table), row)

    def _burst_row(self, entry: Entry) -> dict[str, object]:
        burst = entry.burst
        sent_at = burst.agent.sent_at
        return {
            "burst_id": burst.burst_id,
            "site": burst.site,
            "camera": burst.camera,
            "digest": burst.digest,
            "status": "held",
            "cause": "future",
            "late": 0,
            "reason": burst.reason,
            "captured_at_us": burst.captured_at_us,
            "first_at_us": burst.frames[0].at_us,
            "last_at_us": burst.frames[-1].at_us,
            "frames": len(burst.frames),
            "image_bytes": sum(len(frame.image) for frame in burst.frames),
            "clock_synced": int(burst.clock.synced),
            "uncertainty_s": burst.clock.error_s,
            "boot_id": burst.clock.boot_id,
            "monotonic_ms": burst.clock.monotonic_ms,
            "mask_digest": burst.mask_digest,
            "agent_version": burst.agent.version,
            "sent_at_us": None if sent_at is None else microseconds(sent_at),
            "received_at_us": entry.received_at_us,
            "ensemble": entry.ensemble_info.ensemble,
            "policy": entry.policy.digest,
        }

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
        instants = self._connection.execute(select(checkpoints.c.at_us).where(*mine)).scalars()
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
