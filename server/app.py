"""The composition root: the one module that knows every part of the server.

`create_app` puts the parts together and starts nothing: no thread, no model, no connection. `Runtime.start`
does, once the process that will serve exists (see `server.hosting.gunicorn_app`): it loads the ensemble, which is also
what first imports torch, and begins delivery. Until then `/readyz` says 503 and uploads are told to come back.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import msgspec
from flask import Blueprint, Flask

from policies.fusion.model_check import misfits
from policies.observation import EnsembleInfo
from server import __version__
from server.camera_status.status import StatusThresholds
from server.catalogue import cards
from server.delivery.channels import Channel, LogChannel
from server.domain.burst import Limits
from server.domain.clock import Clock, now_us
from server.engine import SILENCE_S
from server.monitoring.metrics import Metrics
from server.pipeline.pipeline import Ensemble, Pipeline
from server.pipeline.site_policies import Sites
from server.runtime import Runtime
from server.serving.loading import engine_of, load, own_models
from server.serving.memory_budget import BODIES
from server.serving.selection import choose, chosen_models
from server.serving.service import Load, Service
from server.settings import ServerSettings, load_settings
from server.store import Store, open_store
from server.web import annotations as annotation_routes
from server.web import bursts, cameras, events, flexserve, multipart, oip_v2, openapi, probes, problem_json
from server.web.admission import Admission
from server.web.auth import Doorkeeper
from server.web.control import Control
from server.web.quota import Quota

log = logging.getLogger(__name__)

EXTENSION = "sectorwatch"
"""Where `create_app` leaves the Runtime: `app.extensions[EXTENSION]`."""


def create_app(
    settings: ServerSettings | None = None,
    *,
    store: Store | None = None,
    sites: Sites | None = None,
    ensemble: Ensemble | None = None,
    channels: Sequence[Channel] | None = None,
    clock: Clock = now_us,
    loading: Load | None = None,
    silence_s: float = SILENCE_S,
) -> Flask:
    """The application that `settings` (default: of this process) describe; parts that are given are used as is.

    `loading` makes ensembles from names, where they are not those of the catalogue and of the users; `silence_s` is
    how long a portion may run before the engine is given up.
    """
    settings = settings or load_settings()
    bounds = multipart.Bounds(settings.max_body_bytes, settings.max_frames)
    metrics = Metrics(clock, __version__)
    admission = Admission(
        settings.admission_limit,
        body_bytes=settings.max_body_bytes,
        total_bytes=BODIES * settings.max_body_bytes,
        refuse_if_full=lambda: runtime.refuse_if_full(),
        retry_after_s=lambda: runtime.load().retry_after_s,
        quota=Quota(settings.client_images_per_minute, refused=metrics.turned_away),
    )
    metrics.watch("uploads_in_work", "Uploads admitted and not yet answered.", lambda: admission.inside)
    metrics.watch("queued_images", "Images that wait for a worker.", lambda: runtime.load().queued_images)
    metrics.watch("running_images", "Images that workers have in hand.", lambda: runtime.load().running_images)
    store = store or open_store(settings.database_url, clock)
    sites = sites or Sites(settings.sites_dir, store.past.last_text)
    metrics.watch("site_policies_refused", "Files of site policies that cannot be used.", lambda: len(sites.faults()))

    def pipeline_of(asked: Ensemble) -> Pipeline:
        return Pipeline(
            asked,
            store,
            sites,
            clock,
            committed=lambda: runtime.delivery.wake(),
            judged=metrics.judged,
        )

    def counted(ensemble_info: EnsembleInfo) -> None:
        metrics.serves(ensemble_info, lambda model: _card(model, own_models(settings)).get("sha256"))

    def announced(ensemble_info: EnsembleInfo) -> None:
        counted(ensemble_info)
        for site in sites.sites():
            for what in misfits(sites.policy(site), ensemble_info):
                log.warning("site policy does not fit the models", extra={"site": site, "what": what})

    service = Service(
        loading or partial(load, settings, took=metrics.computed),
        partial(engine_of, settings=settings, silence_s=silence_s),
        counted=metrics.timed,
        pipeline_of=pipeline_of,
        announced=announced,
        choose=partial(choose, settings=settings),
        notices=store.notices,
        told=metrics,
    )
    given = metrics.timed(ensemble) if ensemble is not None else None
    runtime = Runtime(
        store=store,
        sites=sites,
        channels=channels if channels is not None else [LogChannel(settings.log_style, sys.stdout)],
        service=service,
        models=partial(_models, settings),
        admission=admission,
        metrics=metrics,
        golden_every_s=settings.golden_every_s,
        given=None if given is None else (given, pipeline_of(given)),
    )
    if given is not None:
        counted(given.ensemble_info)
    app = Flask("server", static_folder=None)
    app.extensions[EXTENSION] = runtime
    problem_json.install(app)
    multipart.install(app, bounds)
    probes.count_requests(app, metrics)
    for blueprint in _blueprints(settings, runtime, bounds, clock):
        app.register_blueprint(blueprint)
    runtime.control = Control(service, settings.data_dir)
    if settings.admin_port:
        runtime.admin_port = probes.AdminPort(_admin_app(runtime), settings.admin_host, settings.admin_port)
    return app


def _blueprints(
    settings: ServerSettings, runtime: Runtime, bounds: multipart.Bounds, clock: Clock
) -> Iterator[Blueprint]:
    """Everything that the application answers."""
    store, admission, told = runtime.store, runtime.admission, runtime.metrics
    doorkeeper = Doorkeeper(store, open_classify=settings.open_classify)
    limits = Limits(max_frames=settings.max_frames)
    yield bursts.routes(runtime.pipeline, doorkeeper, admission, bounds, limits, told.burst_came)
    yield flexserve.routes(runtime.ensemble, doorkeeper, admission, bounds)
    yield oip_v2.routes(runtime.ensemble, store.last_seq, doorkeeper, admission, bounds, __version__)
    yield events.routes(runtime.ensemble, partial(_card, folders=own_models(settings)), store, doorkeeper)
    yield annotation_routes.routes(store, doorkeeper)
    thresholds = StatusThresholds(settings.late_after_s, settings.silent_after_s)
    yield cameras.routes(store, runtime.sites.edition, doorkeeper, clock, thresholds, told.heartbeat)
    yield _admin_routes(runtime, doorkeeper)
    yield openapi.routes(__version__)


def _admin_routes(runtime: Runtime, doorkeeper: Doorkeeper | None) -> Blueprint:
    return probes.routes(runtime.ensemble, runtime.store.last_seq, runtime.metrics, doorkeeper)


def _admin_app(runtime: Runtime) -> Flask:
    """Probes and metrics alone, for whoever reaches the admin port."""
    app = Flask("server.web.probes", static_folder=None)
    problem_json.install(app)
    app.register_blueprint(_admin_routes(runtime, doorkeeper=None))
    return app


def runtime_of(app: Flask) -> Runtime:
    """The Runtime that `create_app` made for `app`."""
    runtime = app.extensions[EXTENSION]
    assert isinstance(runtime, Runtime)
    return runtime


def _models(settings: ServerSettings) -> Sequence[str]:
    """Those to begin with; said in the log where they are not what the settings name."""
    models = chosen_models(settings)
    if models != settings.models:
        fields = {"models": ",".join(models), "settings": ",".join(settings.models)}
        log.warning("models were swapped since the settings were written", extra=fields)
    return models


def _card(model: str, folders: Sequence[Path]) -> Mapping[str, object]:
    """What the card of a model says, as JSON has it; nothing for one that has none."""
    card = cards(folders).get(model)
    if card is None:
        return {}
    written = msgspec.to_builtins(card)
    return {key: written[key] for key in ("kind", "summary", "licence", "citation", "sha256", "input")}
