"""A recording played as if its camera were live, with the footage's own instants.

A recording's bursts are a function of the footage and the settings: number, id, frames and instants are the same each
time. After each burst that was kept, the position is saved, so that an agent that was killed continues from there. A
burst that is made twice has the same id, and is one burst to the server; other frames give another id.

`sessions` decides what of the footage was played before.
"""

from __future__ import annotations

import hashlib
import logging
import math
import threading
import uuid
from collections.abc import Callable, Iterable, Iterator
from itertools import takewhile
from pathlib import Path

from camera_agent.burst import Burst, ClockReading, Still, make_burst
from camera_agent.cameras.camera import RecordedPicture, Recording
from camera_agent.cameras.health import CameraHealth
from camera_agent.capture.recording_bursts import Done, RecordingBurst, recording_bursts
from camera_agent.capture.sessions import Position, Session, Sessions
from camera_agent.clock import Clock
from camera_agent.config.settings import CameraSettings
from camera_agent.imaging.frame import CameraFailure
from camera_agent.imaging.masks import mask_digest
from camera_agent.network.backoff import Backoff

_log = logging.getLogger(__name__)
_NAMESPACE = uuid.UUID("5a3f5c2e-7d54-5c0b-9b0e-0f6f6d1d2a71")
_ROOM_WAIT_S = 1.0


class Playback:
    """One recording's thread: `run` plays to the end of the footage, or until `stop` is set.

    `keep` is called with each burst after `wait_for_room(size_bytes, timeout_s)` returned true.
    """

    def __init__(
        self,
        site: str,
        settings: CameraSettings,
        recording: Recording,
        keep: Callable[[Burst], object],
        wait_for_room: Callable[[int, float], bool],
        state_folder: Path,
        clock: Clock,
        stop: threading.Event,
    ) -> None:
        self._site = site
        self._settings = settings
        self._recording = recording
        self._keep = keep
        self._wait_for_room = wait_for_room
        self._sessions = Sessions(site, settings, recording, state_folder)
        self._clock = clock
        self._stop = stop
        self._seen_s: float | None = None
        self.health = CameraHealth(clock.monotonic_s(), stuck_after_s=math.inf)
        self.is_over = False
        """Whether the footage was played to its end."""
        self.shortfall = ""
        """Where it was, and its end came before its header's promise: the words for that."""

    def run(self) -> None:
        """Play. A failure of the footage is retried."""
        backoff = Backoff(first_s=1.0, max_s=60.0)
        while not self._stop.is_set() and not self.is_over:
            try:
                self._play()
            except Exception as failure:  # noqa: BLE001 - the thread must go on; the error is logged and retried
                if not isinstance(failure, CameraFailure | OSError):
                    _log.exception("playback_failed", extra={"camera": self._settings.name})
                self._wait_for_retry(backoff, failure)
            finally:
                self._recording.close()

    def first(self) -> Burst | None:
        """The recording's first burst. The saved position does not move. Raises `CameraFailure`."""
        session = self._open()
        try:
            made = next(recording_bursts(self._settings, self._recording.pictures()), None)
        finally:
            self._recording.close()
        return None if made is None else self._burst(session.position, made)

    def forget(self) -> None:
        """Start the recording again, with a new start instant where none is set."""
        self._sessions.forget()

    def _play(self) -> None:
        session = self._open()
        first_s: float | None = None
        origin_s = self._clock.monotonic_s()
        for made in self._bursts(session):
            first_s = made.frames[0].at_s if first_s is None else first_s
            burst = self._burst(session.position, made)
            last_ms = session.position.started_ms + round(made.frames[-1].at_s * 1000)
            if not self._wait_until_due(origin_s, made.end_s - first_s, last_ms) or not self._hand_over(burst):
                return
            session = self._sessions.advance(session, made.number + 1, made.frames[-1].at_s)
        if not self._stop.is_set():
            self._end(session, has_played=first_s is not None)

    def _end(self, session: Session, *, has_played: bool) -> None:
        if self._seen_s is not None:
            self._sessions.advance(session, session.position.next_burst, self._seen_s)
        camera = self._settings.name
        self.shortfall = self._recording.shortfall()
        if self.shortfall:
            _log.error("footage_cut_short", extra={"camera": camera, "cause": self.shortfall})
        self.is_over = True
        self.health.set_state("finished", self._clock.monotonic_s(), detail=self.shortfall or None)
        fields = {"camera": camera, "played_before": not has_played or None, "to_play_it_again": "--from-start"}
        _log.info("footage_over", extra=fields)

    def _open(self) -> Session:
        self._recording.open()
        self._seen_s = None
        return self._sessions.open(self._started_ms)

    def _started_ms(self) -> int:
        if self._settings.started_at is not None:
            return round(self._settings.started_at.timestamp() * 1000)
        own_ms = self._recording.started_ms()
        if own_ms is not None:
            return own_ms
        # Whole seconds, rounded down, so that no frame lies in the future.
        return int(self._clock.unix_s() - self._recording.duration_s()) * 1000

    def _bursts(self, session: Session) -> Iterator[RecordingBurst]:
        pictures = takewhile(lambda picture: not self._stop.is_set(), self._recording.pictures())
        position = session.position
        done = Done(position.next_burst, math.inf if position.is_old else position.played_ms)
        return recording_bursts(self._settings, self._noted(pictures, session), done)

    def _noted(self, pictures: Iterable[RecordedPicture], session: Session) -> Iterator[RecordedPicture]:
        """The pictures that no earlier session played. Notes how far the footage was looked at."""
        for picture in pictures:
            self._seen_s = picture.at_s
            if picture.number not in session.left_out:
                yield picture

    def _burst(self, position: Position, made: RecordingBurst) -> Burst:
        """The recording's own time replaces the clocks, so that the burst is the same each time."""
        identity = f"{self._site}/{self._settings.name}/{position.started_ms}/{position.plan}"
        stills = [Still(frame.jpeg, position.started_ms + round(frame.at_s * 1000)) for frame in made.frames]
        first_ms = stills[0].at_ms
        return make_burst(
            stills,
            burst_id=str(uuid.uuid5(_NAMESPACE, f"{identity}/{made.number}{_suffix(position, made)}")),
            site=self._site,
            camera=self._settings.name,
            captured_ms=first_ms,
            clock=ClockReading(
                synced=True,
                boot_id=str(uuid.uuid5(_NAMESPACE, identity)),
                monotonic_ms=first_ms - position.started_ms,
            ),
            reason=made.reason,
            mask_digest=mask_digest(self._settings.masks),
        )

    def _wait_until_due(self, origin_s: float, played_s: float, last_ms: int) -> bool:
        """Wait until `played_s` of footage have passed at the set speed, and the last frame is not in the future.

        Returns false when stopped.
        """
        speed = 1.0 if self._settings.speed is None else self._settings.speed
        due_s = origin_s + (played_s / speed if speed > 0 else 0.0)
        while (now_s := self._clock.monotonic_s()) < due_s or self._clock.unix_s() * 1000 < last_ms:
            ahead_s = last_ms / 1000 - self._clock.unix_s()
            # The wall clock may be stepped meanwhile: check it every second.
            if not self._clock.wait_until(max(due_s, now_s + min(ahead_s, 1.0)), self._stop):
                return False
        return not self._stop.is_set()

    def _hand_over(self, burst: Burst) -> bool:
        """Keep the burst once there is room for it. Returns false when stopped before."""
        size_bytes = sum(len(frame) for frame in burst.frames)
        while not self._wait_for_room(size_bytes, _ROOM_WAIT_S):
            if self._stop.is_set():
                return False
        self._keep(burst)
        self.health.set_state("watching", self._clock.monotonic_s())
        return True

    def _wait_for_retry(self, backoff: Backoff, failure: Exception) -> None:
        retry_in_s = backoff.next_s()
        self.health.record_failure(CameraFailure(str(failure)), self._clock.monotonic_s())
        _log.warning("camera_failed", extra={"camera": self._settings.name, "cause": failure, "retry_in_s": retry_in_s})
        self._clock.wait_until(self._clock.monotonic_s() + retry_in_s, self._stop)


def _suffix(position: Position, made: RecordingBurst) -> str:
    """Other frames give another burst, even with the number of one that was kept: no frame is taken for known.

    Version 0.2.0 gave ids by number alone. It may have kept the burst at its position, so that one has its old id.
    """
    if position.is_old:
        return ""
    frames = hashlib.sha256()
    for frame in made.frames:
        frames.update(frame.jpeg)
    return f"/{frames.hexdigest()}"
