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
from collections.abc import Callable, Mapping, Sequence

import msgspec
from flask import Flask

from server import api, flexserve, intake, problems, upload
from server.admission import Admission
from server.burst import Limits
from server.catalogue import cards
from server.channels import Channel, LogChannel
from server.clock import Clock, now_us
from server.delivery import Delivery
from server.errors import Later
from server.pipeline import Ensemble, Pipeline
from server.settings import ServerSettings, load_settings
from server.sites import Sites
from server.store import Store, open_store
from server.tokens import Doorkeeper

log = logging.getLogger(__name__)

EXTENSION = "sectorwatch"
"""Where `create_app` leaves the Runtime: `app.extensions[EXTENSION]`."""

_STOP_S = 10.0
_RELEASE_EVERY_S = 10.0


class Runtime:
    """The parts of one server process, and their life: `start` once, `stop` once, from one thread."""

    def __init__(
        self,
        store: Store,
        sites: Sites,
        channels: Sequence[Channel],
        clock: Clock,
        load: Callable[[], Ensemble],
        ensemble: Ensemble | None,
        admission: Admission,
    ) -> None:
        self.store = store
        self.sites = sites
        self.admission = admission
        self._clock = clock
        self._load = load
        self._delivery = Delivery(store, channels)
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []
        self._served: tuple[Ensemble, Pipeline] | None = None
        if ensemble is not None:
            self._serve(ensemble)

    def ensemble(self) -> Ensemble:
        """The loaded ensemble. Raises Later until there is one."""
        return self._ready()[0]

    def pipeline(self) -> Pipeline:
        """The pipeline around the loaded ensemble. Raises Later until there is one."""
        return self._ready()[1]

    def start(self, on_failure: Callable[[Exception], None]) -> None:
        """Load the ensemble and begin delivery, in threads of their own, so that probes are answered meanwhile.

        `on_failure` is called, in the loading thread, with whatever kept the ensemble from loading.
        """
        if self._served is None:
            self._run("loading", lambda: self._load_or(on_failure))
        self._run("delivery", lambda: self._delivery.run(self._stopping))
        self._run("release", self._release_held)

    def stop(self) -> None:
        """Refuse new uploads, end delivery after the event in hand, and let go of the database."""
        self.admission.close()
        self._stopping.set()
        self._delivery.wake()
        for thread in self._threads:
            thread.join(_STOP_S)
        self.store.close()

    def _ready(self) -> tuple[Ensemble, Pipeline]:
        if self._served is None:
            raise Later("the ensemble is still loading", retry_after_s=5)
        return self._served

    def _serve(self, ensemble: Ensemble) -> None:
        pipeline = Pipeline(ensemble, self.store, self.sites, self._clock, committed=self._delivery.wake)
        self._served = ensemble, pipeline

    def _run(self, name: str, target: Callable[[], None]) -> None:
        thread = threading.Thread(target=target, name=f"sectorwatch-{name}")
        self._threads.append(thread)
        thread.start()

    def _release_held(self) -> None:
        """Now and then: bursts that came from the future of our clock have their turn once it has caught up."""
        while not self._stopping.wait(_RELEASE_EVERY_S):
            if self._served is None:
                continue
            try:
                self.pipeline().release_held()
            except Exception:
                log.exception("held bursts not released")

    def _load_or(self, on_failure: Callable[[Exception], None]) -> None:
        began = time.monotonic()
        try:
            ensemble = self._load()
        except Exception as error:  # noqa: BLE001  whatever it is, the process must not pretend to serve
            on_failure(error)
            return
        self._serve(ensemble)
        fields = {
            "ensemble": ensemble.panel.ensemble,
            "models": ",".join(seat.model for seat in ensemble.panel.seats),
            "seconds": round(time.monotonic() - began, 1),
        }
        log.info("ensemble ready", extra=fields)


def create_app(
    settings: ServerSettings | None = None,
    *,
    store: Store | None = None,
    sites: Sites | None = None,
    ensemble: Ensemble | None = None,
    channels: Sequence[Channel] | None = None,
    clock: Clock = now_us,
) -> Flask:
    """The application that `settings` (default: of this process) describe; parts that are given are used as is."""
    settings = settings or load_settings()
    bounds = upload.Bounds(settings.max_body_bytes, settings.max_frames)
    admission = Admission(settings.admission_limit)
    runtime = Runtime(
        store=store or open_store(settings.database_url, clock),
        sites=sites or Sites(settings.sites_dir),
        channels=channels if channels is not None else [LogChannel(settings.log_style, sys.stdout)],
        clock=clock,
        load=lambda: _load(settings),
        ensemble=ensemble,
        admission=admission,
    )
    doorkeeper = Doorkeeper(runtime.store, open_classify=settings.open_classify)
    limits = Limits(max_frames=settings.max_frames)
    app = Flask("server", static_folder=None)
    app.extensions[EXTENSION] = runtime
    problems.install(app)
    upload.install(app, bounds)
    app.register_blueprint(intake.routes(runtime.pipeline, doorkeeper, admission, bounds, limits))
    app.register_blueprint(flexserve.routes(runtime.ensemble, doorkeeper, admission, bounds))
    app.register_blueprint(api.routes(runtime.ensemble, _card, runtime.store, doorkeeper))
    return app


def runtime_of(app: Flask) -> Runtime:
    """The Runtime that `create_app` made for `app`."""
    runtime = app.extensions[EXTENSION]
    assert isinstance(runtime, Runtime)
    return runtime


def _load(settings: ServerSettings) -> Ensemble:
    from server.ensemble import load_ensemble  # torch comes with it: seconds, and memory that only a worker needs

    return load_ensemble(settings.models, max_pixels=settings.max_pixels)


def _card(model: str) -> Mapping[str, object]:
    """What the catalogue says of a model, as JSON has it; nothing for one that is not from it."""
    card = cards().get(model)
    if card is None:
        return {}
    written = msgspec.to_builtins(card)
    return {key: written[key] for key in ("kind", "summary", "licence", "citation", "sha256", "input")}
