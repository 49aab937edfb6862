"""The composition root: the one module that knows every part of the server.

`create_app` joins the parts and starts nothing: no thread, no model, no connection. `Runtime.start` does so in the
process that will serve (`server.hosting.gunicorn_app`): it loads the ensemble, which first imports torch, and starts
delivery. Until the ensemble is loaded, `/readyz` and uploads answer 503.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
from flask import Blueprint, Flask

from policies.fusion.model_check import misfits
from policies.observation import EnsembleInfo
from server import __version__
from server.app.days_ahead import DaysAhead
from server.app.runtime import Current, Runtime, engine_load, refuse_if_full
from server.app.same_sites import SameSites
from server.app.surroundings import local_time, surroundings
from server.app.upkeep import Upkeep
from server.camera_status.duplicate_agents import DuplicateAgents
from server.camera_status.reports import CameraReports
from server.camera_status.status import StatusThresholds
from server.catalogue import read_cards
from server.console import TWINS, Access, Context
from server.console import install as install_console
from server.delivery.care import ChannelCare
from server.delivery.channel import Channel
from server.delivery.dispatcher import Dispatcher
from server.delivery.factory import make_channels
from server.delivery.log_channel import LogChannel
from server.domain.burst import Burst, Limits
from server.domain.ensemble_protocol import Ensemble
from server.domain.fleet import Standing
from server.domain.records import KeptBurst
from server.domain.times.clock import Clock, now_us
from server.domain.times.lateness import read_lateness
from server.frames import FrameKeeper, media_type, open_place, view
from server.monitoring.metrics import Metrics
from server.pipeline.advancing import Advancing
from server.pipeline.chosen_sites import sites_of, versions_of
from server.pipeline.pipeline import Pipeline
from server.pipeline.site_policies import SitePolicies
from server.ray_serving import require_ray
from server.replays import Replays
from server.serving.answering import Engine
from server.serving.loading import Load, broken_cards, engine_of, load, own_models
from server.serving.membership import Membership
from server.serving.memory_budget import BODIES
from server.serving.selection import chosen_models, forget_file
from server.serving.service import Service
from server.settings import ServerSettings, load_settings, processors
from server.store import Store, open_store, visit_stretches
from server.web import annotations as annotation_routes
from server.web import (
    bursts,
    cameras,
    events,
    flexserve,
    frames,
    heartbeats,
    models,
    multipart,
    oip_v2,
    openapi,
    probes,
    problem_json,
    site_policy,
)
from server.web.admission import Admission, PictureLimits, Quota
from server.web.auth import Authenticator
from server.web.control import Control

log = logging.getLogger(__name__)

EXTENSION = "sectorwatch"
_MOST_REPLAYS = 4
"""Processes of some 60 MB each that replay for the pages at once, at most."""
"""Where `create_app` leaves the Runtime: `app.extensions[EXTENSION]`."""


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
    they do not come from the catalogue and the user's folder; on a Ray cluster, in each replica.
    """
    runtime = _runtime(settings or load_settings(remembered=False), ensemble, channels, clock, loading)
    bounds = multipart.Bounds(runtime.settings.max_body_bytes, runtime.settings.max_frames)
    app = Flask("server", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = bounds.body_bytes
    app.extensions[EXTENSION] = runtime
    problem_json.install(app)
    probes.count_requests(app, runtime.metrics.request_answered)
    access = Access(runtime.store.users)
    authenticator = Authenticator(
        runtime.store, open_classify=runtime.settings.open_classify, session=access.permissions
    )
    for blueprint in _blueprints(runtime, bounds, authenticator):
        app.register_blueprint(blueprint)
    install_console(app, access, authenticator, _context(runtime))
    return app


def runtime_of(app: Flask) -> Runtime:
    """The Runtime that `create_app` made for `app`."""
    runtime: Runtime = app.extensions[EXTENSION]
    return runtime


def _runtime(
    settings: ServerSettings,
    ensemble: Ensemble | None,
    channels: Sequence[Channel] | None,
    clock: Clock,
    loading: Load | None,
) -> Runtime:
    metrics = Metrics(clock, __version__)
    store = open_store(settings.database_url, clock, open_place(settings.frames_url), settings.connections)
    sites = sites_of(settings, store)
    lateness = read_lateness(settings.late_within)
    thresholds = StatusThresholds(settings.late_after_s, settings.silent_after_s)
    reports = CameraReports(store.heartbeats, store.policy, clock, thresholds, DuplicateAgents())
    around = surroundings(settings, store, sites, clock, reports)
    if channels is None:
        log_channel = LogChannel(settings.log_style, sys.stdout)
        channels = [log_channel, *make_channels(settings.channels, around)]
    dispatcher = Dispatcher(
        store, channels, from_start=[LogChannel.name], on_sent=metrics.published, on_failed=metrics.channel_failed
    )

    def pipeline_of(answering: Ensemble) -> Pipeline:
        return Pipeline(
            answering,
            store,
            sites,
            clock,
            committed=dispatcher.wake,
            judged=metrics.burst_judged,
            late_within_us=lateness.within_us,
        )

    membership = Membership(store.fleet, settings.replica, settings.models)
    service = _service(settings, loading, pipeline_of, store, sites, metrics, membership)
    same_sites = SameSites(sites.source, membership.judges_by, membership.standing)
    upkeep = Upkeep(
        store,
        is_mine=lambda: ensemble is not None or service.does_upkeep,
        keep_of=settings.keep,
        keep_days=settings.keep_events_days,
        release_held=Advancing(store, clock, committed=dispatcher.wake, late_within_us=lateness.within_us).release_held,
        committed=dispatcher.wake,
    )
    metrics.watch("upkeep", "1 while this server does the upkeep for all on its database, else 0.", upkeep.is_mine)
    what = "Generation of the ensemble that this server serves; 0: none yet."
    metrics.watch("ensemble_generation", what, lambda: service.generation)
    admission = _admission(settings, service, metrics)
    fixed = None
    if ensemble is not None:
        timed = metrics.timed(ensemble)
        fixed = timed, pipeline_of(timed)
        _count_models(settings, metrics, ensemble.ensemble_info)
    current = Current(service, admission, fixed)
    metrics.watch("site_policies_refused", "Site policies that cannot be used.", lambda: len(sites.faults()))
    what = "1 while servers on the database judge by different site policies, for three minutes already, else 0."
    metrics.watch("site_policies_differ", what, lambda: same_sites.differ)
    keeper = FrameKeeper(
        store.frames,
        lambda site, is_older: settings.keep(site).frames.chosen(is_older=is_older),
        settings.max_body_bytes,
        on_kept=metrics.frames_kept,
        on_not_kept=metrics.frames_not_kept,
    )
    return Runtime(
        settings=settings,
        clock=clock,
        metrics=metrics,
        store=store,
        sites=sites,
        versions=versions_of(settings, store, sites),
        same_sites=same_sites,
        reports=reports,
        dispatcher=dispatcher,
        keeper=keeper,
        service=service,
        admission=admission,
        current=current,
        replays=Replays(settings.database_url, min(processors(), _MOST_REPLAYS)),
        care=ChannelCare(store, settings.channels, lambda: around),
        upkeep=upkeep,
        days_ahead=DaysAhead(store, clock),
        ports=_ports(settings, service, probes.routes(current.ensemble, store.check, metrics.text, authenticator=None)),
        is_fixed=ensemble is not None,
    )


def _service(
    settings: ServerSettings,
    loading: Load | None,
    pipeline_of: Callable[[Ensemble], Pipeline],
    store: Store,
    sites: SitePolicies,
    metrics: Metrics,
    membership: Membership,
) -> Service:
    loads, engine_for, hindrance = _answering(settings, loading, metrics)
    return Service(
        loads,
        engine_for,
        membership,
        chosen=partial(_chosen, settings),
        usable=partial(_usable, settings),
        counted=metrics.timed,
        pipeline_of=pipeline_of,
        announced=partial(_announce, settings, sites, metrics),
        notices=store.notices,
        metrics=metrics,
        hindrance=hindrance,
    )


def _answering(
    settings: ServerSettings, loading: Load | None, metrics: Metrics
) -> tuple[Load, Callable[[Any], Engine], Callable[[str | None], str | None]]:
    """What makes ensembles, what makes the engine for the first, and why one does not answer: in this process, or on a
    Ray cluster.
    """
    if settings.ensemble == "local":
        loads = loading or partial(load, settings, took=metrics.model_called)
        return loads, partial(engine_of, settings=settings), lambda _ensemble: None
    require_ray()
    from server.ray_serving.cluster import Cluster  # only with the setting

    cluster = Cluster(settings, took=metrics.model_called, loading=loading)
    return cluster.load, cluster.engine_of, cluster.hindrance


def _admission(settings: ServerSettings, service: Service, metrics: Metrics) -> Admission:
    admission = Admission(
        settings.admission_limit,
        body_bytes=settings.max_body_bytes,
        total_bytes=BODIES * settings.max_body_bytes,
        refuse_if_full=partial(refuse_if_full, service),
        retry_after_s=lambda: engine_load(service).retry_after_s,
        quota=Quota(settings.client_images_per_minute, on_refused=metrics.quota_refused),
    )
    metrics.watch("uploads_in_work", "Uploads that have a place and are not yet answered.", lambda: admission.in_work)
    metrics.watch("uploads_received", "Uploads not yet answered, with a place or without.", lambda: admission.received)
    metrics.watch("queued_images", "Images waiting for a worker.", lambda: engine_load(service).queued_images)
    metrics.watch("running_images", "Images that workers are processing.", lambda: engine_load(service).running_images)
    return admission


def _ports(settings: ServerSettings, service: Service, probe_routes: Blueprint) -> list[Control | probes.AdminPort]:
    """The control port, and the admin port where the settings have one: probes and metrics alone, without a token."""
    ports: list[Control | probes.AdminPort] = [Control(service, settings.data_dir)]
    if settings.admin_port:
        app = Flask("server.web.probes", static_folder=None)
        problem_json.install(app)
        app.register_blueprint(probe_routes)
        ports.append(probes.AdminPort(app, settings.admin_host, settings.admin_port))
    return ports


def _context(runtime: Runtime) -> Context:
    return Context(
        store=runtime.store,
        sites=runtime.sites,
        settings=runtime.settings,
        clock=runtime.clock,
        replays=runtime.replays,
        reports=runtime.reports.all,
        ensemble=runtime.current.ensemble,
        card=partial(_card, folders=own_models(runtime.settings)),
        versions=runtime.versions,
        local_time=partial(local_time, runtime.sites, runtime.store),
        channels=runtime.care,
        wants_next=runtime.days_ahead.want,
    )


def _blueprints(runtime: Runtime, bounds: multipart.Bounds, authenticator: Authenticator) -> Iterator[Blueprint]:
    """All endpoints but the console's."""
    settings, store, metrics, clock = runtime.settings, runtime.store, runtime.metrics, runtime.clock
    admission, ensemble = runtime.admission, runtime.current.ensemble
    yield bursts.routes(
        runtime.current.pipeline,
        authenticator,
        admission,
        bounds,
        Limits(max_frames=settings.max_frames),
        PictureLimits(settings.max_pixels, settings.burst_formats, "burst_formats"),
        partial(_accepted, runtime),
    )
    yield heartbeats.routes(
        store.heartbeats.keep,
        runtime.sites.edition,
        authenticator,
        admission,
        clock,
        runtime.reports.duplicate_agents,
        metrics.heartbeat_received,
    )
    yield site_policy.routes(runtime.sites.standing, runtime.sites.sites, ensemble, authenticator)
    yield events.routes(store, authenticator)
    yield cameras.routes(runtime.reports, authenticator, clock)
    yield frames.routes(store, authenticator, partial(_shown, store), visit_stretches)
    yield annotation_routes.routes(store, authenticator, admission)
    yield models.routes(ensemble, partial(_card, folders=own_models(settings)), authenticator)
    yield flexserve.routes(ensemble, authenticator, admission, bounds, PictureLimits(settings.max_pixels))
    yield oip_v2.routes(
        ensemble, store.check, authenticator, admission, bounds, PictureLimits(settings.max_pixels), __version__
    )
    yield probes.routes(ensemble, store.check, metrics.text, authenticator)
    yield openapi.routes(__version__, TWINS)


def _accepted(runtime: Runtime, burst: Burst, kept: KeptBurst, known: bool) -> None:
    """Count a burst, and have its pictures kept."""
    runtime.metrics.burst_received(burst, kept, known)
    runtime.keeper.offer(burst, [seen.brightness for seen in kept.observations])


def _shown(store: Store, sha256: str, size: frames.Size) -> tuple[bytes, str] | None:
    """A picture in a size, with its media type; None where it is lost."""
    content = view(store.frames.shelf, sha256, size)
    return None if content is None else (content, media_type(content))


def _announce(settings: ServerSettings, sites: SitePolicies, metrics: Metrics, ensemble_info: EnsembleInfo) -> None:
    """Count an ensemble that comes into service, and log which site policies do not fit its models.

    The database says now which models are to be served.
    """
    forget_file(settings)
    _count_models(settings, metrics, ensemble_info)
    for site in sites.sites():
        for misfit in misfits(sites.policy(site), ensemble_info):
            log.warning("site policy does not fit the models", extra={"site": site, "what": misfit})


def _count_models(settings: ServerSettings, metrics: Metrics, ensemble_info: EnsembleInfo) -> None:
    metrics.serves(ensemble_info, lambda model: _card(model, own_models(settings)).get("sha256"))


def _chosen(settings: ServerSettings, standing: Standing) -> Sequence[str]:
    """The models to start with: those that all replicas are to serve, else those of the settings."""
    chosen = chosen_models(settings, standing)
    if chosen != settings.models:
        log.warning(
            "models were swapped since the settings were written",
            extra={"models": ",".join(chosen), "settings": ",".join(settings.models)},
        )
    return chosen


def _usable(settings: ServerSettings, names: Sequence[str]) -> Sequence[str]:
    """These models without those whose card is broken.

    Raises ConfigurationError for a name that two cards have, and when no card is left.
    """
    broken = broken_cards(settings, names)
    for fault in broken:
        log.error("model not served: its card cannot be used", extra={"model": fault.name, "detail": fault.detail})
    return tuple(name for name in names if name not in {fault.name for fault in broken})


def _card(model: str, folders: Sequence[Path]) -> Mapping[str, object]:
    """The public fields of a model's card, in JSON's types; empty for a model without a card."""
    card = read_cards(folders)[0].get(model)
    shown = () if card is None else ("kind", "summary", "licence", "citation", "sha256", "input")
    return {key: msgspec.to_builtins(getattr(card, key)) for key in shown}
