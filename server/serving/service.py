"""The ensemble in service: its start, its swap for another, its rollback, and its golden checks.

A request takes the ensemble in service once and stays with it, so its labels, its digest and its condition agree
across a swap. The replaced ensemble finishes its requests, and is kept for a rollback.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from policies.observation import EnsembleInfo
from server.domain.ensemble_protocol import Ensemble
from server.domain.errors import Conflict, RetryLater
from server.monitoring.metrics import Metrics
from server.pipeline.pipeline import Pipeline
from server.serving.answering import Engine, Handle
from server.serving.loading import Load, Loaded
from server.serving.notices import GoldenCheck, NoticeQueue
from server.serving.swap import Comparison, OneSwap, Swap, Watched, run_shadow
from server.store.outbox import Notices

log = logging.getLogger(__name__)

UNAPPROVED_RETRY_S = 60
LOADING_RETRY_S = 5


class InService(msgspec.Struct, frozen=True):
    """An ensemble's digest and models. `instead_of` is the digest before a swap, `compared` the result of its
    shadow.
    """

    ensemble: str
    models: tuple[str, ...]
    instead_of: str | None = None
    compared: Comparison | None = None


@dataclass(frozen=True, slots=True)
class Served:
    """An ensemble with all that answers by it."""

    loaded: Loaded[Any]
    handle: Handle
    watched: Watched
    ensemble: Ensemble
    pipeline: Pipeline

    @property
    def digest(self) -> str:
        return self.handle.ensemble_info.ensemble


class Service:
    """The ensemble in service. Safe to use from several threads.

    `load` makes ensembles, `engine_of` the engine for the first one: both in this process, or both on a Ray cluster.
    `counted` wraps an ensemble so that its answers are counted, `pipeline_of` makes its pipeline. `announced` is called
    with each ensemble that comes into service. `choose` keeps the models for the next start.
    """

    def __init__(
        self,
        load: Load,
        engine_of: Callable[[Any], Engine],
        *,
        counted: Callable[[Ensemble], Ensemble],
        pipeline_of: Callable[[Ensemble], Pipeline],
        announced: Callable[[EnsembleInfo], None],
        choose: Callable[[Sequence[str]], None],
        notices: Notices,
        metrics: Metrics,
    ) -> None:
        self._load = load
        self._engine_of = engine_of
        self._counted = counted
        self._pipeline_of = pipeline_of
        self._announced = announced
        self._choose = choose
        self._notices = NoticeQueue(notices)
        self._golden = GoldenCheck(self._notices, metrics.golden_checked)
        self._one_swap = OneSwap(metrics.swap_asked)
        self.engine: Engine | None = None
        self._served: Served | None = None
        self._before: Served | None = None
        self._fault: str | None = None
        self._changing = threading.Lock()

    def current(self) -> Served:
        """What is in service. Raises RetryLater before the first ensemble, and while it does not answer as approved."""
        served = self._served
        if self._fault is not None:
            raise RetryLater(self._fault, retry_after_s=UNAPPROVED_RETRY_S)
        if served is None:
            raise RetryLater("the ensemble is still loading", retry_after_s=LOADING_RETRY_S)
        return served

    def begin(self, models: Sequence[str], on_stuck: Callable[[], None]) -> None:
        """Load and serve the first ensemble. One that is not approved stays, and the server is not ready.

        Raises what `load` raises.
        """
        began = time.monotonic()
        loaded = self._load(models)
        engine = self._engine_of(loaded.ensemble)
        served = self._make_served(loaded, engine.first)
        self._fault = self._golden.fault(loaded)
        engine.start(on_stuck)
        self._put(served, f"loaded at start in {time.monotonic() - began:.1f} s{self._change_since_restart(served)}")
        self.engine = engine  # last: with an engine, other threads may swap and stop

    def swap(self, swap: Swap) -> InService:
        """Serve other models, or the same as they are on disk now, to new requests. Returns once they serve.

        Raises Conflict with the reason when they do not: another swap runs, a model is missing, the ensemble differs
        from the lock or does not answer as approved.
        """
        with self._one_swap.running():
            engine, before = self._started()
            loaded = self._load(swap.models)
            self._golden.require(loaded)
            handle = engine.handle(loaded.ensemble)
            if handle.ensemble_info.ensemble == before.digest and self.is_approved:
                raise Conflict(f"not swapped: {before.digest} is in service already; nothing on disk has changed")
            served = self._make_served(loaded, handle)
            compared = run_shadow(before.watched, handle, swap) if swap.shadow_s else None
            self._choose(loaded.models)
            self._put(served, f"swapped in instead of {before.digest}")
            return InService(served.digest, loaded.models, before.digest, compared)

    def rollback(self) -> InService:
        """Serve the ensemble from before the last swap. Raises Conflict when there is none, or it is not approved."""
        with self._one_swap.running():
            _engine, before = self._started()
            back = self._before
            if back is None:
                raise Conflict("not rolled back: nothing was swapped since this server started")
            self._golden.require(back.loaded)
            self._choose(back.loaded.models)
            self._put(back, f"rolled back to, from {before.digest}")
            return InService(back.digest, back.loaded.models, before.digest)

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
        return self._notices.flush()

    @property
    def is_approved(self) -> bool:
        """Whether the ensemble in service answered as approved at the last check."""
        return self._fault is None

    def in_service(self) -> tuple[InService | None, InService | None]:
        """The ensemble in service, and the one a rollback would serve."""
        return _described(self._served), _described(self._before)

    def _started(self) -> tuple[Engine, Served]:
        if self.engine is None or self._served is None:
            raise Conflict("not swapped: the first ensemble is still loading")
        return self.engine, self._served

    def _make_served(self, loaded: Loaded[Any], handle: Handle) -> Served:
        watched = Watched(handle)
        ensemble = self._counted(watched)
        return Served(loaded, handle, watched, ensemble, self._pipeline_of(ensemble))

    def _put(self, served: Served, how: str) -> None:
        """Give new requests this ensemble from now on."""
        with self._changing:
            self._before, self._served = self._served, served
            if self._before is not None:
                self._fault = None  # a swap and a rollback require the golden set first
        self._announced(served.handle.ensemble_info)
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


def _described(served: Served | None) -> InService | None:
    return None if served is None else InService(served.digest, served.loaded.models)
