"""The life of one server process: what starts once, what runs beside the requests, and how it stops."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from server.app.days_ahead import DaysAhead
from server.app.same_sites import SameSites
from server.app.upkeep import Upkeep
from server.camera_status.reports import CameraReports
from server.delivery.care import ChannelCare
from server.delivery.dispatcher import Dispatcher
from server.domain.ensemble_protocol import Ensemble
from server.domain.errors import RetryLater, SectorwatchError
from server.domain.fleet import BEAT_S
from server.domain.keeping import FILLED, Space
from server.domain.times.clock import Clock
from server.engine import Load
from server.frames import FrameKeeper
from server.monitoring.metrics import Metrics
from server.pipeline.pipeline import Pipeline
from server.pipeline.site_policies import SitePolicies
from server.pipeline.site_versions import SiteVersions
from server.replays import Replays
from server.serving.membership import LOOK_S
from server.serving.service import Service
from server.settings import ServerSettings
from server.store import Store
from server.web.admission import Admission
from server.web.control import Control
from server.web.probes import AdminPort

log = logging.getLogger(__name__)

_STOP_S = 10.0
_REPEAT_S = 10.0
_WATCHED_SHARE = 20.0
"""The states of all cameras are read in at most one twentieth of the time."""
_REFOLD_S = 1.0
_AHEAD_S = 1.0
_GOLDEN_RETRY_S = 60.0
_SWEEP_S = 600.0
_SWEEP_RETRY_S = 60.0
"""After a sweep that failed."""
_FRAMES_S = 60.0


class Current:
    """The ensemble that answers requests now, with its pipeline. `fixed` is never swapped; else `service` says."""

    def __init__(self, service: Service, admission: Admission, fixed: tuple[Ensemble, Pipeline] | None = None) -> None:
        self._service = service
        self._admission = admission
        self._fixed = fixed

    def ensemble(self) -> Ensemble:
        """Raises RetryLater until an ensemble is loaded, and once the server is stopping."""
        return self._ready()[0]

    def pipeline(self) -> Pipeline:
        """Raises RetryLater until an ensemble is loaded, and once the server is stopping."""
        return self._ready()[1]

    def _ready(self) -> tuple[Ensemble, Pipeline]:
        if self._admission.closed:
            raise RetryLater("this server is stopping", retry_after_s=10)
        if self._fixed is not None:
            return self._fixed
        served = self._service.current()
        return served.ensemble, served.pipeline


def engine_load(service: Service) -> Load:
    """How much the engine of `service` has to do; nothing while it has none."""
    return service.engine.load() if service.engine is not None else Load(0, 0, None, 0.0)


def refuse_if_full(service: Service, client: str) -> None:
    """Raises RetryLater when the engine of `service` has no room for another image of `client`."""
    if service.engine is not None:
        service.engine.refuse_if_full(client)


def _log_failure(what: str, error: Exception) -> None:
    """An error with a message for its reader needs no traceback."""
    if isinstance(error, SectorwatchError):
        log.error(what, extra={"cause": error.detail})
    else:
        log.error(what, exc_info=error)


@dataclass(kw_only=True, eq=False, repr=False)
class Runtime:
    """The parts of one server process and their threads: `start` once, `stop` once, from one thread.

    `is_fixed`: the ensemble is given, and nothing is loaded.
    """

    settings: ServerSettings
    clock: Clock
    metrics: Metrics
    store: Store
    sites: SitePolicies
    versions: SiteVersions
    same_sites: SameSites
    reports: CameraReports
    dispatcher: Dispatcher
    keeper: FrameKeeper
    service: Service
    admission: Admission
    current: Current
    replays: Replays
    care: ChannelCare
    upkeep: Upkeep
    days_ahead: DaysAhead
    ports: Sequence[Control | AdminPort]
    is_fixed: bool
    _stopping: threading.Event = field(default_factory=threading.Event, init=False)
    _threads: list[threading.Thread] = field(default_factory=list, init=False)
    _is_filled: bool = field(default=False, init=False)
    _sweep_at_s: float = field(default=-math.inf, init=False)
    _space_at_s: float = field(default=-math.inf, init=False)

    def start(self, on_failure: Callable[[Exception], None], on_stuck: Callable[[], None] = lambda: None) -> None:
        """Load the ensemble and start delivery, in threads of their own, so that probes are answered meanwhile.

        `on_failure` is called with the error that keeps a port from opening (at once) or the ensemble from loading (in
        the loading thread). `on_stuck` is called in another thread when the engine stops answering: this process is
        unready then, and only a new one helps.
        """
        try:
            for port in self.ports:
                port.start()
        except RetryLater as error:
            on_failure(error)
            return
        if not self.is_fixed:
            self._run("loading", lambda: self._load(on_failure, on_stuck))
            self._run("fleet", lambda: self._repeat(self._follow, "other servers not asked", LOOK_S))
            self._run("beat", lambda: self._repeat(self._beat, "other servers not told", BEAT_S))
            if self.settings.golden_every_s:
                self._run("golden", self._replay_golden)
        self._run("delivery", lambda: self.dispatcher.run(self._stopping), may_hang=True)
        self._run("release", lambda: self._repeat(self._release_held, "held bursts not released", _REPEAT_S))
        self._run("refold", lambda: self._repeat(self._refold, "late bursts not folded in", _REFOLD_S))
        self._run("convert", self._convert)
        self._run("retention", lambda: self._repeat(self._retain, "retention failed", _REPEAT_S))
        self._run("frames", self._keep_frames)
        self._run("frame-limits", lambda: self._repeat(self._sweep_frames, "pictures not swept", _FRAMES_S))
        self._run("disk", lambda: self._repeat(self.store.retention.try_disk, "disk not tried", _REPEAT_S))
        self._run("sites", lambda: self._repeat(self._look_at_sites, "site policies not checked", _REPEAT_S))
        self._run("channels", lambda: self._repeat(self._watch_channels, "channels not counted", _REPEAT_S))
        self._run("days-ahead", lambda: self._repeat(self._read_ahead, "day not read ahead", _AHEAD_S))
        self._run("recall", self._recall_cameras)
        self._run("watch", self._watch_cameras)

    def stop(self) -> None:
        """Refuse new uploads, finish the engine's work and the event being delivered, and close the database."""
        self.drain()
        if self.service.engine is not None:
            self.service.engine.stop()
        self._stopping.set()
        self.replays.close()
        self.dispatcher.wake()
        self.keeper.wake()
        for thread in self._threads:
            thread.join(_STOP_S)
        for name in self.dispatcher.running:
            log.error("channel did not end: what it was sending is sent again", extra={"channel": name})
        self.close_ports()
        with suppress(SectorwatchError):  # without it the others wait until they see no sign of life
            self.service.leave()
        self.store.close()

    def close_ports(self) -> None:
        """Give up the ports beside the server's own, for another server that starts now."""
        for port in self.ports:
            port.stop()

    def drain(self) -> None:
        """Be unready from now on: refuse new uploads, finish admitted ones. A signal handler may call it."""
        self.admission.close()

    def _run(self, name: str, target: Callable[[], None], *, may_hang: bool = False) -> None:
        """Run `target` in a thread; the process does not wait at its exit for one that `may_hang`."""
        thread = threading.Thread(target=target, name=f"sectorwatch-{name}", daemon=may_hang)
        self._threads.append(thread)
        thread.start()

    def _load(self, on_failure: Callable[[Exception], None], on_stuck: Callable[[], None]) -> None:
        def stuck() -> None:
            self.drain()
            on_stuck()

        while not self._stopping.is_set():
            try:
                self.service.begin(stuck)
                return
            except RetryLater as error:  # the database knows which ensemble the replicas serve; a cluster may come
                log.warning("the ensemble waits", extra={"cause": error.detail})
                self._stopping.wait(_REPEAT_S)
            except Exception as error:  # noqa: BLE001  after any error the process must not seem to serve
                on_failure(error)
                return

    def _follow(self) -> None:
        """Do what other servers on the database ask for."""
        with suppress(RetryLater):
            self.service.follow()

    def _beat(self) -> None:
        """Tell other servers on the database that this one lives."""
        with suppress(RetryLater):
            self.service.beat()

    def _recall_cameras(self) -> None:
        """Once: give the metrics the cameras whose last burst came to an earlier process."""
        while not self._stopping.is_set():
            try:
                for head in self.store.cameras():
                    self.metrics.camera_seen(head.site, head.camera, head.last_at_us)
                return
            except RetryLater:
                self._stopping.wait(_REPEAT_S)
            except Exception as error:  # noqa: BLE001  the server serves without it
                _log_failure("cameras not recalled", error)
                return

    def _watch_cameras(self) -> None:
        """At intervals: give the metrics whether this server is ready, and the states of all sectors."""
        counted_s = time.monotonic()
        while not self._stopping.is_set():
            began_s = time.monotonic()
            is_ready, cameras = False, None
            try:
                is_ready = self._is_ready()
                cameras = self.reports.all(None)
            except Exception as error:  # noqa: BLE001  the next time may find it mended
                _log_failure("states of the sectors not read", error)
            self.metrics.readiness_known(is_ready)
            self.metrics.cameras_known(cameras, began_s - counted_s)
            counted_s = began_s
            self._stopping.wait(max(_REPEAT_S, _WATCHED_SHARE * (time.monotonic() - began_s)))

    def _is_ready(self) -> bool:
        """As `/readyz` says."""
        try:
            self.current.ensemble()
            self.store.check()
        except SectorwatchError:
            return False
        return True

    def _repeat(self, work: Callable[[], object], failure: str, every_s: float) -> None:
        """At the start and every `every_s`: do `work`. An error is logged as `failure`."""
        while not self._stopping.is_set():
            try:
                work()
            except Exception as error:  # noqa: BLE001  the next time may find it mended
                _log_failure(failure, error)
            self._stopping.wait(every_s)

    def _look_at_sites(self) -> None:
        """Read what has changed of the site policies, compare them with those of other servers, and have the database
        follow the files, where there are any.
        """
        self.sites.faults()
        if not self.is_fixed:
            with suppress(RetryLater):
                self.same_sites.look()
        self.versions.settle_changed()

    def _watch_channels(self) -> None:
        names = self.dispatcher.names
        states = [state for state in self.store.channel_states() if state.name in names]
        self.metrics.channels_counted(states, self.clock())

    def _release_held(self) -> None:
        with suppress(RetryLater):
            self.upkeep.release()

    def _read_ahead(self) -> None:
        with suppress(RetryLater):
            self.days_ahead.read()

    def _refold(self) -> None:
        with suppress(RetryLater):
            self.upkeep.refold(self._stopping)

    def _convert(self) -> None:
        """Until nothing of an earlier version is left."""
        while not self._stopping.is_set():
            try:
                if self.upkeep.convert(self._stopping):
                    return
            except RetryLater:
                pass
            except Exception as error:  # noqa: BLE001  the server serves both forms
                _log_failure("bursts of an earlier version not converted", error)
                return
            self._stopping.wait(_REPEAT_S)

    def _retain(self) -> None:
        """Sweep where that is due, and look at the room. A server that is given the upkeep sweeps at once."""
        now_s = time.monotonic()
        is_due = self.upkeep.is_mine() and now_s >= self._sweep_at_s
        if not is_due and now_s < self._space_at_s:
            return
        self._space_at_s = now_s + _SWEEP_S
        if is_due:
            self._sweep_at_s = now_s + _SWEEP_RETRY_S
        try:
            if is_due and self.upkeep.retain(self._stopping):
                self._sweep_at_s = time.monotonic() + _SWEEP_S
            self._watch_space(self.store.retention.space())
        except RetryLater as error:
            log.warning("retention waits", extra={"cause": error.detail})

    def _keep_frames(self) -> None:
        """Keep pictures of accepted bursts. It says once of each site that is older than pictures that it has none."""
        try:
            sites = [site for site in self.store.frames.older_sites() if self.settings.keep(site).frames.which is None]
            for site in self.store.frames.tell_once(sites):
                todo = f'[retention.{site}] keep_frames = "events" in the settings keeps them, "none" is as now'
                log.warning("pictures of an older site are not kept", extra={"site": site, "todo": todo})
        except RetryLater:
            pass
        except Exception as error:  # noqa: BLE001  pictures are kept without it
            _log_failure("older sites not named", error)
        self.keeper.run(self._stopping)

    def _sweep_frames(self) -> None:
        with suppress(RetryLater):
            self.upkeep.sweep_frames(self._stopping)
            self.metrics.frames_counted(self.store.frames.totals())

    def _watch_space(self, space: Space) -> None:
        """Give the metrics the room that is left, and warn when the disk is fuller than FILLED."""
        self.metrics.space_known(space)
        is_filled = (space.filled or 0.0) >= FILLED
        if is_filled and not self._is_filled:
            left = {"free_bytes": space.free_bytes, "database_bytes": space.used_bytes}
            what = "the disk is nearly full: lower keep_observations_days or keep_frames_bytes, or set max_bytes"
            log.warning(what, extra=left | {"pictures_bytes": space.frames_bytes})
        self._is_filled = is_filled

    def _replay_golden(self) -> None:
        """At intervals: replay the golden set, and again soon after it failed or could not be replayed."""
        wait_s = self.settings.golden_every_s
        while not self._stopping.wait(wait_s):
            try:
                is_done = self.service.recheck()
            except Exception as error:  # noqa: BLE001  it is replayed again soon
                _log_failure("golden set not replayed", error)
                is_done = False
            is_well = is_done and self.service.is_approved
            wait_s = self.settings.golden_every_s if is_well else min(self.settings.golden_every_s, _GOLDEN_RETRY_S)
