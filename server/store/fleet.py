"""The fleet in the database: its replicas, and the generations of its ensemble.

Every change of a generation holds the lock `fleet`, so that replicas which start or swap at once decide in turn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection, Row, delete, func, insert, select, text, update

from server.domain.errors import Conflict
from server.domain.fleet import Generation, Origin, Replica, SitesSource, Stage, Standing
from server.domain.times.clock import SECOND_US
from server.store.engine import reading, writing
from server.store.rows import MODELS_SEPARATOR, Part
from server.store.schema import generations, replicas

_LOCK = "fleet"
_FORGOTTEN_US = 24 * 3600 * SECOND_US
"""After so long, the row of a replica that died goes: names of containers never come again."""
_SAYS_US, _BELIEVED_US = 5 * SECOND_US, 20 * SECOND_US
"""How often a replica says that it lives, and for how long it is believed."""
_SAYS_SQLITE_US, _BELIEVED_SQLITE_US = 60 * SECOND_US, 150 * SECOND_US
"""The same on SQLite: hardly ever is there another replica, and each commit wears the SD card."""
_ROOM = text(
    "SELECT current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int"
    " - coalesce(current_setting('reserved_connections', true)::int, 0)"  # since PostgreSQL 16
)
_GENERATION = [generations.c[name] for name in Generation.__slots__]
_REPLICA = [replicas.c[name] for name in Replica.__slots__]


class Fleet(Part):
    """The replicas on one database and their generations."""

    def standing(self) -> Standing:
        """The fleet now."""
        with reading(self._engine) as connection:
            return self._standing(connection)

    def room(self) -> int | None:
        """How many connections PostgreSQL takes from users such as ours, of all its databases; None for SQLite."""
        if self._engine.dialect.name == "sqlite":
            return None
        with reading(self._engine) as connection:
            return int(connection.execute(_ROOM).scalar_one())

    def join(self, name: str, run: str) -> bool:
        """A replica starts. The row of an earlier run of the same name, which did not stop in order, is replaced.

        Whether there was one.
        """
        now_us = self._clock()
        row = Replica(name, run, now_us, now_us, now_us + self._believed_us, None, None, (), None, None)
        with writing(self._engine, lock=_LOCK) as connection:
            replaced = connection.execute(delete(replicas).where(replicas.c.name == name)).rowcount
            connection.execute(delete(replicas).where(replicas.c.seen_at_us < now_us - _FORGOTTEN_US))
            connection.execute(insert(replicas), _row(row))
            self._take_upkeep(connection, name, run)
        return replaced > 0

    def beat(self, name: str, run: str) -> str | None:
        """A replica lives; that is written where it was last said a while ago. Returns the run that has its name: this
        one, a later one, or None.
        """
        row = self._row(select(replicas.c.run, replicas.c.seen_at_us).where(replicas.c.name == name))
        if row is None or row.run != run:
            return None if row is None else str(row.run)
        if not 0 <= self._clock() - row.seen_at_us < self._says_us:  # below 0: the clock was set back
            with writing(self._engine, lock=_LOCK) as connection:
                _say(connection, name, run, self._alive())
        return run

    def hold_upkeep(self, name: str, run: str) -> int:
        """Have this replica do the upkeep where no live one does. How long it has it (us), unless it says until then
        that it lives, which prolongs it; 0: another one has it.
        """
        with reading(self._engine) as connection:
            holder = self._with_upkeep(connection)
        if holder is None:
            with writing(self._engine, lock=_LOCK) as connection:
                self._take_upkeep(connection, name, run)
                holder = self._with_upkeep(connection)
        return holder.alive_until_us - self._clock() if holder is not None and holder.run == run else 0

    def serves(self, name: str, run: str, generation: Generation, fault: str | None) -> None:
        """A replica serves this generation; `fault`: it does not answer at present, and why."""
        said = {
            "generation": generation.number,
            "ensemble": generation.ensemble,
            "models": MODELS_SEPARATOR.join(generation.models),
            "answered": generation.number,
            "fault": fault,
            **self._alive(),
        }
        with writing(self._engine, lock=_LOCK) as connection:
            _say(connection, name, run, said)

    def answers(self, name: str, run: str, number: int, fault: str | None) -> None:
        """A replica has this generation ready, or refuses it."""
        said = {"answered": number, "fault": fault, **self._alive()}
        with writing(self._engine, lock=_LOCK) as connection:
            _say(connection, name, run, said)

    def judges_by(self, name: str, run: str, source: SitesSource) -> None:
        """A replica judges by these site policies from now on."""
        said = {"sites_place": source.place, "sites_digest": source.digest, "sites_since_us": self._clock()}
        with writing(self._engine, lock=_LOCK) as connection:
            _say(connection, name, run, said | self._alive())

    def leave(self, name: str, run: str) -> None:
        """A replica stops."""
        with writing(self._engine, lock=_LOCK) as connection:
            connection.execute(delete(replicas).where(replicas.c.name == name, replicas.c.run == run))

    def ask(self, models: Sequence[str], ensemble: str, origin: Origin, author: str) -> Generation:
        """Ask all replicas to get an ensemble ready. Raises Conflict while another one is asked for."""
        with writing(self._engine, lock=_LOCK) as connection:
            standing = self._standing(connection)
            if (before := standing.asked) is not None:
                if not is_orphan(before, standing):
                    raise Conflict(f"not swapped: another swap is under way, asked of {before.instance}")
                _decide(connection, before.number, "refused", LEFT)
            return self._add(connection, models, ensemble, origin, author, "asked")

    def establish(self, models: Sequence[str], ensemble: str, origin: Origin, *, may_lead: bool = False) -> Generation:
        """The generation in force for a replica that has loaded this ensemble at its start.

        A replica alone puts its own in force where it differs. Beside others it gets theirs, which may differ from its
        own. One that `may_lead`, and is of another release of Sectorwatch than the generation in force, puts its own in
        force: that is how a release with other models gets in, server by server.
        """
        with writing(self._engine, lock=_LOCK) as connection:
            standing = self._standing(connection)
            wanted = standing.wanted
            if wanted is not None and standing.others(origin.instance):
                if wanted.ensemble == ensemble or wanted.release == origin.release or not may_lead:
                    return wanted
            elif wanted is not None:
                here = (tuple(models), ensemble, origin.instead_of)
                if here == (wanted.models, wanted.ensemble, wanted.instead_of):
                    return wanted
            return self._add(connection, models, ensemble, origin, "", "wanted")

    def decide(self, number: int, instance: str) -> Generation | None:
        """Put a generation in force if all other live replicas have it ready; None while one has not answered.

        Raises Conflict with the reason where one refuses it, or it is asked for no more. Nobody serves it then.
        """
        refusal = ""
        with writing(self._engine, lock=_LOCK) as connection:
            standing = self._standing(connection)
            asked = standing.asked
            if asked is None or asked.number != number:
                raise Conflict("not swapped: another server has given this swap up")
            others = standing.others(instance)
            refusals = [each for each in others if each.answered == number and each.fault is not None]
            if refusals:
                refusal = "; ".join(f"{each.name} refuses: {each.fault}" for each in refusals)
                _decide(connection, number, "refused", refusal)
            elif all(each.answered == number for each in others):
                _decide(connection, number, "wanted", "")
                return replace(asked, stage="wanted")
        if refusal:
            raise Conflict(f"not swapped, on no replica: {refusal}")
        return None

    def give_up(self, number: int, why: str) -> None:
        """Refuse a generation that is asked for. Without effect once it is decided."""
        with writing(self._engine, lock=_LOCK) as connection:
            _decide(connection, number, "refused", why)

    def _with_upkeep(self, connection: Connection) -> Row[str, int] | None:
        """The replica that lives and has the upkeep. A row from before its clock was set back holds nothing."""
        now_us, until_us = self._clock(), replicas.c.alive_until_us
        query = select(replicas.c.run, until_us).where(
            replicas.c.upkeep_since_us.is_not(None), until_us > now_us, until_us <= now_us + 3 * self._believed_us
        )
        return connection.execute(query).first()

    def _take_upkeep(self, connection: Connection, name: str, run: str) -> None:
        """Give a replica the upkeep, unless a live one has it."""
        if self._with_upkeep(connection) is None:
            connection.execute(update(replicas).values(upkeep_since_us=None))
            _say(connection, name, run, {"upkeep_since_us": self._clock(), **self._alive()})

    def _alive(self) -> dict[str, int]:
        now_us = self._clock()
        return {"seen_at_us": now_us, "alive_until_us": now_us + self._believed_us}

    @property
    def _says_us(self) -> int:
        return _SAYS_SQLITE_US if self._engine.dialect.name == "sqlite" else _SAYS_US

    @property
    def _believed_us(self) -> int:
        return _BELIEVED_SQLITE_US if self._engine.dialect.name == "sqlite" else _BELIEVED_US

    def _standing(self, connection: Connection) -> Standing:
        rows = connection.execute(select(*_REPLICA).order_by(replicas.c.name)).all()
        newest = select(func.max(generations.c.number)).where(generations.c.stage != "refused")
        stages = connection.execute(
            select(*_GENERATION).where(generations.c.number.in_(newest.group_by(generations.c.stage)))
        )
        by_stage = {row.stage: _generation(row) for row in stages}
        return Standing(
            by_stage.get("wanted"),
            by_stage.get("asked"),
            tuple(Replica(**dict(row._mapping) | {"models": _models(row.models)}) for row in rows),
            self._clock(),
        )

    def _add(
        self,
        connection: Connection,
        models: Sequence[str],
        ensemble: str,
        origin: Origin,
        author: str,
        stage: Stage,
    ) -> Generation:
        last = connection.execute(select(func.max(generations.c.number))).scalar_one() or 0
        added = Generation(
            number=last + 1,
            models=tuple(models),
            ensemble=ensemble,
            instead_of=origin.instead_of,
            author=author,
            instance=origin.instance,
            release=origin.release,
            asked_at_us=self._clock(),
            stage=stage,
            detail="",
        )
        connection.execute(insert(generations), _row(added))
        return added


def _say(connection: Connection, name: str, run: str, said: Mapping[str, object]) -> None:
    connection.execute(update(replicas).where(replicas.c.name == name, replicas.c.run == run).values(said))


LEFT = "the server that was asked has stopped"


def is_orphan(asked: Generation, standing: Standing) -> bool:
    """Whether the replica that was asked for this generation is gone, or was started anew since."""
    asker = next((each for each in standing.replicas if each.name == asked.instance), None)
    return asker is None or not asker.is_live(standing.now_us) or asker.started_at_us > asked.asked_at_us


def _decide(connection: Connection, number: int, stage: Stage, detail: str) -> None:
    here = (generations.c.number == number, generations.c.stage == "asked")
    connection.execute(update(generations).where(*here).values(stage=stage, detail=detail))


def _generation(row: Row[Any]) -> Generation:
    return Generation(**dict(row._mapping) | {"models": _models(row.models), "instead_of": _models(row.instead_of)})


def _models(text: str) -> tuple[str, ...]:
    return tuple(text.split(MODELS_SEPARATOR)) if text else ()


def _row(value: Generation | Replica) -> dict[str, object]:
    fields = ((name, getattr(value, name)) for name in value.__slots__)
    return {name: MODELS_SEPARATOR.join(value) if isinstance(value, tuple) else value for name, value in fields}
