"""The fleet: all server processes on one database, its replicas, and the ensemble that all of them are to serve."""

from __future__ import annotations

import hashlib
import re
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from server.domain.times.clock import SECOND_US

BEAT_S = 5.0
"""How often a replica looks whether it has to say that it lives, and whether its name is still its own."""

ROLLED_OUT_S = 180.0
"""So long servers may judge by different site policies: a new ConfigMap takes up to two minutes to reach all nodes."""

SAME_SITES = (
    'give all servers sites = "database", or folders whose policies are the same; another release of Sectorwatch may '
    "read them differently"
)

Stage = Literal["asked", "wanted", "refused"]


@dataclass(frozen=True, slots=True)
class Generation:
    """One choice of the ensemble, for all replicas. The newest one that is `wanted` is in force.

    `instead_of` are the models of the settings at that time, `instance` is the replica that was asked, of this release
    of Sectorwatch. `detail` says why it was refused.
    """

    number: int
    models: tuple[str, ...]
    ensemble: str
    instead_of: tuple[str, ...]
    author: str
    instance: str
    release: str
    asked_at_us: int
    stage: Stage
    detail: str


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a generation comes from: the replica, its release of Sectorwatch, the models of its settings."""

    instance: str
    release: str
    instead_of: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SitesSource:
    """What a server judges by: `place` is DATABASE, or the path of a folder. `digest` is that of all policies in force
    of the folder; empty for the database, which is the same for all.
    """

    place: str
    digest: str

    @property
    def shown(self) -> str:
        """What to call it, to people."""
        return "the database" if self.place == DATABASE else f"the folder {self.place} (digest {self.digest[:8]})"


DATABASE = "database"


@dataclass(frozen=True, slots=True)
class Replica:
    """What one server process says of itself. `run` differs for each start of it.

    It is gone after `alive_until_us`, unless it has said by then that it lives: nobody waits for it.
    It serves `ensemble` of `generation` (None: nothing yet). `answered` is the newest generation that it has loaded
    and checked, or refused with `fault`. One replica does the upkeep for all, while it lives: since `upkeep_since_us`.
    It judges by the site policies of `sites_place` with `sites_digest` since `sites_since_us` (None: not said yet).
    """

    name: str
    run: str
    started_at_us: int
    seen_at_us: int
    alive_until_us: int
    generation: int | None
    ensemble: str | None
    models: tuple[str, ...]
    answered: int | None
    fault: str | None
    upkeep_since_us: int | None = None
    sites_place: str | None = None
    sites_digest: str | None = None
    sites_since_us: int | None = None

    @property
    def judges_by(self) -> SitesSource | None:
        """The site policies by which it judges, as far as it has said so."""
        return None if self.sites_place is None else SitesSource(self.sites_place, self.sites_digest or "")

    def is_live(self, now_us: int) -> bool:
        return now_us < self.alive_until_us


@dataclass(frozen=True, slots=True)
class Standing:
    """The fleet at one instant: the generation in force, the one that is just asked for, and the replicas by name."""

    wanted: Generation | None
    asked: Generation | None
    replicas: tuple[Replica, ...]
    now_us: int

    def others(self, name: str) -> tuple[Replica, ...]:
        """The live replicas beside this one."""
        return tuple(each for each in self.replicas if each.name != name and each.is_live(self.now_us))

    def with_upkeep(self) -> Replica | None:
        """The replica that does the upkeep; None: nobody does, until a live one notices."""
        live = (each for each in self.replicas if each.is_live(self.now_us))
        return next((each for each in live if each.upkeep_since_us is not None), None)


@dataclass(frozen=True, slots=True)
class SitesDiffer:
    """Live servers judge by different site policies: the log depends on which of them gets a burst.

    `what` names the servers, `for_s` is how long none of them has changed what it judges by.
    """

    what: str
    for_s: float

    @property
    def lasts(self) -> bool:
        """Whether it is more than files that are just being rolled out."""
        return self.for_s >= ROLLED_OUT_S


def sites_differ(standing: Standing) -> SitesDiffer | None:
    """How the site policies of live servers differ; None: they are the same, as far as the servers have said."""
    by_digest: dict[str, list[Replica]] = {}
    for replica in standing.replicas:
        if replica.is_live(standing.now_us) and (source := replica.judges_by) is not None:
            by_digest.setdefault(source.digest, []).append(replica)
    if len(by_digest) < 2:
        return None
    groups = (f"{', '.join(each.name for each in same)} by {_source(same[0])}" for same in by_digest.values())
    since_us = max(each.sites_since_us or 0 for same in by_digest.values() for each in same)
    return SitesDiffer("; ".join(groups), max(0.0, (standing.now_us - since_us) / SECOND_US))


def _source(replica: Replica) -> str:
    return "" if replica.judges_by is None else replica.judges_by.shown


ReplicaState = Literal["serves", "starting", "swaps", "not ready", "gone"]

MISMATCHED: frozenset[ReplicaState] = frozenset({"swaps", "not ready"})
"""States of a replica that lives, and does not answer by the ensemble that all are to serve."""


def state_of(replica: Replica, standing: Standing) -> tuple[ReplicaState, str]:
    """The state of a replica, and what to say of it."""
    wanted = standing.wanted
    if not replica.is_live(standing.now_us):
        return "gone", f"no sign of life since {(standing.now_us - replica.seen_at_us) // SECOND_US} s"
    if replica.fault is not None and (wanted is None or replica.answered == wanted.number):
        return "not ready", replica.fault
    if replica.generation is None:
        return "starting", "its ensemble is loading"
    what = f"{replica.ensemble} {','.join(replica.models)}"
    is_behind = wanted is not None and replica.generation != wanted.number
    return ("swaps", f"still {what}") if is_behind else ("serves", what)


def models_at_start(standing: Standing, name: str, of_settings: tuple[str, ...]) -> tuple[str, ...]:
    """The models that a replica loads at its start.

    The generation in force counts while other replicas live. A replica alone follows its settings once they name other
    models than at the time of that generation.
    """
    wanted = standing.wanted
    if wanted is None or (wanted.instead_of != of_settings and not standing.others(name)):
        return of_settings
    return wanted.models


def differs(digest: str, generation: Generation) -> str:
    """Why a replica whose models make the ensemble `digest` cannot serve this generation."""
    return (
        f"its files make the ensemble {digest}, and the other servers serve {generation.ensemble}: give it the same "
        "models and the same version of Sectorwatch"
    )


def default_instance(data_dir: Path) -> str:
    """The machine's name, and four letters that stand for the data folder, of which each server has its own."""
    host = re.sub(r"[^A-Za-z0-9.-]", "-", socket.gethostname()) or "server"
    return f"{host}-{hashlib.sha256(str(data_dir.absolute()).encode()).hexdigest()[:4]}"
