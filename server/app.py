"""The composition root: the one module that knows every part of the server.

`create_app` puts the parts together and starts nothing: no thread, no model, no connection. `Runtime.start`
does, once the process that will serve exists (see `server.hosting`): it loads the ensemble, which is also what
first imports torch, and begins delivery. Until then `/readyz` says 503 and uploads are told to come back.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import msgspec
from flask import Blueprint, Flask

from server import (
    __version__,
    admin,
    annotating,
    api,
    flexserve,
    heartbeats,
    inference_v2,
    intake,
    openapi,
    problems,
    upload,
)
from server.admission import Admission
from server.burst import Limits
from server.catalogue import cards
from server.channels import Channel, LogChannel
from server.clock import Clock, now_us
from server.delivery import Delivery
from server.engine import Engine, Load, Stages
from server.errors import Broken, Later, Unapproved
from server.metrics import Metrics
from server.pipeline import Ensemble, Pipeline
from server.settings import ServerSettings, load_settings, processors
from server.sites import Sites
from server.store import Store, open_store
from server.tokens import Doorkeeper
from server.watching import Patience

log = logging.getLogger(__name__)

EXTENSION = "sectorwatch"
"""Where `create_app` leaves the Runtime: `app.extensions[EXTENSION]`."""

_STOP_S = 10.0
_RELEASE_EVERY_S = 10.0
_BODIES = 4
"""Bodies of the largest size that fit in memory at once; usual ones are far smaller, so far more of them do."""


class Runtime:
    """The parts of one server process, and their life: `start` once, `stop` once, from one thread."""

    def __init__(
        self,
        store: Store,
        sites: Sites,
        channels: Sequence[Channel],
        clock: Clock,
        load: Callable[[], Engine],
        ensemble: Ensemble | None,
        admission: Admission,
        metrics: Metrics,
    ) -> None:
        self.store = store
        self.sites = sites
        self.admission = admission
        self.metrics = metrics
        self.admin_port: admin.AdminPort | None = None
        self._clock = clock
        self._load = load
        self._delivery = Delivery(store, channels)
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []
        self._served: tuple[Ensemble, Pipeline] | None = None
        self._unapproved: str | None = None
        self.model_folders: Sequence[Path] = ()
        self._engine: Engine | None = None
        if ensemble is not None:
            self._serve(ensemble)

    def ensemble(self) -> Ensemble:
        """The loaded ensemble. Raises Later until there is one."""
        return self._ready()[0]

    def pipeline(self) -> Pipeline:
        """The pipeline around the loaded ensemble. Raises Later until there is one."""
        return self._ready()[1]

    def start(self, on_failure: Callable[[Exception], None], on_stuck: Callable[[], None] = lambda: None) -> None:
        """Load the ensemble and begin delivery, in threads of their own, so that probes are answered meanwhile.

        `on_failure` is called, in the loading thread, with whatever kept the ensemble from loading, and at once
        with what keeps the admin port from opening; `on_stuck`, in yet another, when the engine falls silent: this
        server is not ready any more, and only a new process helps.
        """
        try:
            if self.admin_port is not None:
                self.admin_port.start()
        except Broken as error:
            on_failure(error)
            return
        if self._served is None:
            self._run("loading", lambda: self._load_or(on_failure, on_stuck))
        self._run("delivery", lambda: self._delivery.run(self._stopping))
        self._run("release", self._release_held)
        self._run("recall", self._recall)

    def stop(self) -> None:
        """Refuse new uploads, finish what the engine has, end delivery after the event in hand, close the database."""
        self.drain()
        if self._engine is not None:
            self._engine.stop()
        self._stopping.set()
        self._delivery.wake()
        for thread in self._threads:
            thread.join(_STOP_S)
        if self.admin_port is not None:
            self.admin_port.stop()
        self.store.close()

    def drain(self) -> None:
        """Not ready from now on; nothing more is taken in, what is in work goes on. A signal handler may call it."""
        self.admission.close()

    def load(self) -> Load:
        """How much the engine has to do."""
        return self._engine.load() if self._engine is not None else Load(0, 0, None, 0.0)

    def refuse_if_full(self) -> None:
        """Raises Later when the engine has no room for another image."""
        if self._engine is not None:
            self._engine.refuse_if_full()

    def _ready(self) -> tuple[Ensemble, Pipeline]:
        if self.admission.closed:
            raise Later("this server is stopping", retry_after_s=10)
        if self._unapproved is not None:
            raise Later(self._unapproved, retry_after_s=60)
        if self._served is None:
            raise Later("the ensemble is still loading", retry_after_s=5)
        return self._served

    def _serve(self, ensemble: Ensemble) -> None:
        asked = self.metrics.timed(ensemble)
        wake, judged = self._delivery.wake, self.metrics.judged
        pipeline = Pipeline(asked, self.store, self.sites, self._clock, committed=wake, judged=judged)
        self.metrics.serves(ensemble.panel, lambda model: _card(model, self.model_folders).get("sha256"))
        self._served = asked, pipeline

    def _run(self, name: str, target: Callable[[], None]) -> None:
        thread = threading.Thread(target=target, name=f"sectorwatch-{name}")
        self._threads.append(thread)
        thread.start()

    def _recall(self) -> None:
        """Once: what the metrics tell of cameras that sent their last burst to an earlier process."""
        try:
            for head in self.store.cameras():
                self.metrics.seen(head.site, head.camera, head.last_at_us)
        except Exception:
            log.exception("cameras not recalled")

    def _release_held(self) -> None:
        """Now and then: bursts that came from the future of our clock have their turn once it has caught up."""
        while not self._stopping.wait(_RELEASE_EVERY_S):
            if self._served is None:
                continue
            try:
                self.pipeline().release_held()
            except Exception:
                log.exception("held bursts not released")

    def _load_or(self, on_failure: Callable[[Exception], None], on_stuck: Callable[[], None]) -> None:
        began = time.monotonic()
        try:
            engine = self._load()
        except Unapproved as error:  # stays unready and says why, so that whoever asks /readyz learns it
            self._unapproved = error.detail
            log.error("ensemble not approved", extra={"detail": error.detail})
            return
        except Exception as error:  # noqa: BLE001  whatever it is, the process must not pretend to serve
            on_failure(error)
            return
        engine.start(lambda: self._stuck(on_stuck))
        self._engine = engine
        self._serve(engine)
        fields = {
            "ensemble": engine.panel.ensemble,
            "models": ",".join(seat.model for seat in engine.panel.seats),
            "seconds": round(time.monotonic() - began, 1),
        }
        log.info("ensemble ready", extra=fields)

    def _stuck(self, on_stuck: Callable[[], None]) -> None:
        self.drain()
        on_stuck()


def create_app(
    settings: ServerSettings | None = None,
    *,
    store: Store | None = None,
    sites: Sites | None = None,
    ensemble: Ensemble | None = None,
    channels: Sequence[Channel] | None = None,
    clock: Clock = now_us,
    load: Callable[[], Engine] | None = None,
) -> Flask:
    """The application that `settings` (default: of this process) describe; parts that are given are used as is.

    `load` makes the engine once the application starts, where that is not of the models that `settings` name.
    """
    settings = settings or load_settings()
    bounds = upload.Bounds(settings.max_body_bytes, settings.max_frames)
    admission = Admission(
        settings.admission_limit,
        body_bytes=settings.max_body_bytes,
        total_bytes=_BODIES * settings.max_body_bytes,
        refuse_if_full=lambda: runtime.refuse_if_full(),
        retry_after_s=lambda: runtime.load().retry_after_s,
    )
    metrics = Metrics(clock, __version__)
    metrics.watch("uploads_in_work", "Uploads admitted and not yet answered.", lambda: admission.inside)
    metrics.watch("queued_images", "Images that wait for a worker.", lambda: runtime.load().queued_images)
    metrics.watch("running_images", "Images that workers have in hand.", lambda: runtime.load().running_images)
    runtime = Runtime(
        store=store or open_store(settings.database_url, clock),
        sites=sites or Sites(settings.sites_dir),
        channels=channels if channels is not None else [LogChannel(settings.log_style, sys.stdout)],
        clock=clock,
        load=load or (lambda: _load(settings)),
        ensemble=ensemble,
        admission=admission,
        metrics=metrics,
    )
    runtime.model_folders = _folders(settings)
    app = Flask("server", static_folder=None)
    app.extensions[EXTENSION] = runtime
    problems.install(app)
    upload.install(app, bounds)
    admin.count_requests(app, metrics)
    for blueprint in _blueprints(settings, runtime, bounds, clock):
        app.register_blueprint(blueprint)
    if settings.admin_port:
        runtime.admin_port = admin.AdminPort(_admin_app(runtime), settings.admin_host, settings.admin_port)
    return app


def _blueprints(settings: ServerSettings, runtime: Runtime, bounds: upload.Bounds, clock: Clock) -> Iterator[Blueprint]:
    """Everything that the application answers."""
    store, admission, told = runtime.store, runtime.admission, runtime.metrics
    doorkeeper = Doorkeeper(store, open_classify=settings.open_classify)
    limits = Limits(max_frames=settings.max_frames)
    yield intake.routes(runtime.pipeline, doorkeeper, admission, bounds, limits, told.burst_came)
    yield flexserve.routes(runtime.ensemble, doorkeeper, admission, bounds)
    yield inference_v2.routes(runtime.ensemble, store.last_seq, doorkeeper, admission, bounds, __version__)
    yield api.routes(runtime.ensemble, partial(_card, folders=runtime.model_folders), store, doorkeeper)
    yield annotating.routes(store, doorkeeper)
    patience = Patience(settings.late_after_s, settings.silent_after_s)
    yield heartbeats.routes(store, runtime.sites.edition, doorkeeper, clock, patience, told.beat)
    yield _admin_routes(runtime, doorkeeper)
    yield openapi.routes(__version__)


def _admin_routes(runtime: Runtime, doorkeeper: Doorkeeper | None) -> Blueprint:
    return admin.routes(runtime.ensemble, runtime.store.last_seq, runtime.metrics, doorkeeper)


def _admin_app(runtime: Runtime) -> Flask:
    """Probes and metrics alone, for whoever reaches the admin port."""
    app = Flask("server.admin", static_folder=None)
    problems.install(app)
    app.register_blueprint(_admin_routes(runtime, doorkeeper=None))
    return app


def runtime_of(app: Flask) -> Runtime:
    """The Runtime that `create_app` made for `app`."""
    runtime = app.extensions[EXTENSION]
    assert isinstance(runtime, Runtime)
    return runtime


def _load(settings: ServerSettings) -> Engine:
    # torch comes with it: seconds, and memory that only a worker needs
    from server.ensemble import check_golden, check_lock, load_ensemble, shipped_golden

    ensemble = load_ensemble(settings.models, folders=_folders(settings), max_pixels=settings.max_pixels)
    if settings.lock is not None:
        check_lock(ensemble.lock, settings.lock)
    check_golden(ensemble, settings.golden or shipped_golden())
    return engine_of(ensemble, settings)


def engine_of(stages: Stages, settings: ServerSettings) -> Engine:
    """The engine around an ensemble, as `settings` have it."""
    return Engine(
        stages,
        workers=settings.inference_threads or processors(),
        max_queued_images=settings.max_queued_images,
        answer_within_s=settings.answer_within_s,
    )


def _folders(settings: ServerSettings) -> Sequence[Path]:
    return (settings.models_dir,) if settings.models_dir else ()


def _card(model: str, folders: Sequence[Path]) -> Mapping[str, object]:
    """What the card of a model says, as JSON has it; nothing for one that has none."""
    card = cards(folders).get(model)
    if card is None:
        return {}
    written = msgspec.to_builtins(card)
    return {key: written[key] for key in ("kind", "summary", "licence", "citation", "sha256", "input")}
