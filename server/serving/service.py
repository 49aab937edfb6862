"""Which ensemble answers: the one in service, the one before it, and how the one follows the other.

A request takes what is in service once (`ensemble`, `pipeline`) and stays with it, so its labels, its digest and
its condition are of one ensemble, whatever is swapped meanwhile. A swap loads the next one beside it, holds it
against lock, golden set and memory, lets it run in the shadow where that is wanted, and only then is it given to new
requests; the old one finishes what it has begun, and is kept for a rollback.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import msgspec

from policies.observation import EnsembleInfo
from server.domain.errors import ConfigurationError, Conflict, RetryLater, Unapproved
from server.domain.records import Notice, Noticed
from server.engine import Engine, EnsembleHandle, Stages
from server.pipeline.pipeline import Ensemble, Pipeline
from server.serving.loading import Answering, Loaded
from server.serving.shadow import Comparison, Shadow, Watched

log = logging.getLogger(__name__)

UNAPPROVED_RETRY_S = 60
LOADING_RETRY_S = 5
_LOOKED_BACK = 100
_MOST_UNKEPT = 100


class Load(Protocol):
    def __call__(self, models: Sequence[str], present: Loaded | None = None, /) -> Loaded: ...


class Notices(Protocol):
    def add(self, what: Noticed, ensemble: str, models: Sequence[str], detail: str) -> object: ...
    def all(self, limit: int | None = None) -> Sequence[Notice]: ...


class Told(Protocol):
    """The counts; see `server.monitoring.metrics`."""

    def golden_checked(self, outcome: str) -> None: ...
    def swap_asked(self, outcome: str) -> None: ...


class Swap(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a swap is asked for: the models, and how long the next ensemble runs in the shadow first."""

    models: tuple[str, ...]
    shadow_s: float = 0.0
    shadow_frames: int = 0


class InService(msgspec.Struct, frozen=True):
    """An ensemble by its name and its models; `instead_of` is the name of the one before, `compared` the shadow's."""

    ensemble: str
    models: tuple[str, ...]
    instead_of: str | None = None
    compared: Comparison | None = None


@dataclass(frozen=True, slots=True)
class Served:
    """An ensemble with everything that answers by it."""

    loaded: Loaded
    handle: EnsembleHandle
    watched: Watched
    ensemble: Ensemble
    pipeline: Pipeline

    @property
    def digest(self) -> str:
        return self.handle.ensemble_info.ensemble


class Service:
    """The ensemble in service. Safe to use from several threads; one swap at a time.

    `load` makes ensembles, `engine_of` the engine around the first; `counted` has an ensemble's answers counted,
    `pipeline_of` makes its pipeline; `announced` is told of each ensemble that comes into service, `choose` keeps
    which models are served for the next start.
    """

    def __init__(
        self,
        load: Load,
        engine_of: Callable[[Stages], Engine],
        *,
        counted: Callable[[Ensemble], Ensemble],
        pipeline_of: Callable[[Ensemble], Pipeline],
        announced: Callable[[EnsembleInfo], None],
        choose: Callable[[Sequence[str]], None],
        notices: Notices,
        told: Told,
    ) -> None:
        self._load = load
        self._engine_of = engine_of
        self._counted = counted
        self._pipeline_of = pipeline_of
        self._announced = announced
        self._choose = choose
        self._notices = notices
        self._told = told
        self.engine: Engine | None = None
        self._served: Served | None = None
        self._before: Served | None = None
        self._unapproved: str | None = None
        self._swapping = threading.Lock()
        self._changing = threading.Lock()
        self._unkept: deque[tuple[Noticed, str, Sequence[str], str]] = deque(maxlen=_MOST_UNKEPT)
        self._keeping = threading.Lock()

    def current(self) -> Served:
        """What is in service. Raises RetryLater until there is something, or while it does not answer as approved."""
        served = self._served
        if self._unapproved is not None:
            raise RetryLater(self._unapproved, retry_after_s=UNAPPROVED_RETRY_S)
        if served is None:
            raise RetryLater("the ensemble is still loading", retry_after_s=LOADING_RETRY_S)
        return served

    def begin(self, models: Sequence[str], on_stuck: Callable[[], None]) -> None:
        """Load and serve the first ensemble; one that is not approved stays, and keeps the server unready.

        Raises whatever keeps it from being loaded.
        """
        began = time.monotonic()
        loaded = self._load(models)
        engine = self._engine_of(loaded.ensemble)
        served = self._around(loaded, engine.first)
        self._unapproved = self._fault(loaded, loaded.ensemble)
        engine.start(on_stuck)
        self._put(served, f"loaded at start in {time.monotonic() - began:.1f} s{self._instead(served)}")
        self.engine = engine  # last: whoever finds it may swap what is served, or stop it

    def swap(self, asked: Swap) -> InService:
        """Serve other models, or the same as they are on disk now, to whoever asks from then on.

        Returns once they serve. Raises Conflict, saying why, when they do not: another swap is under way, a model
        cannot be had, it is not the one of the lock, it does not answer as approved, memory might not do.
        """
        with self._alone() as engine:
            before = self._served
            assert before is not None
            loaded = self._load(asked.models, before.loaded)
            self._check(loaded)
            handle = engine.handle(loaded.ensemble)
            if handle.ensemble_info.ensemble == before.digest and self._unapproved is None:
                raise Conflict(f"not swapped: {before.digest} is in service already; nothing on disk has changed")
            served = self._around(loaded, handle)
            compared = self._shadowed(before, handle, asked) if asked.shadow_s else None
            self._choose(loaded.models)
            self._put(served, f"swapped in instead of {before.digest}")
            return InService(served.digest, loaded.models, before.digest, compared)

    def rollback(self) -> InService:
        """Serve what was served before the last swap. Raises Conflict when there is none, or it is not approved."""
        with self._alone():
            back, before = self._before, self._served
            if back is None or before is None:
                raise Conflict("not rolled back: nothing was swapped since this server started")
            self._check(back.loaded)
            self._choose(back.loaded.models)
            self._put(back, f"rolled back to, from {before.digest}")
            return InService(back.digest, back.loaded.models, before.digest)

    def recheck(self) -> bool:
        """Replay the golden set on the ensemble in service, in the line of the requests; whether that could be done,
        and everything noticed be kept.

        From a mismatch on the server is unready, until it answers as approved again or is swapped.
        """
        served = self._served
        if served is None:
            return False
        try:
            fault = self._fault(served.loaded, served.handle)
        except RetryLater:  # too busy to be asked: it is asked again soon
            return False
        with self._changing:
            if self._served is not served:
                return False  # swapped meanwhile: the verdict is of another
            is_news = (fault is None) != (self._unapproved is None)
            self._unapproved = fault
        if is_news:
            self._note_verdict(served, fault)
        return self._keep()

    @property
    def is_approved(self) -> bool:
        """Whether what serves answered as approved when it was last asked."""
        return self._unapproved is None

    def in_service(self) -> tuple[InService | None, InService | None]:
        """What is served, and what a rollback would serve."""
        return _told(self._served), _told(self._before)

    @contextmanager
    def _alone(self) -> Iterator[Engine]:
        """Holds off other swaps. What cannot be served is refused: the present ensemble goes on."""
        if not self._swapping.acquire(blocking=False):
            raise Conflict("not swapped: another swap is under way")
        try:
            if self.engine is None:
                raise Conflict("not swapped: the first ensemble is still loading")
            yield self.engine
        except (ConfigurationError, Conflict) as error:
            self._told.swap_asked("refused")
            log.warning("ensemble not swapped", extra={"detail": error.detail})
            if isinstance(error, Conflict):
                raise
            raise Conflict(f"not swapped: {error.detail}") from error
        else:
            self._told.swap_asked("done")
        finally:
            self._swapping.release()

    def _around(self, loaded: Loaded, handle: EnsembleHandle) -> Served:
        watched = Watched(handle)
        ensemble = self._counted(watched)
        return Served(loaded, handle, watched, ensemble, self._pipeline_of(ensemble))

    def _shadowed(self, before: Served, handle: EnsembleHandle, asked: Swap) -> Comparison:
        before.watched.shadow = shadow = Shadow(handle, seconds=asked.shadow_s, frames=asked.shadow_frames)
        log.info("ensemble in the shadow", extra={"ensemble": handle.ensemble_info.ensemble, "seconds": asked.shadow_s})
        try:
            compared = shadow.run()
        except Exception as error:
            raise ConfigurationError(
                f"the next ensemble failed on a live request: {type(error).__name__}: {error}"
            ) from error
        finally:
            before.watched.shadow = None
        for changed in compared.changed:
            log.info("label differs", extra=msgspec.structs.asdict(changed))
        return compared

    def _put(self, served: Served, how: str) -> None:
        """Into service: from here on new requests get it."""
        with self._changing:
            self._before, self._served = self._served, served
            if self._before is not None:
                self._unapproved = None  # what is swapped in was checked
        self._announced(served.handle.ensemble_info)
        if self._unapproved is not None:
            self._note_verdict(served, self._unapproved)
            return
        fields = {"ensemble": served.digest, "models": ",".join(served.loaded.models), "how": how}
        log.info("ensemble ready", extra=fields)
        self._note("serves", served.loaded, how)

    def _instead(self, served: Served) -> str:
        """That another one was the last to serve, if it was: a restart must not change the models unnoticed."""
        try:
            last = next((one for one in reversed(self._notices.all(limit=_LOOKED_BACK)) if one.what == "serves"), None)
        except RetryLater:
            return ""
        if last is None or last.ensemble == served.digest:
            return ""
        before = {"before": last.ensemble, "models_before": ",".join(last.models)}
        log.warning("another ensemble than before the restart", extra={"ensemble": served.digest, **before})
        return f", instead of {last.ensemble} before the restart"

    def _check(self, loaded: Loaded) -> None:
        """Raises Unapproved, and it is noticed, when what is to be put into service does not answer as approved."""
        fault = self._fault(loaded, loaded.ensemble)
        if fault is not None:
            self._note("refused", loaded, fault)
            raise Unapproved(fault)

    def _fault(self, loaded: Loaded, asked: Answering) -> str | None:
        """What keeps it from being approved, if anything. Raises RetryLater when there was no room to ask."""
        try:
            loaded.check(asked)
        except Unapproved as error:
            self._told.golden_checked("failed")
            return error.detail
        self._told.golden_checked("passed")
        return None

    def _note_verdict(self, served: Served, fault: str | None) -> None:
        if fault is None:
            log.warning("ensemble approved again", extra={"ensemble": served.digest})
            self._note("approved", served.loaded, "answers as approved again")
        else:
            log.error("ensemble not approved", extra={"detail": fault})
            self._note("unapproved", served.loaded, fault)

    def _note(self, what: Noticed, loaded: Loaded, detail: str) -> None:
        self._unkept.append((what, loaded.ensemble.ensemble_info.ensemble, loaded.models, detail))
        self._keep()

    def _keep(self) -> bool:
        """Keep what was noticed, in its order; whether all of it is. What the database does not take now is tried
        again with the next notice, and with the next golden set."""
        with self._keeping:
            while self._unkept:
                try:
                    self._notices.add(*self._unkept[0])
                except Exception:
                    log.exception("notice not kept yet")
                    return False
                self._unkept.popleft()
        return True


def _told(served: Served | None) -> InService | None:
    return None if served is None else InService(served.digest, served.loaded.models)
