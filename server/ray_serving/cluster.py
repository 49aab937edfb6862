"""The Ray cluster: an ensemble is an application `ens-<digest>` of Ray Serve, and this is how a server gets at it.

Several servers may share a cluster, and so the replicas of an ensemble that they both serve. Each asks the replicas of
the ensembles it holds for a report every second: the one in service, the one before it, a candidate. An application
that nobody asks any more goes.
"""

from __future__ import annotations

import hashlib
import logging
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import msgspec
import ray
from ray import serve
from ray.exceptions import GetTimeoutError, RayError
from ray.serve.exceptions import BackPressureError, RayServeException

from policies.observation import EnsembleInfo
from server import __version__
from server.domain.errors import ConfigurationError, RetryLater
from server.ray_serving import reach, wire
from server.ray_serving.remote_engine import RemoteEngine
from server.ray_serving.remote_ensemble import Lost, RemoteEnsemble
from server.ray_serving.replica import ONGOING, Replica, inspect
from server.ray_serving.scaling import ByQueuedImages
from server.ray_serving.signals import handlers_kept
from server.ray_serving.tally import Tally
from server.serving.loading import Load, Loaded
from server.settings import ServerSettings

log = logging.getLogger(__name__)

PREFIX = "ens-"

_DEPLOYMENT = "ensemble"
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
_REPORT_S = 5.0
_GOLDEN_S = 120.0
_HEALTH_S = 2.0
_SWEEP_S = 5.0
_OURS_UNUSED_S = 10.0
_UNUSED_S = 300.0
"""A server asks for reports every second; this bounds how long its restart may take."""


class Application:
    """The replicas of one ensemble: see `Replicas` of `remote_ensemble`. `deploy` makes them anew."""

    def __init__(self, name: str, deploy: Callable[[], None]) -> None:
        self.name = name
        self.deploy = deploy
        self.renew()

    def renew(self) -> None:
        """Take another handle: now and then one of Ray's hangs (ray-project/ray#55142)."""
        self.is_hanging = False
        self._handle = serve.get_app_handle(self.name)

    def ask(self, packed: bytes, within_s: float) -> bytes:
        response = self._handle.answer.remote(packed)
        try:
            answer: bytes = response.result(timeout_s=within_s)
        except TimeoutError:
            response.cancel()
            self.is_hanging = True
            raise
        except BackPressureError as error:
            raise RetryLater(f"too many requests wait for the cluster: {error}") from error
        except (RayError, RayServeException) as error:
            raise Lost(_line(error)) from error
        return answer

    def golden(self) -> Sequence[bytes]:
        return self._each("golden", _GOLDEN_S)

    def retire(self, names: Sequence[str]) -> None:
        log.error("replicas answer otherwise than the others", extra={"replicas": ",".join(names)})
        for name in names:
            self._each("retire", _REPORT_S, name)

    def reports(self) -> list[wire.Report]:
        """Of all replicas that answer. Raises Lost where there is none."""
        return [wire.report(packed) for packed in self._each("report", _REPORT_S)]

    def unused_s(self) -> float:
        """How long no server has asked for a report. Raises Lost where there is no replica."""
        return min(map(float, self._each("unused_s", _REPORT_S)))

    def _each(self, method: str, within_s: float, *given: object) -> list[Any]:
        try:
            came = self._handle.broadcast(method, *given).results(timeout_s=within_s, return_exceptions=True)
        except (TimeoutError, RayError, RayServeException) as error:
            raise Lost(_line(error)) from error
        answers = [one for one in came if not isinstance(one, Exception)]
        if not answers:
            raise Lost(_line(came[0]) if came else "it has no replica")
        return answers


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
        self._loading = loading
        self._terms = _terms(settings)
        self._tally = Tally(max_queued_images=settings.max_queued_images, within_s=settings.answer_within_s)
        self._held = weakref.WeakValueDictionary[str, RemoteEnsemble]()
        self._ours = set[str]()
        self._changing = threading.RLock()
        self._swept_at = time.monotonic()
        self._has_connected = False
        _keep_logs_plain()  # the import of ray has changed them

    def load(self, models: Sequence[str]) -> Loaded[RemoteEnsemble]:
        """These models as replicas that answer.

        A node loads them first, and checks lock and golden set. Raises what it raises, ConfigurationError when the
        cluster has no room for the replicas, and RetryLater when there is no cluster.
        """
        self._connect()
        inspected = self._inspect(tuple(models))
        info, name = inspected.ensemble_info, PREFIX + inspected.ensemble_info.ensemble
        with self._changing:
            ensemble = self._held.get(name) or self._take(name, tuple(models), info, insists=inspected.fault is None)
            self._held[name] = ensemble
        return Loaded(tuple(models), ensemble, lambda _answering: ensemble.check_golden())

    def engine_of(self, ensemble: RemoteEnsemble) -> RemoteEngine:
        """The cluster as an engine."""
        return RemoteEngine(ensemble, self, self._tally)

    def tend(self) -> None:
        """See `Tended`. Raises what Ray raises while its head is away."""
        for name, ensemble in list(self._held.items()):
            application = ensemble.replicas
            assert isinstance(application, Application)
            try:
                reports = application.reports()
            except Lost:
                self._restore(application)
                continue
            if application.is_hanging:
                application.renew()
            self._tally.note(name, reports)
            for model, seconds in (each for report in reports for each in report.took):
                self._took(model, seconds)
        if time.monotonic() - self._swept_at > _SWEEP_S:
            self._swept_at = time.monotonic()
            self._sweep()

    def leave(self) -> None:
        """Give up the connection, if this is who made it."""
        if self._has_connected:
            ray.shutdown()

    def _connect(self) -> None:
        _keep_logs_plain()
        if ray.is_initialized():
            return
        address = self._settings.ray_address
        reach(address)
        try:
            with handlers_kept():
                ray.init(address, namespace="sectorwatch", log_to_driver=False, configure_logging=False)
        except ConnectionError as error:
            raise RetryLater(
                f"the Ray cluster at {address} (`ray_address`) does not let this server in: {_line(error)}; if its "
                "head has a token, set RAY_AUTH_MODE=token here, and copy ~/.ray/auth_token"
            ) from error
        except (RuntimeError, ValueError) as error:
            raise ConfigurationError(f"the Ray cluster at {address} cannot be used: {_line(error)}") from error
        self._has_connected = True
        serve.start(proxy_location="Disabled")
        _keep_logs_plain()

    def _inspect(self, models: tuple[str, ...]) -> wire.Inspected:
        remote = ray.remote(num_cpus=0, num_gpus=self._settings.ray_gpus, max_calls=1)(inspect)
        try:
            packed = ray.get(remote.remote(self._terms, models, self._loading), timeout=_INSPECTED_S)
        except GetTimeoutError:
            raise ConfigurationError(
                f"no node has loaded {', '.join(models)} within {_INSPECTED_S:.0f} s: {self._wanted()}"
            ) from None
        except RayError as error:
            raise ConfigurationError(f"no node can load {', '.join(models)}: {_line(error)}") from error
        inspected = wire.reply(packed)
        assert isinstance(inspected, wire.Inspected)
        return inspected

    def _take(self, name: str, models: tuple[str, ...], info: EnsembleInfo, *, insists: bool) -> RemoteEnsemble:
        """The ensemble's application, deployed unless it is there and was deployed with the present settings."""

        def deploy() -> None:
            self._deploy(name, models, info.ensemble, insists=insists)

        if _status(name) not in ("RUNNING", "DEPLOYING"):
            deploy()
        self._wait(name)
        application = Application(name, deploy)
        with suppress(Lost):
            if {report.terms for report in application.reports()} != {self._terms_digest(insists=insists)}:
                deploy()
                self._wait(name)
                application.renew()
        return RemoteEnsemble(info, application, self._tally, within_s=self._settings.answer_within_s)

    def _deploy(self, name: str, models: tuple[str, ...], digest: str, *, insists: bool) -> None:
        settings = self._settings
        least, most = settings.ray_min_replicas, max(settings.ray_min_replicas, settings.ray_max_replicas)
        autoscaling = {
            "min_replicas": least,
            "max_replicas": most,
            "policy": {"policy_function": ByQueuedImages, "policy_kwargs": {"each": settings.ray_queued_images}},
        }
        replica = serve.deployment(
            Replica,
            name=_DEPLOYMENT,
            max_ongoing_requests=ONGOING,
            max_queued_requests=settings.admission_limit,
            ray_actor_options={"num_cpus": settings.ray_cpus, "num_gpus": settings.ray_gpus},
            graceful_shutdown_timeout_s=settings.answer_within_s,
            health_check_period_s=_HEALTH_S,
            max_constructor_retry_count=3,
            **({"num_replicas": least} if least == most else {"autoscaling_config": autoscaling}),
        )
        terms_digest = self._terms_digest(insists=insists)
        bound = replica.bind(self._terms, models, digest, terms_digest, insists=insists, loading=self._loading)
        log.info("ensemble deployed on Ray", extra={"application": name, "models": ",".join(models)})
        target = serve.RunTarget(bound, name=name, route_prefix=None)
        serve.run_many([target], wait_for_applications_running=False)
        self._ours.add(name)

    def _wait(self, name: str) -> None:
        """Until the application runs. Raises ConfigurationError, and deletes it, when it does not."""
        until = time.monotonic() + _READY_S
        pause = threading.Event()
        while (status := _status(name)) != "RUNNING":
            if status in ("DEPLOY_FAILED", "UNHEALTHY", "") or time.monotonic() > until:
                why = _message(name) or f"it is not ready within {_READY_S:.0f} s"
                serve.delete(name, _blocking=False)
                raise ConfigurationError(f"{name} does not run on the Ray cluster: {why}; {self._wanted()}")
            pause.wait(_LOOK_S)

    def _restore(self, application: Application) -> None:
        """Deploy again what somebody has deleted, or a new head does not know. Lost replicas Ray replaces itself."""
        if _status(application.name) not in ("RUNNING", "DEPLOYING", "UNHEALTHY"):
            with self._changing:
                log.warning("the ensemble was gone from the Ray cluster", extra={"application": application.name})
                application.deploy()
                application.renew()

    def _sweep(self) -> None:
        """Delete the applications that no server has asked for a while."""
        with self._changing:
            for name, status in _applications().items():
                if not name.startswith(PREFIX) or name in self._held or status == "DEPLOYING":
                    continue
                try:
                    unused_s = Application(name, lambda: None).unused_s()
                except Lost:
                    continue  # it starts, or ends
                if unused_s > (_OURS_UNUSED_S if name in self._ours else _UNUSED_S):
                    log.info("unused ensemble deleted from Ray", extra={"application": name})
                    serve.delete(name, _blocking=False)
                    self._ours.discard(name)

    def _terms_digest(self, *, insists: bool) -> str:
        """Of all that makes an application what it is: code and settings."""
        options = [__version__, self._settings.admission_limit, insists] + [
            getattr(self._settings, name) for name in type(self._settings).__struct_fields__ if name.startswith("ray_")
        ]
        return hashlib.sha256(msgspec.json.encode([self._terms, options])).hexdigest()

    def _wanted(self) -> str:
        settings = self._settings
        return (
            f"{settings.ray_min_replicas} replicas with {settings.ray_cpus:g} CPUs and {settings.ray_gpus:g} GPUs each "
            "are wanted, beside those of the ensemble in service (`ray status` shows what is free)"
        )


def _keep_logs_plain() -> None:
    """Take back what Ray does to this process's logs: a field of its own in every record, and lines of its routers."""
    logging.setLogRecordFactory(logging.LogRecord)
    for name in ("ray", "ray.serve"):  # what matters of theirs, `tend` and `load` say
        logging.getLogger(name).setLevel(logging.ERROR)


def _terms(settings: ServerSettings) -> dict[str, Any]:
    workers = settings.inference_threads or max(1, int(settings.ray_cpus))
    given = {name: msgspec.to_builtins(getattr(settings, name), enc_hook=str) for name in _TERMS}
    return given | {"inference_threads": workers}


def _applications() -> dict[str, str]:
    return {name: str(each.status.value) for name, each in serve.status().applications.items()}


def _status(name: str) -> str:
    """Of an application, in Ray's words; empty: there is none."""
    return _applications().get(name, "")


def _message(name: str) -> str:
    overview = serve.status().applications.get(name)
    return _last_line(overview.message) if overview is not None else ""


def _last_line(text: str) -> str:
    """What a traceback ends with."""
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {next((line for line in str(error).splitlines() if line.strip()), '')}"
