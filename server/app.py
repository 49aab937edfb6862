"""The composition root: the one module that knows every part of the server.

`create_app` joins the parts and starts nothing: no thread, no model, no connection. `Runtime.start` does so in the
process that will serve (`server.hosting.gunicorn_app`): it loads the ensemble, which first imports torch, and starts
delivery. Until the ensemble is loaded, `/readyz` and uploads answer 503.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import msgspec
from flask import Blueprint, Flask

from policies.fusion.model_check import misfits
from policies.observation import EnsembleInfo
from server import __version__
from server.camera_status.duplicate_agents import DuplicateAgents
from server.camera_status.status import StatusThresholds
from server.catalogue import cards
from server.delivery.channels import Channel, LogChannel
from server.delivery.dispatcher import Dispatcher
from server.domain.burst import Limits
from server.domain.clock import Clock, now_us
from server.domain.ensemble_protocol import Ensemble
from server.monitoring.metrics import Metrics
from server.pipeline.pipeline import Pipeline
from server.pipeline.site_policies import Sites
from server.runtime import Current, Runtime, engine_load, refuse_if_full
from server.serving.loading import engine_of, load, own_models
from server.serving.memory_budget import BODIES
from server.serving.selection import choose, chosen_models
from server.serving.service import Load, Service
from server.settings import ServerSettings, load_settings
from server.store import Store, open_store
from server.web import annotations as annotation_routes
from server.web import (
    bursts,
    cameras,
    events,
    flexserve,
    heartbeats,
    models,
    multipart,
    oip_v2,
    openapi,
    probes,
    problem_json,
)
from server.web.admission import Admission, Quota
from server.web.auth import Authenticator
from server.web.control import Control

log = logging.getLogger(__name__)

EXTENSION = "sectorwatch"
"""Where `create_app` leaves the Runtime: `app.extensions[EXTENSION]`."""


@dataclass(frozen=True, slots=True)
class _Parts:
    """Everything that endpoints and runtime are made of."""

    settings: ServerSettings
    clock: Clock
    metrics: Metrics
    store: Store
    sites: Sites
    dispatcher: Dispatcher
    service: Service
    admission: Admission
    current: Current


def create_app(
    settings: ServerSettings | None = None,
    *,
    ensemble: Ensemble | None = None,
    channels: Sequence[Channel] | None = None,
    clock: Clock = now_us,
    loading: Load | None = None,
) -> Flask:
    """The application for `settings` (default: those of this process).

    An `ensemble` that is given serves as it is and is never swapped. `loading` makes ensembles from model names, where
    they do not come from the catalogue and the user's folder.
    """
    parts = _parts(settings or load_settings(), ensemble, channels, clock, loading)
    _add_gauges(parts)
    app = Flask("server", static_folder=None)
    app.extensions[EXTENSION] = _runtime(parts, starts_loading=ensemble is None)
    bounds = multipart.Bounds(parts.settings.max_body_bytes, parts.settings.max_frames)
    problem_json.install(app)
    multipart.install(app, bounds)
    probes.count_requests(app, parts.metrics)
    for blueprint in _blueprints(parts, bounds):
        app.register_blueprint(blueprint)
    return app


def runtime_of(app: Flask) -> Runtime:
    """The Runtime that `create_app` made for `app`."""
    runtime = app.extensions[EXTENSION]
    assert isinstance(runtime, Runtime)
    return runtime


def _parts(
    settings: ServerSettings,
    ensemble: Ensemble | None,
    channels: Sequence[Channel] | None,
    clock: Clock,
    loading: Load | None,
) -> _Parts:
    metrics = Metrics(clock, __version__)
    store = open_store(settings.database_url, clock)
    sites = Sites(settings.sites_dir, store.past.last_text)
    dispatcher = Dispatcher(store, [LogChannel(settings.log_style, sys.stdout)] if channels is None else channels)

    def pipeline_of(answering: Ensemble) -> Pipeline:
        return Pipeline(
            answering,
            store,
            sites,
            clock,
            committed=dispatcher.wake,
            judged=metrics.burst_judged,
        )

    service = _service(settings, loading, pipeline_of, store, sites, metrics)
    admission = Admission(
        settings.admission_limit,
        body_bytes=settings.max_body_bytes,
        total_bytes=BODIES * settings.max_body_bytes,
        refuse_if_full=partial(refuse_if_full, service),
        retry_after_s=lambda: engine_load(service).retry_after_s,
        quota=Quota(settings.client_images_per_minute, on_refused=metrics.quota_refused),
    )
    fixed = None
    if ensemble is not None:
        timed = metrics.timed(ensemble)
        fixed = timed, pipeline_of(timed)
        _count_models(settings, metrics, ensemble.ensemble_info)
    current = Current(service, admission, fixed)
    return _Parts(settings, clock, metrics, store, sites, dispatcher, service, admission, current)


def _service(
    settings: ServerSettings,
    loading: Load | None,
    pipeline_of: Callable[[Ensemble], Pipeline],
    store: Store,
    sites: Sites,
    metrics: Metrics,
) -> Service:
    return Service(
        loading or partial(load, settings, took=metrics.model_called),
        partial(engine_of, settings=settings),
        counted=metrics.timed,
        pipeline_of=pipeline_of,
        announced=partial(_announce, settings, sites, metrics),
        choose=partial(choose, settings=settings),
        notices=store.notices,
        metrics=metrics,
    )


def _runtime(parts: _Parts, *, starts_loading: bool) -> Runtime:
    settings = parts.settings
    ports: list[Control | probes.AdminPort] = [Control(parts.service, settings.data_dir)]
    if settings.admin_port:
        ports.append(probes.AdminPort(_admin_app(parts), settings.admin_host, settings.admin_port))
    return Runtime(
        store=parts.store,
        sites=parts.sites,
        dispatcher=parts.dispatcher,
        service=parts.service,
        current=parts.current,
        admission=parts.admission,
        metrics=parts.metrics,
        ports=ports,
        first_models=partial(_first_models, settings) if starts_loading else None,
        golden_every_s=settings.golden_every_s,
    )


def _blueprints(parts: _Parts, bounds: multipart.Bounds) -> Iterator[Blueprint]:
    """All endpoints."""
    settings, store, current, metrics = parts.settings, parts.store, parts.current, parts.metrics
    admission, clock = parts.admission, parts.clock
    authenticator = Authenticator(store, open_classify=settings.open_classify)
    duplicate_agents = DuplicateAgents()
    limits = Limits(max_frames=settings.max_frames)
    thresholds = StatusThresholds(settings.late_after_s, settings.silent_after_s)
    yield bursts.routes(current.pipeline, authenticator, admission, bounds, limits, metrics.burst_received)
    yield heartbeats.routes(
        store, parts.sites.edition, authenticator, clock, duplicate_agents, metrics.heartbeat_received
    )
    yield events.routes(store, authenticator)
    yield cameras.routes(store, authenticator, clock, thresholds, duplicate_agents)
    yield annotation_routes.routes(store, authenticator)
    yield models.routes(current.ensemble, partial(_card, folders=own_models(settings)), authenticator)
    yield flexserve.routes(current.ensemble, authenticator, admission, bounds)
    yield oip_v2.routes(current.ensemble, store.last_seq, authenticator, admission, bounds, __version__)
    yield probes.routes(current.ensemble, store.last_seq, metrics, authenticator)
    yield openapi.routes(__version__)


def _admin_app(parts: _Parts) -> Flask:
    """Probes and metrics alone, for everybody who reaches the admin port."""
    app = Flask("server.web.probes", static_folder=None)
    problem_json.install(app)
    app.register_blueprint(
        probes.routes(parts.current.ensemble, parts.store.last_seq, parts.metrics, authenticator=None)
    )
    return app


def _add_gauges(parts: _Parts) -> None:
    service, sites, watch = parts.service, parts.sites, parts.metrics.watch
    watch("uploads_in_work", "Uploads admitted and not yet answered.", lambda: parts.admission.in_work)
    watch("queued_images", "Images waiting for a worker.", lambda: engine_load(service).queued_images)
    watch("running_images", "Images that workers are processing.", lambda: engine_load(service).running_images)
    watch("site_policies_refused", "Site policy files that cannot be used.", lambda: len(sites.faults()))


def _announce(settings: ServerSettings, sites: Sites, metrics: Metrics, ensemble_info: EnsembleInfo) -> None:
    """Count an ensemble that comes into service, and log which site policies do not fit its models."""
    _count_models(settings, metrics, ensemble_info)
    for site in sites.sites():
        for misfit in misfits(sites.policy(site), ensemble_info):
            log.warning("site policy does not fit the models", extra={"site": site, "what": misfit})


def _count_models(settings: ServerSettings, metrics: Metrics, ensemble_info: EnsembleInfo) -> None:
    metrics.serves(ensemble_info, lambda model: _card(model, own_models(settings)).get("sha256"))


def _first_models(settings: ServerSettings) -> Sequence[str]:
    """The models to start with: those of the last swap, else those of the settings."""
    chosen = chosen_models(settings)
    if chosen != settings.models:
        fields = {"models": ",".join(chosen), "settings": ",".join(settings.models)}
        log.warning("models were swapped since the settings were written", extra=fields)
    return chosen


def _card(model: str, folders: Sequence[Path]) -> Mapping[str, object]:
    """The public fields of a model's card, in JSON's types; empty for a model without a card."""
    card = cards(folders).get(model)
    if card is None:
        return {}
    fields = msgspec.to_builtins(card)
    return {key: fields[key] for key in ("kind", "summary", "licence", "citation", "sha256", "input")}
