"""The story of a running agent: every camera fills the spool at its own pace, one uplink empties it.

Live cameras run on the schedule, recordings each on a thread, the uplink on another; this thread watches over
them, writes the status, and ends it all: when told to, or when all there was to play is over and sent.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable

from camera_agent.burst import Burst
from camera_agent.cameras import factory
from camera_agent.cameras.health import Health
from camera_agent.cameras.timeout_guard import Guarded
from camera_agent.capture.live import Capture
from camera_agent.capture.playback import Playback
from camera_agent.capture.schedule import Schedule, Slots
from camera_agent.clock import Clock, SystemClock, iso_ms
from camera_agent.config.settings import CameraSettings, Settings
from camera_agent.logs import line
from camera_agent.reporting.publisher import News
from camera_agent.reporting.sd_notify import notify, watchdog_every_s
from camera_agent.state import StateUnusable, camera_tokens, hold_state, spool_of
from camera_agent.status import Status, Tally
from camera_agent.uplink.byte_budget import Budget, Plan, heartbeat_every_s
from camera_agent.uplink.heartbeat import Heartbeats, Subject
from camera_agent.uplink.http_client import Poster
from camera_agent.uplink.uplink import Uplink
from camera_agent.wall_clock import Timekeeper

_log = logging.getLogger(__name__)
_TICK_S = 0.25
_STATUS_EVERY_S = 5.0
_GRACE_S = 5.0


class Agent:
    """`run` once. `stop` may be set by anybody, at any time, from any thread or signal handler."""

    def __init__(self, settings: Settings, stop: threading.Event, clock: Clock | None = None) -> None:
        self._settings = settings
        self._stop = stop
        self._clock = clock or SystemClock()
        now = iso_ms(round(self._clock.unix_s() * 1000))
        self._tally = Tally(Status(pid=os.getpid(), started_at=now))
        self._time = Timekeeper(self._clock)
        self._spool = spool_of(settings, self._clock)
        self._budgets = {
            camera.name: Budget(camera.mb_per_day and camera.mb_per_day * 1e6, self._clock.monotonic_s)
            for camera in settings.cameras
        }
        self._threads: list[threading.Thread] = []
        self._captures: list[tuple[Capture, Guarded]] = []
        self._playbacks: list[tuple[Playback, bool]] = []
        self._health: dict[str, Health] = {}
        self._news = News(settings, self._clock, self._tally, self._spool, self._health, self._budgets)

    def run(self, *, from_start: bool = False) -> Status:
        """Take and send bursts until stopped or finished; return what was done. Raises `StateUnusable`.

        `from_start` has recordings begin anew instead of where an earlier run left them.
        """
        with hold_state(self._settings.state_folder):
            try:
                self._spool.open()
            except (OSError, ValueError) as error:
                raise StateUnusable(f"the spool {self._settings.spool_folder} cannot be used: {error}") from error
            self._news.restore_budgets()
            poster = self._start_uplink()
            schedule = self._start_cameras(from_start=from_start)
            self._start_heartbeats()
            self._start_metrics()
            notify(ready=1)
            try:
                self._watch(schedule)
            finally:
                self._end(schedule, poster)
            return self._tally.read()

    def put(self, burst: Burst, *, to_disk: bool = False) -> bool:
        """Keep a burst in the spool, and count and tell it: what cameras hand their bursts to."""
        is_kept = self._spool.put(burst, to_disk=to_disk)
        envelope = burst.envelope
        self._tally.count(bursts=1, frames=len(burst.frames))
        said = line(
            "burst_taken",
            camera=envelope.camera,
            burst=envelope.burst_id,
            reason=envelope.reason,
            captured_at=envelope.captured_at,
            frames=len(burst.frames),
            bytes=sum(len(frame) for frame in burst.frames),
            waiting=len(self._spool),
        )
        _log.info(said)
        return is_kept

    def wait_for_room(self, size_bytes: int, timeout_s: float) -> bool:
        """See `Spool.wait_for_room`."""
        return self._spool.wait_for_room(size_bytes, timeout_s)

    def _start_uplink(self) -> Poster:
        poster = Poster(self._settings.server, self._time)
        uplink = Uplink(
            self._spool,
            poster,
            camera_tokens(self._settings),
            self._tally,
            self._clock,
            self._stop,
            time=self._time,
            budgets=self._budgets,
        )
        self._start_thread("uplink", uplink.run)
        return poster

    def _start_heartbeats(self) -> None:
        server = self._settings.server
        if not server.heartbeat_s:
            return
        tokens = camera_tokens(self._settings)
        subjects = {
            camera.name: Subject(
                self._health[camera.name].read,
                tokens[camera.name],
                self._budgets[camera.name],
                heartbeat_every_s(server.heartbeat_s, camera.mb_per_day),
            )
            for camera in self._settings.cameras
        }
        heartbeats = Heartbeats(
            self._settings.site,
            subjects,
            self._spool,
            Poster(server, self._time),
            self._tally,
            self._time,
            self._clock,
            self._stop,
        )
        self._start_thread("heartbeats", heartbeats.run)

    def _start_metrics(self) -> None:
        address = self._settings.metrics_listen
        if address is None:
            return
        from camera_agent.reporting.prometheus import serve_metrics

        try:
            serve_metrics(address, self._news.metrics)
        except OSError as error:  # a port that is taken is no reason to see nothing
            _log.error(line("metrics_not_served", address=address, cause=error))

    def _start_cameras(self, *, from_start: bool) -> Schedule | None:
        site, state = self._settings.site, self._settings.state_folder
        live = [camera for camera in self._settings.cameras if not camera.is_recorded]
        schedule = Schedule(self._clock, cameras=len(live)) if live else None
        for camera in self._settings.cameras:
            _log.info(
                line(
                    "camera",
                    camera=camera.name,
                    source=camera.source,
                    frames=camera.burst.frames,
                    every_s=camera.every_s,
                )
            )
            if schedule is not None and not camera.is_recorded:
                self._add_live(camera, schedule)
                continue
            keeper = _Durably(self)
            playback = Playback(site, camera, factory.footage(camera), keeper, state, self._clock, self._stop)
            if from_start:
                playback.forget()
            self._playbacks.append((playback, camera.at_end != "wait"))
            self._health[camera.name] = playback.health
            self._start_thread(f"playback-{camera.name}", playback.run)
        if schedule is not None:
            schedule.start()
        return schedule

    def _add_live(self, camera: CameraSettings, schedule: Schedule) -> None:
        slots = Slots(self._clock.monotonic_s(), camera.slot_s)
        guarded = Guarded(lambda: factory.live_camera(camera), timeout_s=camera.timeout_s)

        def plan() -> Plan:
            waiting_bytes = sum(waiting.size_bytes for waiting in self._spool.of(camera.name))
            return self._budgets[camera.name].plan(waiting_bytes)

        capture = Capture(
            self._settings.site, camera, guarded, self, slots, self._clock, self._stop, time=self._time, plan=plan
        )
        self._captures.append((capture, guarded))
        self._health[camera.name] = capture.health
        schedule.add(camera.name, slots, capture.run)

    def _start_thread(self, name: str, run: Callable[[], None]) -> None:
        thread = threading.Thread(target=run, name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _watch(self, schedule: Schedule | None) -> None:
        status_at_s = self._clock.monotonic_s()
        ping_every_s, ping_at_s = watchdog_every_s(), self._clock.monotonic_s()
        while not self._stop.is_set():
            if self._is_finished(schedule):
                self._tally.update(state="finished")
                return
            if self._captures and all(guarded.is_beyond_help for _, guarded in self._captures):
                _log.error(line("cameras_beyond_help", advice="a new process may help: ending with exit code 1"))
                self._tally.update(state="failed")
                return
            self._write_late()
            if ping_every_s is not None and self._clock.monotonic_s() >= ping_at_s and self._threads[0].is_alive():
                ping_at_s += ping_every_s
                notify(watchdog=1)
            if schedule is not None and (step_s := schedule.follow_steps()):
                _log.warning(line("clock_stepped", by_s=step_s))
            if self._clock.monotonic_s() >= status_at_s:
                status_at_s += _STATUS_EVERY_S
                self._news.write()
            self._clock.wait_until(self._clock.monotonic_s() + _TICK_S, self._stop)
        self._tally.update(state="stopped")

    def _is_finished(self, schedule: Schedule | None) -> bool:
        is_played = all(playback.is_over and stops for playback, stops in self._playbacks)
        return schedule is None and is_played and not len(self._spool)

    def _end(self, schedule: Schedule | None, poster: Poster) -> None:
        """Stop taking, let what is being sent be answered, and say what was done. What is not sent stays in the
        spool.
        """
        self._stop.set()
        notify(stopping=1)
        _log.info(line("stopping", waiting=len(self._spool)))
        if schedule is not None:
            schedule.stop()
        deadline_s = self._clock.monotonic_s() + _GRACE_S
        for thread in self._threads:
            thread.join(max(0.0, deadline_s - self._clock.monotonic_s()))
        for capture, _ in self._captures:
            capture.finish()
            capture.close()
        self._write_late(all_of_it=True)
        poster.close()
        self._news.write(is_last=True)
        status = self._tally.read()
        said = line(
            "summary",
            state=status.state,
            bursts=status.bursts,
            frames=status.frames,
            sent=status.sent,
            events=status.events,
            bytes_sent=status.bytes_sent,
            dropped=status.dropped,
            refused=status.refused,
            waiting=status.waiting,
        )
        _log.info(said)

    def _write_late(self, *, all_of_it: bool = False) -> None:
        try:
            self._spool.write_late(all_of_it=all_of_it)
        except OSError as error:
            _log.error(line("spool_not_written", cause=error))


class _Durably:
    """What recordings hand their bursts to: their position says that a burst is kept, so it must be."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent

    def put(self, burst: Burst) -> bool:
        return self._agent.put(burst, to_disk=True)

    def wait_for_room(self, size_bytes: int, timeout_s: float) -> bool:
        return self._agent.wait_for_room(size_bytes, timeout_s)
