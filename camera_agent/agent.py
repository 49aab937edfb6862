"""The story of a running agent: every camera fills the spool at its own pace, one uplink empties it.

Live cameras run on the schedule, recordings each on a thread, the uplink on another; this thread watches over
them, writes the status, and ends it all: when told to, or when all there was to play is over and sent.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from camera_agent.burst import Burst
from camera_agent.cameras import opening
from camera_agent.capture import Capture
from camera_agent.clock import Clock, SystemClock, iso_ms
from camera_agent.journal import line
from camera_agent.playback import Playback
from camera_agent.post import Poster
from camera_agent.schedule import Schedule, Slots
from camera_agent.settings import Settings, read_token
from camera_agent.spool import Spool
from camera_agent.status import Status, Tally, write_status
from camera_agent.uplink import Uplink

_log = logging.getLogger(__name__)
_TICK_S = 0.25
_STATUS_EVERY_S = 5.0
_GRACE_S = 5.0


class StateUnusable(Exception):
    """The state folder cannot be used; the message says why."""


class Agent:
    """`run` once. `stop` may be set by anybody, at any time, from any thread or signal handler."""

    def __init__(self, settings: Settings, stop: threading.Event, clock: Clock | None = None) -> None:
        self._settings = settings
        self._stop = stop
        self._clock = clock or SystemClock()
        now = iso_ms(round(self._clock.unix_s() * 1000))
        self._tally = Tally(Status(pid=os.getpid(), started_at=now))
        self._spool = Spool(
            settings.spool_folder,
            max_bytes=settings.spool.max_bytes,
            refused_folder=settings.state_folder / "refused",
            keep_refused=settings.spool.keep_refused,
        )
        self._threads: list[threading.Thread] = []
        self._captures: list[Capture] = []
        self._playbacks: list[tuple[Playback, bool]] = []

    def run(self, *, from_start: bool = False) -> Status:
        """Take and send bursts until stopped or finished; return what was done. Raises `StateUnusable`.

        `from_start` has recordings begin anew instead of where an earlier run left them.
        """
        with hold_state(self._settings.state_folder):
            try:
                self._spool.open()
            except (OSError, ValueError) as error:
                raise StateUnusable(f"the spool {self._settings.spool_folder} cannot be used: {error}") from error
            poster = self._start_uplink()
            schedule = self._start_cameras(from_start=from_start)
            try:
                self._watch(schedule)
            finally:
                self._end(schedule, poster)
            return self._tally.read()

    def put(self, burst: Burst) -> bool:
        """Keep a burst in the spool, and count and tell it: what cameras hand their bursts to."""
        is_kept = self._spool.put(burst)
        envelope = burst.envelope
        self._tally.count(bursts=1, frames=len(burst.frames))
        said = line(
            "burst_taken",
            camera=envelope.camera,
            burst=envelope.burst_id,
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
        server = self._settings.server
        poster = Poster(
            server.url,
            connect_timeout_s=server.connect_timeout_s,
            read_timeout_s=server.read_timeout_s,
            unix_s=self._clock.unix_s,
        )
        uplink = Uplink(self._spool, poster, camera_tokens(self._settings), self._tally, self._clock, self._stop)
        self._start_thread("uplink", uplink.run)
        return poster

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
                slots = Slots(self._clock.monotonic_s(), camera.every_s)
                capture = Capture(site, camera, opening.live_camera(camera), self, slots, self._clock, self._stop)
                self._captures.append(capture)
                schedule.add(camera.name, slots, capture.run)
                continue
            playback = Playback(site, camera, opening.footage(camera), self, state, self._clock, self._stop)
            if from_start:
                playback.forget()
            self._playbacks.append((playback, camera.at_end != "wait"))
            self._start_thread(f"playback-{camera.name}", playback.run)
        if schedule is not None:
            schedule.start()
        return schedule

    def _start_thread(self, name: str, run: Callable[[], None]) -> None:
        thread = threading.Thread(target=run, name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _watch(self, schedule: Schedule | None) -> None:
        status_at_s = self._clock.monotonic_s()
        while not self._stop.is_set():
            if self._is_finished(schedule):
                self._tally.update(state="finished")
                return
            if schedule is not None and (step_s := schedule.follow_steps()):
                _log.warning(line("clock_stepped", by_s=step_s))
            if self._clock.monotonic_s() >= status_at_s:
                status_at_s += _STATUS_EVERY_S
                self._write_status()
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
        _log.info(line("stopping", waiting=len(self._spool)))
        if schedule is not None:
            schedule.stop()
        deadline_s = self._clock.monotonic_s() + _GRACE_S
        for thread in self._threads:
            thread.join(max(0.0, deadline_s - self._clock.monotonic_s()))
        for capture in self._captures:
            capture.close()
        poster.close()
        self._write_status()
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

    def _write_status(self) -> None:
        self._tally.update(
            written_at=iso_ms(round(self._clock.unix_s() * 1000)),
            waiting=len(self._spool),
            waiting_bytes=self._spool.held_bytes,
            dropped=self._spool.dropped,
        )
        try:
            write_status(self._settings.state_folder, self._tally.read())
        except OSError as error:
            _log.warning(line("status_not_written", cause=error))


def camera_tokens(settings: Settings) -> dict[str, Callable[[], str | None]]:
    """How to read each camera's bearer token: its own where it has one, else the server's."""
    tokens: dict[str, Callable[[], str | None]] = {}
    for camera in settings.cameras:
        has_own = camera.token is not None or camera.token_file is not None
        source = camera if has_own else settings.server
        tokens[camera.name] = partial(read_token, source.token, source.token_file)
    return tokens


@contextlib.contextmanager
def hold_state(folder: Path) -> Iterator[None]:
    """Make the state folder and keep a second agent out of it; the kernel lets go when the process ends, however
    it ends.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StateUnusable(f"the state folder {folder} cannot be used: {error.strerror}") from error
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise StateUnusable(f"another agent is running on the state folder {folder}") from error
        yield
    finally:
        os.close(handle)
