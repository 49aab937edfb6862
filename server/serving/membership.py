"""This server's place among the replicas on its database, and how all of them agree on another ensemble.

The replica that is asked for a swap loads and checks the ensemble first. Then it asks the others by a row in the
database, which each reads every second. They load and check it beside the one in service and answer. Once all live
ones have it ready, the row says that it is wanted, and each serves it.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Callable, Sequence

import msgspec

from server import __version__
from server.domain.errors import Conflict, DatabaseUnavailable, RetryLater, SectorwatchError
from server.domain.fleet import Generation, Origin, Replica, SitesSource, Standing
from server.domain.times.clock import SECOND_US
from server.store.fleet import LEFT, Fleet, is_orphan

log = logging.getLogger(__name__)

LOOK_S = 1.0
"""How often a replica looks what the others ask for."""

AGREED_WITHIN_S = 600.0
"""How long a swap waits for the other replicas: to load an ensemble takes a slow machine a minute."""

_SERVED_WITHIN_S = 15.0
_POLL_S = 0.2


class OnReplica(msgspec.Struct, frozen=True):
    """Another replica after a swap: it `serves` the new ensemble, is `behind`, or is `gone`."""

    name: str
    state: str


class Membership:
    """One server among the replicas on its database. `is_displaced`: another server has started under its name.

    `of_settings` are the models of its settings. Every method raises what the store raises.
    """

    def __init__(self, fleet: Fleet, name: str, of_settings: Sequence[str]) -> None:
        self.name = name
        self.is_displaced = False
        self._fleet = fleet
        self._origin = Origin(name, __version__, tuple(of_settings))
        self._run = secrets.token_hex(8)
        self._has_joined = self._was_killed = False
        self._said: Callable[[], None] = lambda: None
        self._sites: SitesSource | None = None
        self._said_sites: SitesSource | None = None
        self._upkeep_until_s = 0.0
        self._never = threading.Event()

    def join(self) -> None:
        self._was_killed = self._fleet.join(self.name, self._run)
        self._has_joined, self._said_sites = True, None
        self._hold_upkeep()

    def leave(self) -> None:
        """Say that this replica stops. Another one may do the upkeep from now on."""
        self._upkeep_until_s = 0.0
        if self._has_joined:
            self._fleet.leave(self.name, self._run)

    @property
    def has_upkeep(self) -> bool:
        """Whether this replica has the lease for the upkeep. While the database does not answer, it runs out."""
        return time.monotonic() < self._upkeep_until_s

    def judges_by(self, source: SitesSource) -> None:
        """Say with the next `beat` by which site policies this replica judges."""
        self._sites = source

    def beat(self) -> None:
        """Say that this replica lives, and do the upkeep from now on where nobody does."""
        if not self._has_joined:
            return
        holder = self._fleet.beat(self.name, self._run)
        if holder is None:  # its row was taken for that of a dead one
            self._fleet.join(self.name, self._run)
            self._said_sites = None
            self._said()
        self._say_sites()
        is_displaced = holder not in (None, self._run)
        if is_displaced and not self.is_displaced:
            log.error("another server has this one's name: give each its own `instance`", extra={"instance": self.name})
        self.is_displaced = is_displaced
        self._hold_upkeep()

    def standing(self) -> Standing:
        return self._fleet.standing()

    def establish(self, models: Sequence[str], ensemble: str, *, is_approved: bool) -> Generation:
        """As the store's, for this replica.

        One that was killed does not lead: in the middle of an upgrade it may be one of the release before.
        """
        return self._fleet.establish(models, ensemble, self._origin, may_lead=is_approved and not self._was_killed)

    def serves(self, generation: Generation, fault: str | None = None) -> None:
        """Say that this replica serves a generation; `fault`: why it does not answer at present."""
        self._said = lambda: self._fleet.serves(self.name, self._run, generation, fault)
        self._said()

    def answers(self, number: int, fault: str | None) -> None:
        """Say that this replica has a generation ready, or why not."""
        self._fleet.answers(self.name, self._run, number, fault)

    def refuse_if_asked(self) -> None:
        """Raises Conflict while another swap is under way."""
        standing = self._fleet.standing()
        if standing.asked is not None and not is_orphan(standing.asked, standing):
            raise Conflict(f"not swapped: another swap is under way, asked of {standing.asked.instance}")

    def give_up_orphan(self, standing: Standing) -> bool:
        """Refuse the generation that nobody asks for any more; whether there was one. Not to be called in a swap."""
        if standing.asked is None or not (standing.asked.instance == self.name or is_orphan(standing.asked, standing)):
            return False
        self._fleet.give_up(standing.asked.number, LEFT)
        return True

    def ask(self, models: Sequence[str], ensemble: str, author: str) -> Generation:
        """Ask the others for an ensemble that this replica has ready."""
        return self._fleet.ask(models, ensemble, self._origin, author)

    def agree(self, asked: Generation) -> Generation:
        """Wait until all live replicas have the ensemble ready. Raises Conflict with the reason where one refuses.

        It serves nowhere then.
        """
        until_s = time.monotonic() + AGREED_WITHIN_S
        try:
            while (agreed := self._decided(asked)) is None:
                if time.monotonic() > until_s:
                    late = ", ".join(self._late(asked))
                    raise Conflict(f"not swapped, on no replica: no answer of {late} within {AGREED_WITHIN_S:g} s")
                self._never.wait(_POLL_S)
        except SectorwatchError as error:
            self._fleet.give_up(asked.number, error.detail)
            raise
        return agreed

    def outcome(self, generation: Generation) -> tuple[OnReplica, ...]:
        """What the others serve, once all that live serve this generation, or after some seconds."""
        until_s = time.monotonic() + _SERVED_WITHIN_S
        while True:
            try:
                standing = self._fleet.standing()
            except RetryLater:  # the swap is done: the others serve it as soon as they can read that
                return ()
            others = standing.others(self.name)
            if all(_has(each, generation) for each in others) or time.monotonic() > until_s:
                break
            self._never.wait(_POLL_S)
        gone = (each for each in standing.replicas if each.name != self.name and not each.is_live(standing.now_us))
        return (
            *(OnReplica(each.name, "serves" if _has(each, generation) else "behind") for each in others),
            *(OnReplica(each.name, "gone") for each in gone),
        )

    def _say_sites(self) -> None:
        source = self._sites
        if source is not None and source != self._said_sites:
            self._fleet.judges_by(self.name, self._run, source)
            self._said_sites = source

    def _hold_upkeep(self) -> None:
        asked_s, had_it = time.monotonic(), self.has_upkeep
        self._upkeep_until_s = asked_s + self._fleet.hold_upkeep(self.name, self._run) / SECOND_US
        if self.has_upkeep != had_it:
            log.info("does the upkeep" if self.has_upkeep else "another server does the upkeep")

    def _decided(self, asked: Generation) -> Generation | None:
        try:
            return self._fleet.decide(asked.number, self.name)
        except DatabaseUnavailable:
            return None

    def _late(self, asked: Generation) -> list[str]:
        return [each.name for each in self._fleet.standing().others(self.name) if each.answered != asked.number]


def _has(replica: Replica, generation: Generation) -> bool:
    return (replica.generation or 0) >= generation.number
