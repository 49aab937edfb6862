"""The ensemble in service: its start, its swap for another, its rollback, and its golden checks.

A request takes the ensemble in service once and stays with it, so its labels, its digest and its condition agree
across a swap. The replaced ensemble finishes its requests, and is kept for a rollback.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from policies.observation import EnsembleInfo
from server.domain.ensemble_protocol import Ensemble
from server.domain.errors import ConfigurationError, Conflict, DatabaseUnavailable, RetryLater, SectorwatchError
from server.domain.fleet import Generation, Standing, differs
from server.monitoring.metrics import Metrics
from server.pipeline.pipeline import Pipeline
from server.serving.answering import Engine, Handle
from server.serving.loading import Load, Loaded
from server.serving.membership import Membership, OnReplica
from server.serving.notices import GoldenCheck, NoticeQueue
from server.serving.served import InService, Served, described
from server.serving.swap import OneSwap, Swap, Watched, run_shadow
from server.store.events.outbox import Notices

log = logging.getLogger(__name__)

UNAPPROVED_RETRY_S = 60
LOADING_RETRY_S = 5
RETRY_S = 60.0
"""After which a server tries again to serve what it could not."""


class Service:
    """The ensemble in service. Safe to use from several threads.

    `load` makes ensembles, `engine_of` the engine for the first one: both in this process, or both on a Ray cluster.
    `chosen` gives the models for the start, `usable` those of some names whose card can be used. `counted` wraps an
    ensemble so that its answers are counted, `pipeline_of` makes its pipeline. `announced` is called with each ensemble
    that comes into service. `hindrance` says why the ensemble of a digest does not answer at present, or (for None)
    what the load of the first waits for.
    """

    def __init__(
        self,
        load: Load,
        engine_of: Callable[[Any], Engine],
        membership: Membership,
        *,
        chosen: Callable[[Standing], Sequence[str]],
        usable: Callable[[Sequence[str]], Sequence[str]],
        counted: Callable[[Ensemble], Ensemble],
        pipeline_of: Callable[[Ensemble], Pipeline],
        announced: Callable[[EnsembleInfo], None],
        notices: Notices,
        metrics: Metrics,
        hindrance: Callable[[str | None], str | None] = lambda _ensemble: None,
    ) -> None:
        self._load = load
        self._engine_of = engine_of
        self._membership = membership
        self._chosen = chosen
        self._usable = usable
        self._counted = counted
        self._pipeline_of = pipeline_of
        self._announced = announced
        self._hindrance = hindrance
        self._waits_for: str | None = None
        self._notices = NoticeQueue(notices, membership.name)
        self._golden = GoldenCheck(self._notices, metrics.golden_checked)
        self._one_swap = OneSwap(metrics.swap_asked)
        self.engine: Engine | None = None
        self.generation = 0
        self._on_stuck: Callable[[], None] | None = None
        self._served: Served | None = None
        self._before: Served | None = None
        self._ready: tuple[int, Served] | None = None
        self._answered = 0
        self._retry_at_s = 0.0
        self._fault: str | None = None
        self._mismatch: str | None = None
        self._changing = threading.Lock()
        self._working = threading.Lock()

    def current(self) -> Served:
        """What is in service.

        Raises RetryLater before the first ensemble, while it does not answer or not as approved, and while the replicas
        are to serve another one that this server does not have.
        """
        served = self._served
        if (fault := self._unready()) is not None:
            raise RetryLater(fault, retry_after_s=UNAPPROVED_RETRY_S)
        why = self._hindrance(None if served is None else served.digest)
        if served is None:
            why = why or self._waits_for
            detail = f"the ensemble is still loading: {why}" if why else "the ensemble is still loading"
            raise RetryLater(detail, retry_after_s=LOADING_RETRY_S)
        if why is not None:
            raise RetryLater(why, retry_after_s=LOADING_RETRY_S)
        return served

    def begin(self, on_stuck: Callable[[], None]) -> None:
        """Load and serve the first ensemble: that of the other replicas, where there are some.

        One that is not approved stays, and the server is not ready; nor is it where it cannot serve what the others
        serve. Raises what `load` raises where there are no others, and what the store raises.
        """
        began = time.monotonic()
        with self._working:
            self._membership.join()
            standing = self._membership.standing()
            names = self._chosen(standing)
            try:
                loaded = self._load(self._usable(names))
            except (ConfigurationError, RetryLater) as error:
                self._waits_for = error.detail
                if standing.wanted is None or not standing.others(self._membership.name):
                    raise
                self._refuse(standing.wanted, error.detail)
                self._on_stuck = on_stuck  # last: with it, `follow` tries again
                return
            engine = self._engine_of(loaded.ensemble)
            served = self._make_served(loaded, engine.first)
            fault = self._golden.fault(loaded)
            generation = self._membership.establish(names, served.digest, is_approved=fault is None)
            engine.start(on_stuck)
            self.engine = engine  # before the server is ready, so that whoever finds it ready finds this
            if generation.ensemble == served.digest:
                self._fault = fault
                how = f"loaded at start in {time.monotonic() - began:.1f} s{self._change_since_restart(served)}"
                self._put(served, how, generation)
            else:
                self._refuse(generation, differs(served.digest, generation))
            self._on_stuck = on_stuck

    def swap(self, swap: Swap) -> InService:
        """Serve other models on all replicas, or the same as they are on disk now. Returns once new requests get them.

        Raises Conflict with the reason when they do not: another swap runs, a model is missing, the ensemble differs
        from the lock or does not answer as approved, here or on another replica.
        """
        with self._one_swap.running(), self._alone():
            engine, before = self._started()
            self._membership.refuse_if_asked()
            loaded = self._load(swap.models)
            self._golden.require(loaded)
            handle = engine.handle(loaded.ensemble)
            if handle.ensemble_info.ensemble == before.digest and self._unready() is None:
                raise Conflict(f"not swapped: {before.digest} is in service already; nothing on disk has changed")
            served = self._make_served(loaded, handle)
            compared = run_shadow(before.watched, handle, swap) if swap.shadow_s else None
            others = self._agree(served, swap.author, f"swapped in instead of {before.digest}")
            return InService(served.digest, loaded.models, before.digest, compared, others)

    def rollback(self, author: str = "") -> InService:
        """Serve the ensemble from before the last swap, on all replicas.

        Raises Conflict when there is none, or it is not approved, here or on another replica.
        """
        with self._one_swap.running(), self._alone():
            _engine, before = self._started()
            back = self._before
            if back is None:
                raise Conflict("not rolled back: nothing was swapped since this server started")
            self._golden.require(back.loaded)
            others = self._agree(back, author, f"rolled back to, from {before.digest}")
            return InService(back.digest, back.loaded.models, before.digest, None, others)

    def follow(self) -> None:
        """Do what the replicas ask of each other: get an ensemble ready, serve it, or forget it.

        To be called again and again, in a thread of its own. Raises what the store raises.
        """
        if self._on_stuck is None or not self._working.acquire(blocking=False):
            return  # it starts, or swaps
        try:
            standing = self._membership.standing()
            wanted, asked = standing.wanted, standing.asked
            if asked is not None and self._membership.give_up_orphan(standing):
                asked = None
            behind = wanted if wanted is not None and wanted.number != self.generation else None
            has_it = behind is not None and self._ready is not None and self._ready[0] == behind.number
            if asked is not None and asked.number != self._answered and not has_it:
                self._prepare(asked)
            elif behind is not None:
                self._catch_up(behind, is_alone=not standing.others(self._membership.name))
            elif asked is None:
                self._ready = None
        finally:
            self._working.release()

    def beat(self) -> None:
        """Say that this server lives. To be called again and again."""
        self._membership.beat()

    @property
    def does_upkeep(self) -> bool:
        """Whether this server has the lease for the upkeep."""
        return self._membership.has_upkeep

    def leave(self) -> None:
        """Say that this server stops."""
        self._membership.leave()

    def recheck(self) -> bool:
        """Replay the golden set on the ensemble in service, in the queue of requests.

        True when that was possible and all notices are stored. After a mismatch the server is not ready, until the
        ensemble answers as approved again or is swapped.
        """
        served = self._served
        if served is None:
            return False
        try:
            fault = self._golden.fault(served.loaded, served.handle)
        except RetryLater:  # the engine is too busy: the caller tries again soon
            return False
        with self._changing:
            if self._served is not served:
                return False  # swapped meanwhile
            is_news = (fault is None) != (self._fault is None)
            self._fault = fault
        if is_news:
            self._golden.announce(served.loaded, fault)
            self._membership.answers(self.generation, fault)
        return self._notices.flush()

    @property
    def is_approved(self) -> bool:
        """Whether the ensemble in service answered as approved at the last check."""
        return self._fault is None

    def in_service(self) -> tuple[InService | None, InService | None]:
        """The ensemble in service, and the one a rollback would serve."""
        return described(self._served), described(self._before)

    def _unready(self) -> str | None:
        """Why this server answers nothing; None: it does."""
        if self._membership.is_displaced:
            return f"another server has started as `{self._membership.name}`: give each its own `instance`"
        return self._mismatch or self._fault

    def _started(self) -> tuple[Engine, Served]:
        if self._mismatch is not None:
            raise Conflict(f"not swapped: this server is not ready ({self._mismatch}); ask another one")
        if self.engine is None or self._served is None:
            raise Conflict("not swapped: the first ensemble is still loading")
        return self.engine, self._served

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Nothing is asked of this server by others meanwhile. Raises Conflict before the first ensemble."""
        self._started()
        with self._working:
            yield

    def _make_served(self, loaded: Loaded[Any], handle: Handle) -> Served:
        watched = Watched(handle)
        ensemble = self._counted(watched)
        return Served(loaded, handle, watched, ensemble, self._pipeline_of(ensemble))

    def _agree(self, served: Served, author: str, how: str) -> tuple[OnReplica, ...]:
        """Have all replicas serve what this one has ready; what the others do then. Raises Conflict if one refuses."""
        asked = self._membership.ask(served.loaded.models, served.digest, author)
        self._ready = asked.number, served  # `follow` serves it if this thread does not learn that it is wanted
        self._put(served, how, self._membership.agree(asked))
        return self._membership.outcome(asked)

    def _prepare(self, asked: Generation) -> None:
        """Get ready what another replica asks for, and answer."""
        fault = None
        try:
            self._ready = asked.number, self._made_ready(asked)
        except Exception as error:  # noqa: BLE001  whatever it is, the one who asks is to know
            fault = _line(error)
            log.warning("ensemble refused", extra={"ensemble": asked.ensemble, "detail": fault})
        self._membership.answers(asked.number, fault)
        self._answered = asked.number

    def _catch_up(self, wanted: Generation, *, is_alone: bool) -> None:
        """Serve what all are to serve: it is ready, or this server has missed the swap.

        Where the others are gone that served what this server cannot, its own ensemble is what all are to serve.
        """
        if self._ready is None or self._ready[0] != wanted.number:
            if wanted.number <= self._answered and time.monotonic() < self._retry_at_s:
                return
            self._mismatch = self._mismatch or f"generation {wanted.number} of the ensemble is still loading"
            try:
                self._ready = wanted.number, self._made_ready(wanted, or_another=is_alone)
                wanted = self._in_force(self._ready[1], wanted)
            except DatabaseUnavailable:
                raise
            except Exception as error:  # noqa: BLE001  it is tried again
                self._refuse(wanted, _line(error))
                return
        served = self._ready[1]
        self._put(served, f"served as by all replicas, asked of {wanted.instance}", wanted)

    def _in_force(self, served: Served, wanted: Generation) -> Generation:
        """The generation of an ensemble that is ready. Raises ConfigurationError where the others serve another one."""
        if served.digest == wanted.ensemble:
            return wanted
        generation = self._membership.establish(wanted.models, served.digest, is_approved=True)
        if generation.ensemble != served.digest:
            raise ConfigurationError(differs(served.digest, generation))
        return generation

    def _refuse(self, wanted: Generation, why: str) -> None:
        """Be unready: this server cannot serve what all are to serve."""
        self._mismatch = f"this server cannot serve generation {wanted.number} of the ensemble: {why}"
        self._answered, self._retry_at_s = wanted.number, time.monotonic() + RETRY_S
        log.error("not ready", extra={"detail": self._mismatch})
        self._membership.answers(wanted.number, why)

    def _made_ready(self, generation: Generation, *, or_another: bool = False) -> Served:
        """The ensemble of a generation, loaded and checked; `or_another`: what its models are here, if that differs.

        Raises what `load` raises, and Unapproved.
        """
        for held in (self._served, self._before):
            if held is not None and held.digest == generation.ensemble:
                self._golden.require(held.loaded)
                return held
        loaded = self._load(self._usable(generation.models))
        if (digest := loaded.ensemble.ensemble_info.ensemble) != generation.ensemble and not or_another:
            raise ConfigurationError(differs(digest, generation))
        self._golden.require(loaded)
        if self.engine is not None:
            return self._make_served(loaded, self.engine.handle(loaded.ensemble))
        engine = self._engine_of(loaded.ensemble)
        assert self._on_stuck is not None
        engine.start(self._on_stuck)
        self.engine = engine
        return self._make_served(loaded, engine.first)

    def _put(self, served: Served, how: str, generation: Generation) -> None:
        """Give new requests this ensemble from now on."""
        with self._changing:
            if self._served is not served:
                self._before, self._served = self._served, served
            if self._before is not None or self._mismatch is not None:
                self._fault = None  # what came later than the first required the golden set
            self._mismatch = self._ready = None
            self.generation = self._answered = generation.number
        self._announced(served.handle.ensemble_info)
        try:
            self._membership.serves(generation, self._fault)
        except RetryLater as error:
            log.warning("the other servers do not know yet what serves here", extra={"cause": error.detail})
        if self._fault is not None:
            self._golden.announce(served.loaded, self._fault)
            return
        log.info(
            "ensemble ready",
            extra={"ensemble": served.digest, "models": ",".join(served.loaded.models), "how": how},
        )
        self._notices.add("serves", served.loaded, how)

    def _change_since_restart(self, served: Served) -> str:
        """Names the ensemble that served before the restart, if it was another, and warns in the log."""
        last = self._notices.last_served()
        if last is None or last.ensemble == served.digest:
            return ""
        log.warning(
            "another ensemble than before the restart",
            extra={"ensemble": served.digest, "before": last.ensemble, "models_before": ",".join(last.models)},
        )
        return f", instead of {last.ensemble} before the restart"


def _line(error: Exception) -> str:
    """An error in one line; one of a library with its kind."""
    if isinstance(error, SectorwatchError):
        return error.detail
    return " ".join(f"{type(error).__name__}: {error}".split())
