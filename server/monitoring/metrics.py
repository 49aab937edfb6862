"""The server's metrics, in Prometheus' format.

There is one `Metrics` per process, with a registry of its own; importing counts nothing. Other modules do not know it:
the composition root passes them its methods (`burst_received`, `burst_judged`, ...) and wraps the ensemble in
`TimedEnsemble`. A value that one part knows, such as a queue's length, is read at each scrape: see `watch`.

Labels are bounded. Models, sectors and targets come from cards and site policies. Cameras beyond `MAX_CAMERAS` count
together as `other`. Nothing is labelled by burst, event or frame. A new metric is a line in one of `metric_tables` and
a method that counts it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeVar, get_args

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    Metric,
    PlatformCollector,
    ProcessCollector,
)
from prometheus_client.exposition import choose_encoder

from policies.events import Kind, microseconds
from policies.fusion.judgement import Judgement
from policies.observation import Box, EnsembleInfo
from policies.sensitivity import Vote
from server.camera_status.heartbeat import Heartbeat
from server.domain.announcements import Announcement, ChannelState, Outgoing
from server.domain.burst import Burst
from server.domain.ensemble_protocol import Answers, Ensemble
from server.domain.keeping import Space
from server.domain.pictures.kept_frames import FrameTotals
from server.domain.records import KeptBurst
from server.domain.times.clock import SECOND_US, Clock
from server.monitoring.metric_tables import COUNTERS, FROM_THE_START, GAUGES, HISTOGRAMS, PREFIX, SPACE
from server.monitoring.occupancy_metrics import MAX_SECTORS, OccupancyMetrics, WatchedCamera

MAX_CAMERAS = 1000
_OTHER = "other"
_METHODS = frozenset({"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"})
_WITHOUT_SECTOR = ("moved", "crossed")
"""Kinds of events whose `sector` is empty."""

_Name = TypeVar("_Name", str, tuple[str, str])


class Metrics:
    """All metrics of one process. Safe to use from any number of threads."""

    def __init__(self, clock: Clock, version: str) -> None:
        self._clock = clock
        self._registry = CollectorRegistry()
        self._cameras: set[tuple[str, str]] = set()
        self._clients: set[str] = set()
        self._begun: set[tuple[str, str, str, str]] = set()
        self._newest_us: dict[tuple[str, str], int] = {}
        self._missed_before: dict[tuple[str, str], tuple[datetime, int]] = {}
        self._lock = threading.Lock()
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self._registry)
        self._occupancy = OccupancyMetrics(PREFIX)
        self._registry.register(self._occupancy)
        declare: dict[str, Any] = {"namespace": PREFIX, "registry": self._registry}
        self._counters = {name: Counter(name, *about, **declare) for name, about in COUNTERS.items()}
        self._gauges = {name: Gauge(name, *about, **declare) for name, about in GAUGES.items()}
        self._histograms = {
            name: Histogram(name, help_text, labels, buckets=buckets, **declare)
            for name, (help_text, labels, buckets) in HISTOGRAMS.items()
        }
        for name, values in FROM_THE_START.items():
            for value in values:
                self._counters[name].labels(value)
        self._gauges["build_info"].labels(version).set(1)
        for name in SPACE:
            self._gauges[name].set(float("nan"))

    def text(self, accept: str | None = None) -> tuple[bytes, str]:
        """All metrics as text, and their media type: OpenMetrics where `Accept` prefers it."""
        try:
            encode, content_type = choose_encoder(accept or "")
        except (TypeError, ValueError):  # an invalid version
            encode, content_type = choose_encoder("")
        is_open = content_type.startswith("application/openmetrics-text")
        return encode(_WithoutLoneCounts(self._registry) if is_open else self._registry), content_type

    def watch(self, name: str, help_text: str, read: Callable[[], float]) -> None:
        """Add a gauge `sectorwatch_<name>` that calls `read` at each scrape.

        `read` must be quick and must not raise.
        """
        Gauge(name, help_text, namespace=PREFIX, registry=self._registry).set_function(read)

    def serves(self, ensemble_info: EnsembleInfo, sha256: Callable[[str], object]) -> None:
        """This ensemble is in service from now on; `sha256` gives the digest of a model's weights, if it has one."""
        self._gauges["model_info"].clear()
        self._gauges["ensemble_info"].clear()
        self._gauges["ensemble_info"].labels(ensemble_info.ensemble).set(1)
        for model_info in ensemble_info.models:
            self._gauges["model_info"].labels(model_info.model, str(sha256(model_info.model) or "")).set(1)

    def golden_checked(self, outcome: str) -> None:
        """The golden set was replayed; it `passed` or `failed`."""
        self._counters["golden_checks"].labels(outcome).inc()

    def swap_asked(self, outcome: str) -> None:
        """A swap or rollback was requested; it was `done` or `refused`."""
        self._counters["ensemble_swaps"].labels(outcome).inc()

    def timed(self, ensemble: Ensemble) -> TimedEnsemble:
        """The ensemble, with its answers counted."""
        return TimedEnsemble(ensemble, self._images_answered)

    def model_called(self, model: str, seconds: float) -> None:
        """A model was called once."""
        self._histograms["inference_seconds"].labels(model).observe(seconds)

    def burst_received(self, burst: Burst, kept: KeptBurst, known: bool) -> None:
        """A burst was accepted, or is known."""
        site, camera = self._camera_labels(burst.site, burst.camera)
        self._counters["bursts_received"].labels(site, camera).inc()
        self.camera_seen(burst.site, burst.camera, burst.frames[-1].at_us)
        if known:
            self._counters["bursts_known"].labels(site, camera).inc()
            return
        counts = {
            "frames": len(burst.frames),
            "burst_frames_duplicate": len(burst.frames) - len({frame.sha256 for frame in burst.frames}),
            "bursts_late": kept.late,
            "bursts_held": kept.status == "held",
            "bursts_set_aside": kept.status == "set_aside",
        }
        for name, count in counts.items():
            self._counters[name].labels(site, camera).inc(count)
        now_us = self._clock()
        for event in (logged.event for logged in kept.events):
            self._counters["events"].labels(site, camera, event.sector or "", event.label, event.kind).inc()
            self._histograms["capture_to_event_seconds"].observe(
                max(0, now_us - microseconds(event.confirmed_at)) / SECOND_US
            )

    def burst_judged(self, burst: Burst, judgements: Sequence[Judgement]) -> None:
        """A new burst was judged: counts each model's vote on each candidate, and the margins of the rule."""
        split = 0
        for judgement in judgements:
            self._counters["undecided"].inc(len(judgement.undecided))
            split += any(
                {Vote.FOR, Vote.AGAINST} <= set(candidate.votes.values()) for candidate in judgement.candidates
            )
            for candidate in judgement.candidates:
                for model, vote in candidate.votes.items():
                    self._counters["model_votes"].labels(model, str(vote.value)).inc()
                for sector in candidate.sectors if candidate.ruling.margin is not None else ():
                    self._histograms["policy_margin"].labels(burst.site, sector).observe(candidate.ruling.margin or 0.0)
        self._gauges["model_disagreement_ratio"].labels(*self._camera_labels(burst.site, burst.camera)).set(
            split / len(judgements)
        )

    def camera_seen(self, site: str, camera: str, at_us: int) -> None:
        """The server holds a frame of this camera from `at_us`; only the newest counts."""
        names = self._camera_labels(site, camera)
        with self._lock:
            newest_us = max(at_us, self._newest_us.get(names, at_us))
            self._newest_us[names] = newest_us
            self._gauges["agent_last_burst_timestamp_seconds"].labels(*names).set(newest_us / SECOND_US)

    def heartbeat_received(self, heartbeat: Heartbeat) -> None:
        """A heartbeat came: bursts waiting at the agent, bursts lost there, and bytes uploaded."""
        names = self._camera_labels(heartbeat.site, heartbeat.camera)
        self._gauges["agent_last_heartbeat_timestamp_seconds"].labels(*names).set(self._clock() / SECOND_US)
        offset_us = microseconds(heartbeat.agent.sent_at) - self._clock()
        self._gauges["agent_clock_offset_seconds"].labels(*names).set(offset_us / SECOND_US)
        self._gauges["agent_spool_bursts"].labels(*names).set(heartbeat.waiting.bursts)
        self._gauges["agent_spool_bytes"].labels(*names).set(heartbeat.waiting.bytes)
        if heartbeat.counts.camera_bytes is not None:
            self._gauges["agent_uploaded_bytes"].labels(*names).set(heartbeat.counts.camera_bytes)
        missed, began = heartbeat.counts.dropped + heartbeat.counts.refused, heartbeat.agent.started_at
        with self._lock:
            # An earlier process counted what the agent had lost before this one started.
            at, before = self._missed_before.get((heartbeat.site, heartbeat.camera), (began, missed))
            self._missed_before[heartbeat.site, heartbeat.camera] = began, missed
        self._counters["bursts_missed"].labels(*names).inc(max(0, missed - (before if at == began else 0)))

    def readiness_known(self, is_ready: bool) -> None:
        """Whether the server can judge a burst and store it, as `/readyz` says."""
        self._gauges["ready"].set(is_ready)

    def cameras_known(self, cameras: Sequence[WatchedCamera] | None, elapsed_s: float) -> None:
        """All cameras with their sectors, `elapsed_s` after the last call; None where they cannot be read."""
        if cameras is None:
            self._occupancy.unknown(elapsed_s)
        else:
            labelled = [(self._camera_labels(c.site, c.camera), c) for c in cameras]
            self._occupancy.known(labelled, elapsed_s)
            self._begin_events(labelled)

    def _begin_events(self, cameras: Sequence[tuple[tuple[str, str], WatchedCamera]]) -> None:
        """Let the series of the events that sectors may have begin with 0, as those in `FROM_THE_START` do."""
        for names, camera in cameras:
            if len(self._begun) >= MAX_SECTORS:
                return
            for each in camera.sectors:
                sector = (*names, each.sector, each.target)
                if sector in self._begun or len(self._begun) >= MAX_SECTORS:
                    continue
                self._begun.add(sector)
                for kind in get_args(Kind):
                    place = "" if kind in _WITHOUT_SECTOR else each.sector
                    self._counters["events"].labels(*names, place, each.target, kind)

    def space_known(self, space: Space) -> None:
        """The room of the database was measured."""
        for name, value in zip(SPACE, (space.used_bytes, space.free_bytes, space.full_in_s), strict=True):
            self._gauges[name].set(float("nan") if value is None else value)

    def frames_kept(self, frames: int, size_bytes: int) -> None:
        """Pictures of so many frames were kept."""
        self._counters["frames_kept"].inc(frames)
        self._counters["frames_kept_bytes"].inc(size_bytes)

    def frames_not_kept(self, frames: int, cause: str) -> None:
        """Pictures of so many frames were not kept."""
        self._counters["frames_not_kept"].labels(cause).inc(frames)

    def frames_counted(self, totals: Sequence[FrameTotals]) -> None:
        """These frames are kept now."""
        counts: dict[tuple[str, str], tuple[int, int]] = {}
        for each in totals:
            names = self._camera_labels(each.site, each.camera)
            frames, size = counts.get(names, (0, 0))
            counts[names] = frames + each.frames, size + each.bytes
        for index, name in enumerate(("kept_frames", "kept_frames_bytes")):
            self._gauges[name].clear()
            for names, count in counts.items():
                self._gauges[name].labels(*names).set(count[index])

    def published(self, channel: str, outgoing: Outgoing) -> None:
        """A channel has sent an announcement. The time is that of events that are new and not late."""
        if isinstance(outgoing, Announcement) and outgoing.what == "event" and not outgoing.logged.late:
            waited_us = self._clock() - microseconds(outgoing.logged.event.confirmed_at)
            self._histograms["capture_to_publish_seconds"].labels(channel).observe(max(0, waited_us) / SECOND_US)

    def channel_failed(self, channel: str) -> None:
        """An attempt to send on a channel failed."""
        self._counters["channel_failures"].labels(channel).inc()

    def channels_counted(self, states: Sequence[ChannelState], now_us: int) -> None:
        """How far the channels in service are. What has not happened on one of them yet is shown as 0."""
        for state in states:
            self._counters["channel_failures"].labels(state.name)
            self._histograms["capture_to_publish_seconds"].labels(state.name)
            waited_us = 0 if state.oldest_us is None else max(0, now_us - state.oldest_us)
            self._gauges["channel_backlog"].labels(state.name).set(state.backlog)
            self._gauges["channel_oldest_undelivered_seconds"].labels(state.name).set(waited_us / SECOND_US)
            self._gauges["channel_paused"].labels(state.name).set(state.paused_at_us is not None)
            self._gauges["dead_letters"].labels(state.name).set(state.dead_letters)

    def quota_refused(self, client: str) -> None:
        """A client was refused by its quota (`server.web.admission.Quota`)."""
        self._counters["quota_refusals"].labels(self._bounded(self._clients, client, _OTHER)).inc()

    def request_answered(self, method: str, route: str | None, status: int) -> None:
        """A request was answered. `route` is its pattern, None when no route matched."""
        self._counters["http_requests"].labels(
            method if method in _METHODS else _OTHER, route or _OTHER, str(status)
        ).inc()

    def _images_answered(self, models: Sequence[str], answers: Sequence[Answers], seconds: float) -> None:
        self._histograms["answer_seconds"].observe(seconds)
        self._counters["images"].inc(len(answers))
        for model in models:
            self._counters["model_answers_missing"].labels(model).inc(
                sum(answer.get(model) is None for answer in answers)
            )

    def _camera_labels(self, site: str, camera: str) -> tuple[str, str]:
        """The camera's labels; `other` for every camera after the first MAX_CAMERAS."""
        return self._bounded(self._cameras, (site, camera), (_OTHER, _OTHER))

    def _bounded(self, names: set[_Name], name: _Name, other: _Name) -> _Name:
        """`name`, or `other` when MAX_CAMERAS other names are in `names` already."""
        with self._lock:
            if len(names) < MAX_CAMERAS:
                names.add(name)
            return name if name in names else other


class _WithoutLoneCounts:
    """The metrics of a registry as OpenMetrics allows them: a histogram with buckets below 0 has no `_sum`, so it may
    have no `_count` either. Its bucket `+Inf` has the same number.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def collect(self) -> Iterator[Metric]:
        for family in self._registry.collect():
            if family.type == "histogram" and not any(sample.name.endswith("_sum") for sample in family.samples):
                family.samples = [sample for sample in family.samples if not sample.name.endswith("_count")]
            yield family


class TimedEnsemble:
    """An ensemble whose answers and times are passed to `on_answered(models, answers, seconds)`."""

    def __init__(
        self,
        ensemble: Ensemble,
        on_answered: Callable[[Sequence[str], Sequence[Answers], float], None],
        model: str | None = None,
    ) -> None:
        self.ensemble_info = ensemble.ensemble_info
        self._ensemble = ensemble
        self._on_answered = on_answered
        self._models = [name.model for name in self.ensemble_info.models] if model is None else [model]

    def only(self, model: str | None, within_s: float | None = None) -> TimedEnsemble:
        """As the ensemble's own."""
        return TimedEnsemble(self._ensemble.only(model, within_s), self._on_answered, model)

    def answer(
        self, images: Sequence[bytes], crops: Mapping[str, Box] | None = None, enlarged: Sequence[Box] = ()
    ) -> Sequence[Answers]:
        """As the ensemble's own. A call that raises is not counted."""
        began = time.perf_counter()
        answers = self._ensemble.answer(images, crops or {}, enlarged)
        self._on_answered(self._models, answers, time.perf_counter() - began)
        return answers
