"""The store: turns, bursts, events, and the parts that are in modules of their own."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict
from pathlib import Path

from sqlalchemy import Connection, Engine, func, select

from policies.fusion.judgement import Judgement
from policies.observation import Observation
from policies.site.site_policy import SitePolicy
from server.domain.errors import ConfigurationError, Conflict, DatabaseDamaged, RetryLater, Unknown
from server.domain.records import (
    CameraHead,
    Checkpoint,
    KeptBurst,
    Known,
    Marked,
    Recorded,
)
from server.domain.times.clock import Clock, now_us
from server.store.annotations import Annotations
from server.store.bursts import (
    convert,
    convert_held,
    count_record_frames,
    has_old_frames,
    marked,
    read_frames,
    read_heads,
    read_kept,
    read_known,
    read_seal,
    record_end_us,
    seal_of,
    waiting_cameras,
)
from server.store.care.copying import copy_sqlite
from server.store.care.derived import mending, remake_derived
from server.store.care.integrity import Integrity, check_integrity
from server.store.care.migrate import Revision, revision, upgrade
from server.store.care.restoring import restore_sqlite
from server.store.care.revival import revive, unreadable_states
from server.store.care.salvage import Saved, salvage_sqlite
from server.store.delivery.channels import Channels
from server.store.delivery.dead_letters import DeadLetters
from server.store.engine import CONNECTIONS, open_engine, open_to_read, reading, shown_url, sqlite_file, takes, writing
from server.store.event_log import EventLog
from server.store.events.event_rows import settled_by
from server.store.events.outbox import Notices, link_announcements
from server.store.events.rewriting import pack_events
from server.store.fleet import Fleet
from server.store.heartbeats import Heartbeats
from server.store.past import Past
from server.store.people import Audit, PolicyVersions, Tokens, Users
from server.store.refolding import PastChange, Refolds, aside_of, change_past, folded_of
from server.store.retention import Frames, Place, Retention, compact, is_compactable
from server.store.rows import Versions, read_checkpoint
from server.store.schema import burst_records, camera_states, metadata
from server.store.sqlite_files import access_fault
from server.store.turn import Turn

log = logging.getLogger(__name__)


def open_store(url: str, clock: Clock = now_us, place: Place | None = None, connections: int = CONNECTIONS) -> Store:
    """The store at a database URL. It does not connect or create anything yet: see `Store.upgrade`.

    `place` gives the shelf of its pictures; without it, what would delete or show one raises ConfigurationError.
    `connections` to PostgreSQL are open at once, at most.
    """
    return Store(open_engine(url, connections), clock, place)


class Store(Channels, EventLog, Tokens):
    """One database. Safe to use from several threads, and from several processes.

    Every method raises RetryLater when the database does not answer, Unprocessable for a value it cannot store, and
    ConfigurationError for a database that is damaged or none. Nothing is changed then.

    `past` holds stored bursts, events and policies, for `explain` and `verify`. `heartbeats` shows which cameras are
    watched. `annotations` are people's verdicts, `notices` concern the server. `retention` deletes what is not to be
    kept, and tells what is no longer kept. `refolds` folds in late bursts that wait. `frames` knows the kept pictures.
    `users` are those of the console, with their sessions; `audit` says who changed what. `policy_versions` are those of
    site policies. `letters` are those that channels could not deliver. `fleet` knows the servers on this database, and
    which ensemble they are to serve.
    """

    def __init__(self, engine: Engine, clock: Clock, place: Place | None = None) -> None:
        super().__init__(engine, clock, Versions())
        self.past = Past(engine, clock, self._versions)
        self.annotations = Annotations(engine, clock, self._versions)
        self.heartbeats = Heartbeats(engine, clock, self._versions)
        self.fleet = Fleet(engine, clock, self._versions)
        self.notices = Notices(engine, clock, self._versions)
        self.frames = Frames(engine, clock, self._versions, place)
        self.retention = Retention(engine, clock, self._versions, self.frames)
        self.users = Users(engine, clock, self._versions)
        self.audit = Audit(engine, clock, self._versions)
        self.policy_versions = PolicyVersions(engine, clock, self._versions)
        self.letters = DeadLetters(engine, clock, self._versions)
        self.refolds = Refolds(engine, clock=clock, versions=self._versions)

    @property
    def name(self) -> str:
        """The database's URL without its password."""
        return shown_url(self._engine)

    def upgrade(self) -> Revision:
        """Migrate the tables to this version's schema, and make each camera's state readable. Safe to repeat.

        It also completes what a server of an earlier version wrote after an earlier upgrade.

        A small SQLite file of before is written anew, so that it shrinks by itself from then on.
        """
        after = upgrade(self._engine)
        mending(self._engine, self._versions, self._revive)
        if is_compactable(self._engine):
            try:
                compact(self._engine)
            except DatabaseDamaged as error:
                log.warning("the database is damaged and not compacted", extra={"cause": error.detail})
        return after

    def _revive(self) -> None:
        with writing(self._engine, lock="schema") as connection:
            link_announcements(connection)
            convert_held(connection, self._versions)
            revive(connection, self._versions)

    def revision(self) -> Revision:
        """The schema of the database, and the one this version needs."""
        return revision(self._engine)

    def backup(self, file: Path) -> str:
        """Copy the database at this instant, while others write to it. Returns what was checked before.

        Raises ConfigurationError, DatabaseDamaged or Conflict.
        """
        return copy_sqlite(self._engine, file)

    def write_fault(self) -> str | None:
        """Why this process cannot write a SQLite database that is there; None where it can, and for PostgreSQL."""
        file = sqlite_file(self._engine)
        return None if file is None else access_fault(file)

    def integrity(self, within_s: float = math.inf) -> Integrity | None:
        """Whether the file is whole, by SQLite's own checks; None for PostgreSQL."""
        return check_integrity(self._engine, within_s)

    def restore(self, backup: Path) -> Path | None:
        """Put a backup in the place of the database. Returns where the database of before is now, if there was one.

        The backup may have an older schema. Raises ConfigurationError for one that cannot be used, DatabaseDamaged, and
        Conflict while another process has the database open.
        """
        file = sqlite_file(self._engine)
        if file is None:
            raise ConfigurationError("only SQLite is restored here; for PostgreSQL use pg_restore")
        if not backup.is_file():
            raise ConfigurationError(f"there is no file {backup}")
        if file.exists() and file.samefile(backup):
            raise ConfigurationError(f"{backup} is the database itself")
        check_backup(Store(open_to_read(backup), self._clock))
        self.close()
        return restore_sqlite(backup, file)

    def salvage(self, target: Path) -> dict[str, Saved]:
        """Write what can be read of a damaged SQLite database into a new file; what was saved of each table.

        Raises ConfigurationError and Conflict.
        """
        file = sqlite_file(self._engine)
        if file is None:
            raise ConfigurationError(
                "only SQLite is recovered here; PostgreSQL has tools of its own (pg_amcheck, pg_dump)"
            )
        return salvage_sqlite(file, target)

    def check(self) -> None:
        """Raises DatabaseUnavailable where the database does not answer, and while its disk takes nothing."""
        self.last_seq()
        self.retention.check_disk()

    def close(self) -> None:
        """Close all connections. The store may be used again afterwards."""
        self._engine.dispose()

    @contextmanager
    def turn(self, site: str, camera: str) -> Iterator[Turn]:
        """One camera's turn: no other turn of this camera runs at the same time. Leaving the block commits.

        Raises RetryLater also where damaged derived data had to be made anew: the next turn finds it whole.
        """
        try:
            with writing(self._engine, lock=f"{site}/{camera}") as connection:
                turn = Turn(connection, self._versions, site, camera, self._clock())
                yield turn
                turn.close()
        except DatabaseDamaged as error:
            if not remake_derived(self._engine, self._versions):
                raise
            raise RetryLater("damaged derived data was made anew; nothing else was changed") from error
        if turn.has_kept:
            takes(self._engine)

    def known(self, burst_id: str) -> Known | None:
        """A stored burst's digest and status; None for an unknown burst."""
        with reading(self._engine) as connection:
            return read_known(connection, self._versions, burst_id)

    def kept(self, burst_id: str) -> KeptBurst:
        """A stored burst, with the events that its frames settled and that hold. Raises Unknown.

        The judgements are by the policy in force at its acceptance, made again of the stored answers; `is_judged_alike`
        tells whether they are what they were.
        """
        with reading(self._engine) as connection:
            stored = read_kept(connection, self._versions, burst_id)
            if stored is None:
                raise Unknown(f"no burst {burst_id}")
            facts = stored.facts
            return KeptBurst(
                **asdict(facts),
                ensemble_info=self._versions.ensemble_info(connection, facts.ensemble),
                observations=tuple(recorded.observation for recorded in stored.frames),
                judgements=tuple(stored.judgements),
                events=tuple(each for each in settled_by(connection, facts) if not each.is_withdrawn),
            )

    def is_judged_alike(self, burst_id: str, judgements: Sequence[Judgement]) -> bool:
        """Whether these judgements of a burst's frames are those of its acceptance, by their seal. Raises Unknown."""
        with reading(self._engine) as connection:
            kept = read_seal(connection, burst_id)
        if kept is None:
            raise Unknown(f"no burst {burst_id}")
        return kept == seal_of(judgements)

    def cameras(self) -> list[CameraHead]:
        """All cameras that ever advanced, by site and camera."""
        return mending(self._engine, self._versions, self._heads)

    def names(self) -> list[tuple[str, str]]:
        """The site and the name of each of `cameras`, in order, without their states."""
        query = select(camera_states.c.site, camera_states.c.camera)

        def read() -> list[tuple[str, str]]:
            rows = self._rows(query.order_by(camera_states.c.site, camera_states.c.camera))
            return [(row.site, row.camera) for row in rows]

        return mending(self._engine, self._versions, read)

    def _heads(self) -> list[CameraHead]:
        with reading(self._engine) as connection:
            return read_heads(connection, self._versions)

    def unreadable(self) -> dict[tuple[str, str], tuple[int, ...]]:
        """The instants of states that cannot be read, by site and camera. A camera's next turn makes its own anew."""
        with reading(self._engine) as connection:
            return unreadable_states(connection)

    def held(self, until_us: int) -> list[tuple[str, str]]:
        """Cameras (site, camera) with bursts that were ahead of the clock and end by `until_us`."""
        with reading(self._engine) as connection:
            return waiting_cameras(connection, burst_records.c.late == 0, record_end_us <= until_us)

    def history(
        self, site: str, camera: str, since_us: int | None = None, until_us: int | None = None
    ) -> Iterator[Recorded]:
        """A camera's folded frames from `since_us` to before `until_us`, in order, with policy digests."""
        with reading(self._engine) as connection:
            yield from read_frames(connection, self._versions, site, camera, since_us, until_us)

    def observations(
        self, site: str, camera: str, since_us: int | None = None, until_us: int | None = None
    ) -> Iterator[Observation]:
        """As `history`, without the policy digests."""
        return (recorded.observation for recorded in self.history(site, camera, since_us, until_us))

    def checkpoint(self, site: str, camera: str, before_us: int) -> Checkpoint:
        """The newest state of a camera before an instant; the empty one if there is none."""

        def read() -> Checkpoint:
            with reading(self._engine) as connection:
                return read_checkpoint(connection, site, camera, before_us)

        return mending(self._engine, self._versions, read)

    def policy(self, digest: str) -> SitePolicy:
        """The policy of a digest, as it was when it judged its first burst."""
        if (known := self._versions.known_policy(digest)) is not None:
            return known
        with reading(self._engine) as connection:
            return self._versions.policy(connection, digest)

    def counts(self) -> dict[str, int]:
        """Rows in each table. `bursts` and `observations` count bursts and frames in both of their forms."""
        with reading(self._engine) as connection:
            found = {
                table.name: connection.execute(select(func.count()).select_from(table)).scalar_one()
                for table in metadata.sorted_tables
            }
            frames = count_record_frames(connection)
        found["bursts"] += found["burst_records"]
        found["observations"] += frames
        return found

    def marked(self) -> list[Marked]:
        """What is outside of the fold, of each camera: ahead of the clock, waiting for a refold, or set aside."""
        with reading(self._engine) as connection:
            return marked(connection)

    def fold_in(
        self, site: str, camera: str, since_us: int | None, until_us: int | None, *, by: str | None = None
    ) -> int:
        """Fold in a camera's bursts that are set aside and begin in a stretch; how many. `by`: as `Annotations.add`."""

        def change(connection: Connection) -> PastChange:
            return PastChange(site, camera, added=aside_of(connection, site, camera, since_us, until_us), by=by)

        return change_past(self._engine, self._versions, self._clock, change)

    def set_aside(
        self, site: str, camera: str, since_us: int | None, until_us: int | None, *, by: str | None = None
    ) -> int:
        """Take a camera's bursts that begin in a stretch out of the fold; how many. They are kept, and marked.

        `by`: as `Annotations.add`. Raises Conflict while some of them are not converted into records yet.
        """

        def change(connection: Connection) -> PastChange:
            if has_old_frames(connection, site, camera):
                raise Conflict("bursts of an earlier version are still being converted; try again when that is done")
            return PastChange(site, camera, removed=folded_of(connection, site, camera, since_us, until_us), by=by)

        return change_past(self._engine, self._versions, self._clock, change)

    def convert(
        self,
        is_stopped: Callable[[], bool] = lambda: False,
        wait: Callable[[float], object] = lambda _seconds: None,
    ) -> int:
        """Bring bursts and events that an earlier version stored into the form of this one, a few at a time, beside
        turns.

        `wait` is called between, to leave the database to others. Returns how many bursts were converted. It ends early
        when `is_stopped`; what is left is converted the next time.
        """
        count = convert(self._engine, self._versions, is_stopped, wait)
        pack_events(self._engine, is_stopped, wait)
        return count


def check_backup(store: Store) -> None:
    """Raises ConfigurationError for a file that holds no database of this or an older version, and DatabaseDamaged."""
    with closing(store):
        if store.revision().present is None:
            raise ConfigurationError(f"{store.name} holds no tables: it is no backup")
        integrity = store.integrity()
        if integrity is not None and integrity.faults:
            raise DatabaseDamaged(f"{store.name} is damaged ({integrity.faults[0]}); nothing was changed")
