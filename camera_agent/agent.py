"""The running agent: cameras fill the spool, the uplink empties it.

Live cameras run on the schedule. Each recording, the uplink and the heartbeats have a thread of their own. The calling
thread supervises: it writes the status, pings systemd, and stops everything when `stop` is set, or when all recordings
are played and sent.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from functools import partial

from camera_agent.burst import Burst
from camera_agent.cameras import factory
from camera_agent.cameras.health import CameraHealth
from camera_agent.cameras.timeout_guard import TimeoutGuard
from camera_agent.capture.live import LiveCapture
from camera_agent.capture.playback import Playback
from camera_agent.capture.schedule import Schedule, Slots
from camera_agent.clock import Clock, iso_ms
from camera_agent.config.settings import CameraSettings, Settings
from camera_agent.reporting.prometheus import serve_metrics
from camera_agent.reporting.publisher import Publisher
from camera_agent.reporting.sd_notify import notify, watchdog_every_s
from camera_agent.state import StateUnusable, camera_tokens, lock_state, make_spool
from camera_agent.status import Status, StatusCounters
from camera_agent.uplink.byte_budget import ByteBudget, SavingPlan, heartbeat_every_s
from camera_agent.uplink.heartbeat import Heartbeats, HeartbeatSource
from camera_agent.uplink.http_client import HttpClient
from camera_agent.uplink.uplink import Uplink
from camera_agent.wall_clock import WallClock

_log = logging.getLogger(__name__)
_TICK_S = 0.25
_STATUS_EVERY_S = 5.0
_GRACE_S = 5.0
_SUMMARY = ("state", "bursts", "frames", "sent", "events", "bytes_sent", "dropped", "refused", "waiting")


class Agent:
    """Call `run` once. `stop` may be set at any time, from any thread or signal handler."""

    def __init__(self, settings: Settings, stop: threading.Event, clock: Clock | None = None) -> None:
        self._settings = settings
        self._stop = stop
        self._clock = clock or Clock()
        started_at = iso_ms(round(self._clock.unix_s() * 1000))
        self._counters = StatusCounters(Status(pid=os.getpid(), started_at=started_at))
        self._wall_clock = WallClock(self._clock)
        self._spool = make_spool(settings, self._clock)
        self._budgets = {
            camera.name: ByteBudget(camera.mb_per_day and camera.mb_per_day * 1e6, self._clock.monotonic_s)
            for camera in settings.cameras
        }
        self._schedule = Schedule(self._clock, cameras=len(settings.cameras))
        self._threads: list[threading.Thread] = []
        self._captures: list[tuple[LiveCapture, TimeoutGuard]] = []
        self._playbacks: list[tuple[Playback, bool]] = []
        self._health: dict[str, CameraHealth] = {}
        self._publisher = Publisher(settings, self._clock, self._counters, self._spool, self._health, self._budgets)

    def run(self, *, from_start: bool = False) -> Status:
        """Take and send bursts until stopped or finished; return the counts. Raises `StateUnusable`.

        With `from_start`, recordings start again instead of continuing where an earlier run ended.
        """
        with lock_state(self._settings.state_folder):
            try:
                self._spool.open()
            except (OSError, ValueError) as error:
                raise StateUnusable(f"the spool {self._settings.spool_folder} cannot be used: {error}") from error
            self._publisher.restore_budgets()
            self._start_uplink()
            self._start_cameras(from_start=from_start)
            self._start_heartbeats()
            self._start_metrics()
            notify(ready=1)
            try:
                self._supervise()
            finally:
                self._shut_down()
            return self._counters.read()

    def _keep(self, burst: Burst, *, to_disk: bool = False) -> None:
        """Put a burst into the spool, count it and log it."""
        self._spool.put(burst, to_disk=to_disk)
        envelope = burst.envelope
        self._counters.add(bursts=1, frames=len(burst.frames))
        _log.info(
            "burst_taken",
            extra={
                "camera": envelope.camera,
                "burst": envelope.burst_id,
                "reason": envelope.reason,
                "captured_at": envelope.captured_at,
                "frames": len(burst.frames),
                "bytes": sum(len(frame) for frame in burst.frames),
                "waiting": len(self._spool),
            },
        )

    def _start_uplink(self) -> None:
        uplink = Uplink(
            self._spool,
            HttpClient(self._settings.server, self._wall_clock),
            camera_tokens(self._settings),
            self._counters,
            self._clock,
            self._stop,
            wall_clock=self._wall_clock,
            budgets=self._budgets,
        )
        self._start_thread("uplink", uplink.run)

    def _start_heartbeats(self) -> None:
        server = self._settings.server
        if not server.heartbeat_s:
            return
        tokens = camera_tokens(self._settings)
        sources = {
            camera.name: HeartbeatSource(
                self._health[camera.name].read,
                tokens[camera.name],
                self._budgets[camera.name],
                heartbeat_every_s(server.heartbeat_s, camera.mb_per_day),
            )
            for camera in self._settings.cameras
        }
        heartbeats = Heartbeats(
            self._settings.site,
            sources,
            self._spool,
            HttpClient(server, self._wall_clock),
            self._counters,
            self._wall_clock,
            self._clock,
            self._stop,
        )
        self._start_thread("heartbeats", heartbeats.run)

    def _start_metrics(self) -> None:
        address = self._settings.metrics_listen
        if address is None:
            return
        try:
            serve_metrics(address, self._publisher.metrics)
        except OSError as error:  # a port that is in use must not stop the cameras
            _log.error("metrics_not_served", extra={"address": address, "cause": error})

    def _start_cameras(self, *, from_start: bool) -> None:
        for camera in self._settings.cameras:
            _log.info(
                "camera",
                extra={
                    "camera": camera.name,
                    "source": camera.source,
                    "frames": camera.burst.frames,
                    "every_s": camera.every_s,
                },
            )
            if camera.is_recorded:
                self._start_recording(camera, from_start=from_start)
            else:
                self._add_live(camera)
        if self._captures:
            self._schedule.start()

    def _start_recording(self, camera: CameraSettings, *, from_start: bool) -> None:
        playback = Playback(
            self._settings.site,
            camera,
            factory.recording(camera),
            partial(self._keep, to_disk=True),  # the saved position claims that the burst is kept
            self._spool.wait_for_room,
            self._settings.state_folder,
            self._clock,
            self._stop,
        )
        if from_start:
            playback.forget()
        self._playbacks.append((playback, camera.at_end != "wait"))
        self._health[camera.name] = playback.health
        self._start_thread(f"playback-{camera.name}", playback.run)

    def _add_live(self, camera: CameraSettings) -> None:
        slots = Slots(self._clock.monotonic_s(), camera.slot_s)
        guard = TimeoutGuard(partial(factory.live_camera, camera), timeout_s=camera.timeout_s)

        def plan() -> SavingPlan:
            waiting_bytes = sum(entry.size_bytes for entry in self._spool.entries_of(camera.name))
            return self._budgets[camera.name].plan(waiting_bytes)

        capture = LiveCapture(
            self._settings.site,
            camera,
            guard,
            self._keep,
            slots,
            self._clock,
            self._stop,
            wall_clock=self._wall_clock,
            plan=plan,
        )
        self._captures.append((capture, guard))
        self._health[camera.name] = capture.health
        self._schedule.add(camera.name, slots, capture.run)

    def _start_thread(self, name: str, run: Callable[[], None]) -> None:
        thread = threading.Thread(target=run, name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _supervise(self) -> None:
        status_at_s = ping_at_s = self._clock.monotonic_s()
        ping_every_s = watchdog_every_s()
        while not self._stop.is_set():
            if self._is_finished():
                is_whole = not any(playback.shortfall for playback, _ in self._playbacks)
                self._counters.update(state="finished" if is_whole else "failed")
                return
            if self._captures and all(guard.needs_new_process for _, guard in self._captures):
                _log.error("cameras_beyond_help", extra={"advice": "a new process may help: ending with exit code 1"})
                self._counters.update(state="failed")
                return
            self._write_late()
            now_s = self._clock.monotonic_s()
            if ping_every_s is not None and now_s >= ping_at_s and self._threads[0].is_alive():
                ping_at_s += ping_every_s
                notify(watchdog=1)
            if step_s := self._schedule.follow_steps():
                _log.warning("clock_stepped", extra={"by_s": step_s})
            if now_s >= status_at_s:
                status_at_s += _STATUS_EVERY_S
                self._publisher.write()
            self._clock.wait_until(self._clock.monotonic_s() + _TICK_S, self._stop)
        self._counters.update(state="stopped")

    def _is_finished(self) -> bool:
        is_played = all(playback.is_over and ends for playback, ends in self._playbacks)
        return is_played and not self._captures and not len(self._spool)

    def _shut_down(self) -> None:
        """Stop the cameras, wait for the request under way, and write everything that was not sent to the spool."""
        self._stop.set()
        notify(stopping=1)
        _log.info("stopping", extra={"waiting": len(self._spool)})
        self._schedule.stop()
        deadline_s = self._clock.monotonic_s() + _GRACE_S
        for thread in self._threads:
            thread.join(max(0.0, deadline_s - self._clock.monotonic_s()))
        for capture, _ in self._captures:
            capture.finish()
            capture.close()
        self._write_late(write_all=True)
        self._publisher.write(is_last=True)
        status = self._counters.read()
        _log.info("summary", extra={name: getattr(status, name) for name in _SUMMARY})

    def _write_late(self, *, write_all: bool = False) -> None:
        try:
            self._spool.write_late(write_all=write_all)
        except OSError as error:
            _log.error("spool_not_written", extra={"cause": error})
