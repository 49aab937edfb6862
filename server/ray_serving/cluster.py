"""The Ray cluster: an ensemble is an application `ens-<digest>` of Ray Serve, and this is how a server gets at it.

Several servers may share a cluster, and so the replicas of an ensemble that they both serve. Each asks the replicas of
the ensembles it holds for a report every second: the one in service, the one before it, a candidate. An application
that nobody asks any more goes.
"""

from __future__ import annotations

import hashlib
import logging
import pickle
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import msgspec

from policies.observation import EnsembleInfo
from server import __version__
from server.domain.errors import ConfigurationError, RetryLater
from server.ray_serving import reach, wire
from server.ray_serving.application import PREFIX, Application
from server.ray_serving.condition import Condition
from server.ray_serving.link import Link
from server.ray_serving.messages import Deployment, Lost, Seen
from server.ray_serving.remote_engine import RemoteEngine
from server.ray_serving.remote_ensemble import RemoteEnsemble
from server.ray_serving.tally import Tally
from server.serving.loading import Load, Loaded
from server.settings import ServerSettings

log = logging.getLogger(__name__)

_TERMS = (
    "models_dir",
    "lock",
    "execution",
    "device",
    "golden",
    "max_pixels",
    "max_queued_images",
    "answer_within_s",
    "inference_threads",
)
_INSPECTED_S = 300.0
_READY_S = 300.0
_LOOK_S = 0.2
_SEEN_S = 10.0
_DEPLOYED_S = 60.0
_SWEEP_S = 5.0
_SWEEP_AGAIN_S = 60.0
_OURS_UNUSED_S = 10.0
_UNUSED_S = 300.0
"""A server asks for reports every second; this bounds how long its restart may take."""

MORE_AFTER_S, FEWER_AFTER_S, SEEN_OVER_S = 10.0, 300.0, 30.0
"""A replica takes a while to load, and what waits is averaged: frames of one moment start none."""


class Cluster:
    """Ensembles on the Ray cluster of `settings`. Constructing connects to nothing.

    `took` is called with model and seconds for each call of a model in a replica. `loading` makes ensembles in the
    replicas, where they do not come from the catalogue and the user's folder; it must be picklable.
    """

    def __init__(
        self, settings: ServerSettings, *, took: Callable[[str, float], None], loading: Load | None = None
    ) -> None:
        self._settings = settings
        self._took = took
        self._loading = pickle.dumps(loading)
        self._terms = _terms(settings)
        self._tally = Tally(max_queued_images=settings.max_queued_images, within_s=settings.answer_within_s)
        self._link = Link()
        self._condition = Condition()
        self._held = weakref.WeakValueDictionary[str, RemoteEnsemble]()
        self._ours = set[str]()
        self._changing = threading.RLock()
        self._stopping = threading.Event()
        self._sweep_at_s = time.monotonic() + _SWEEP_S

    def load(self, models: Sequence[str]) -> Loaded[RemoteEnsemble]:
        """These models as replicas that answer.

        A node loads them first, and checks lock and golden set. Raises what it raises. Raises RetryLater when there is
        no cluster, or no room for the first ensemble; ConfigurationError when there is none for another one.
        """
        try:
            self._open()
            inspected = self._inspect(tuple(models))
            info, name = inspected.ensemble_info, PREFIX + inspected.ensemble_info.ensemble
            with self._changing:
                ensemble = self._held.get(name) or self._take(
                    name, tuple(models), info, insists=inspected.fault is None
                )
                self._held[name] = ensemble
        except (Lost, TimeoutError) as error:
            raise RetryLater(f"the Ray cluster was lost meanwhile: {error}") from error
        finally:
            self._condition.doing = None
        return Loaded(tuple(models), ensemble, lambda _answering: ensemble.check_golden())

    def engine_of(self, ensemble: RemoteEnsemble) -> RemoteEngine:
        """The cluster as an engine."""
        return RemoteEngine(ensemble, self, self._tally)

    def hindrance(self, ensemble: str | None) -> str | None:
        """Why this ensemble does not answer at present; without one, what its start waits for. None: nothing."""
        return self._condition.doing if ensemble is None else self._condition.fault(PREFIX + ensemble)

    def tend(self) -> None:
        """See `Tended`. Raises RetryLater, ConfigurationError, Lost and TimeoutError while nothing answers."""
        names = list(self._held)
        try:
            self._open()
            lost = {name: why for name in names if (why := self._lost(name)) is not None}
            if lost and len(lost) < len(names):
                with suppress(RetryLater):  # without a head the others answer nevertheless
                    self._restore(lost)
            else:
                self._restore(lost)
        except (RetryLater, ConfigurationError, Lost, TimeoutError) as error:
            why = error.detail if isinstance(error, RetryLater | ConfigurationError) else str(error)
            for name in names:
                self._condition.failed(name, why)
            self._link.close()  # Ray finds another head in another process only
            raise
        if time.monotonic() > self._sweep_at_s and not lost:
            self._sweep_at_s = time.monotonic() + _SWEEP_AGAIN_S
            reach(self._settings.ray_address)  # else a call would hang
            with self._unless_changing() as may_sweep:
                if may_sweep:
                    self._sweep()
            self._sweep_at_s = time.monotonic() + _SWEEP_S

    def leave(self) -> None:
        """Give up the connection."""
        self._stopping.set()
        self._link.close()

    def _open(self) -> None:
        if self._link.is_open:
            return
        address = self._settings.ray_address
        self._condition.doing = f"it connects to the Ray cluster ({address})"
        reach(address)
        try:
            is_new = self._link.open(address)
        except (Lost, TimeoutError) as error:
            raise RetryLater(f"the Ray cluster at {address} (`ray_address`) does not answer: {error}") from error
        except (RetryLater, ConfigurationError) as error:
            raise type(error)(f"ray_address {address}: {error.detail}") from error
        if is_new:
            log.info("connected to the Ray cluster", extra={"address": address})

    def _inspect(self, models: tuple[str, ...]) -> wire.Inspected:
        gpus = self._settings.ray_gpus
        room = f" with {gpus:g} GPUs free" if gpus else ""
        self._condition.doing = f"a node{room} loads and checks {', '.join(models)}"
        try:
            packed = self._link.call(
                "inspect", self._terms, models, self._loading, gpus, _INSPECTED_S, within_s=_INSPECTED_S
            )
        except TimeoutError:
            self._refuse_or_wait(f"no node{room} has loaded {', '.join(models)} within {_INSPECTED_S:.0f} s")
            raise
        inspected = wire.reply(packed)
        assert isinstance(inspected, wire.Inspected)
        return inspected

    def _take(self, name: str, models: tuple[str, ...], info: EnsembleInfo, *, insists: bool) -> RemoteEnsemble:
        """The ensemble's application, deployed unless it is there and was deployed with the present settings."""

        def deploy() -> None:
            self._deploy(name, models, info.ensemble, insists=insists)

        is_ours = self._seen(name) is None
        if is_ours:
            deploy()
        self._wait(name, is_ours=is_ours)
        application = Application(name, self._link, deploy)
        with suppress(Lost):
            if {report.terms for report in application.reports()} != {self._terms_digest(insists=insists)}:
                deploy()
                self._wait(name, is_ours=False)
        return RemoteEnsemble(info, application, self._tally, within_s=self._settings.answer_within_s)

    def _deploy(self, name: str, models: tuple[str, ...], digest: str, *, insists: bool) -> None:
        settings = self._settings
        deployment = Deployment(
            name=name,
            terms=self._terms,
            models=models,
            ensemble=digest,
            terms_digest=self._terms_digest(insists=insists),
            insists=insists,
            loading=self._loading,
            least=settings.ray_min_replicas,
            most=max(settings.ray_min_replicas, settings.ray_max_replicas),
            queued_images=settings.ray_queued_images,
            cpus=settings.ray_cpus,
            gpus=settings.ray_gpus,
            max_queued_requests=settings.admission_limit,
            stopped_within_s=settings.answer_within_s,
            more_after_s=MORE_AFTER_S,
            fewer_after_s=FEWER_AFTER_S,
            seen_over_s=SEEN_OVER_S,
        )
        log.info("ensemble deployed on Ray", extra={"application": name, "models": ",".join(models)})
        self._link.call("deploy", msgspec.msgpack.encode(deployment), within_s=_DEPLOYED_S)
        self._ours.add(name)

    def _wait(self, name: str, *, is_ours: bool) -> None:
        """Until the application runs. An application that is not `is_ours` is never deleted: another server uses it.

        Raises ConfigurationError when it cannot run; when there is no room, also RetryLater (see `load`).
        """
        until = time.monotonic() + _READY_S
        while (seen := self._seen(name)) is None or seen.status != "RUNNING":
            fault = self._fault(name, seen)
            self._condition.doing = fault
            has_failed = seen is None or (is_ours and seen.status in ("DEPLOY_FAILED", "UNHEALTHY"))
            if has_failed or time.monotonic() > until:
                if not has_failed:
                    self._refuse_or_wait(fault)
                if is_ours:
                    self._link.call("delete", name, within_s=_SEEN_S)
                raise ConfigurationError(f"{fault}; {self._wanted()}")
            if self._stopping.wait(_LOOK_S):
                raise RetryLater("this server is stopping")

    def _refuse_or_wait(self, fault: str) -> None:
        """Raises RetryLater for the first ensemble, which waits for room: nodes may come."""
        if not self._held:
            raise RetryLater(f"{fault}; {self._wanted()}")
        raise ConfigurationError(f"{fault}; {self._wanted()}")

    @contextmanager
    def _unless_changing(self) -> Iterator[bool]:
        """False while a swap waits for room, which may take minutes: reports are asked for meanwhile."""
        is_free = self._changing.acquire(blocking=False)
        try:
            yield is_free
        finally:
            if is_free:
                self._changing.release()

    def _lost(self, name: str) -> str | None:
        """Ask for reports, and note them; why there are none."""
        ensemble = self._held.get(name)
        if ensemble is None:
            return None
        application = ensemble.replicas
        assert isinstance(application, Application)
        try:
            reports = application.reports()
        except (Lost, TimeoutError) as error:
            self._condition.failed(name, str(error))
            return str(error)
        self._condition.answered(name)
        self._tally.note(name, reports)
        for model, seconds in (each for report in reports for each in report.took):
            self._took(model, seconds)
        return None

    def _restore(self, lost: Mapping[str, str]) -> None:
        """Deploy again what somebody has deleted, or a new head does not know. Lost replicas Ray replaces itself."""
        if not lost:
            return
        reach(self._settings.ray_address)  # else a call would hang
        for name, why in lost.items():
            seen, ensemble = self._seen(name), self._held.get(name)
            self._condition.failed(name, f"{self._fault(name, seen)} ({why})")
            if ensemble is not None and (seen is None or seen.status not in ("RUNNING", "DEPLOYING", "UNHEALTHY")):
                log.warning("the ensemble is deployed again", extra={"cause": self._fault(name, seen)})
                assert isinstance(ensemble.replicas, Application)
                with self._unless_changing() as may_deploy:
                    if may_deploy:
                        ensemble.replicas.deploy()

    def _sweep(self) -> None:
        """Delete the applications that no server has asked for a while."""
        for name, seen in self._applications().items():
            if not name.startswith(PREFIX) or name in self._held or seen.status == "DEPLOYING":
                continue
            try:
                unused_s = Application(name, self._link, lambda: None).unused_s()
            except (Lost, TimeoutError):
                continue  # it starts, or ends
            if unused_s > (_OURS_UNUSED_S if name in self._ours else _UNUSED_S):
                log.info("unused ensemble deleted from Ray", extra={"application": name})
                self._link.call("delete", name, within_s=_SEEN_S)
                self._ours.discard(name)

    def _terms_digest(self, *, insists: bool) -> str:
        """Of all that makes an application what it is: code and settings."""
        options = [__version__, self._settings.admission_limit, insists] + [
            getattr(self._settings, name)
            for name in type(self._settings).__struct_fields__
            if name.startswith("ray_") and name != "ray_address"
        ]
        return hashlib.sha256(msgspec.json.encode([self._terms, options])).hexdigest()

    def _applications(self) -> dict[str, Seen]:
        return msgspec.convert(self._link.call("applications", within_s=_SEEN_S), dict[str, Seen])

    def _seen(self, name: str) -> Seen | None:
        return self._applications().get(name)

    def _fault(self, name: str, seen: Seen | None) -> str:
        if seen is None:
            return f"{name} is not on the Ray cluster"
        wanted = max(seen.replicas, self._settings.ray_min_replicas)
        why = f": {seen.message}" if seen.message else ""
        return f"{seen.running} of {wanted} replicas of {name} run on the Ray cluster{why}"

    def _wanted(self) -> str:
        settings = self._settings
        return (
            f"{settings.ray_min_replicas} replicas with {settings.ray_cpus:g} CPUs and {settings.ray_gpus:g} GPUs each "
            "are wanted, beside those of the ensemble in service (`ray status` shows what is free)"
        )


def _terms(settings: ServerSettings) -> dict[str, Any]:
    workers = settings.inference_threads or max(1, int(settings.ray_cpus))
    given = {name: msgspec.to_builtins(getattr(settings, name), enc_hook=str) for name in _TERMS}
    return given | {"inference_threads": workers}
