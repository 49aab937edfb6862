"""Bursts of a recording, as if its camera were live: the instants are the footage's own, the pace is chosen.

A recording's bursts are a function of the footage and the settings: burst number, id, frames and instants come
out the same whenever they are made. The next number to make is remembered after each burst that was kept, so an
agent that was killed goes on where it was; a burst that is made twice is one burst to the server.
"""

from __future__ import annotations

import hashlib
import logging
import math
import threading
import uuid
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path
from typing import Protocol

import msgspec

from camera_agent import atomic_files
from camera_agent.burst import Burst, ClockReading, Still, make_burst
from camera_agent.cameras.health import Health
from camera_agent.capture.recording_bursts import Cut, Picture, cuts
from camera_agent.clock import Clock, iso_ms
from camera_agent.config.settings import CameraSettings
from camera_agent.imaging.failure import CameraFailure
from camera_agent.imaging.masks import mask_digest
from camera_agent.logs import line
from camera_agent.network.backoff import Backoff

_log = logging.getLogger(__name__)
_NAMESPACE = uuid.UUID("5a3f5c2e-7d54-5c0b-9b0e-0f6f6d1d2a71")
_ROOM_WAIT_S = 1.0


class Footage(Protocol):
    """A recording. Every method may raise `CameraFailure`; `open` begins again at the first picture."""

    def open(self) -> None: ...

    def fingerprint(self) -> str:
        """What tells this recording from another one under the same name."""
        ...

    def started_ms(self) -> int | None:
        """The first picture's instant in Unix milliseconds, where the recording knows it."""
        ...

    def duration_s(self) -> float:
        """From the first picture to the end."""
        ...

    def pictures(self) -> Iterator[Picture]:
        """All pictures in order; to be called once after each `open`."""
        ...

    def close(self) -> None: ...


class Keeper(Protocol):
    """Where finished bursts go; unlike a live camera, a recording waits until there is room."""

    def put(self, burst: Burst) -> bool: ...

    def wait_for_room(self, size_bytes: int, timeout_s: float) -> bool: ...


class Position(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is remembered of a recording: which it was and how it was cut, when it is said to have begun, and the
    next burst to make.
    """

    plan: str
    started_ms: int
    next_burst: int = 0


class Playback:
    """One recording's thread: `run` plays to the end of the footage, or until it is asked to stop."""

    def __init__(
        self,
        site: str,
        settings: CameraSettings,
        footage: Footage,
        keeper: Keeper,
        state_folder: Path,
        clock: Clock,
        stop: threading.Event,
    ) -> None:
        self._site = site
        self._settings = settings
        self._footage = footage
        self._keeper = keeper
        self._memory = state_folder / f"recording-{settings.name}.json"
        self._clock = clock
        self._stop = stop
        self.health = Health(clock.monotonic_s(), stuck_after_s=math.inf)
        self.is_over = False
        """Whether the footage was played to its end."""

    def run(self) -> None:
        """Play; a failure of the footage is retried, and does not end the agent."""
        backoff = Backoff(first_s=1.0, most_s=60.0)
        while not self._stop.is_set() and not self.is_over:
            try:
                self._play()
            except (CameraFailure, OSError) as failure:
                self._retry(backoff, failure)
            except Exception as failure:  # noqa: BLE001 - a loop's top: told, and tried again later
                _log.exception(line("playback_failed", camera=self._settings.name))
                self._retry(backoff, failure)
            finally:
                self._footage.close()

    def first(self) -> Burst | None:
        """The recording's first burst, for a look; the position is not moved. Raises `CameraFailure`."""
        position = self._open()
        try:
            cut = next(self._cuts(0), None)
        finally:
            self._footage.close()
        return None if cut is None else self._bind(position, cut)

    def forget(self) -> None:
        """Have the recording begin again, with a new `started_at` where none is set."""
        self._memory.unlink(missing_ok=True)

    def _play(self) -> None:
        position = self._open()
        begun_s: float | None = None
        origin_s = self._clock.monotonic_s()
        for cut in self._cuts(position.next_burst):
            begun_s = cut.looks[0].at_s if begun_s is None else begun_s
            burst = self._bind(position, cut)
            last_ms = position.started_ms + round(cut.looks[-1].at_s * 1000)
            if not self._wait_until_due(origin_s, cut.end_s - begun_s, last_ms) or not self._keep(burst):
                return
            self._remember(msgspec.structs.replace(position, next_burst=cut.number + 1))
        if not self._stop.is_set():
            self.is_over = True
            self.health.is_now("finished", self._clock.monotonic_s())
            _log.info(line("footage_over", camera=self._settings.name, to_play_it_again="--from-start"))

    def _open(self) -> Position:
        """Open the footage; played before in just this way, it goes on from there, else fix when it began."""
        self._footage.open()
        plan = self._plan()
        known = self._recall()
        if known is not None and known.plan == plan:
            return known
        position = Position(plan=plan, started_ms=self._started_ms())
        self._remember(position)
        started_at = iso_ms(position.started_ms)
        _log.info(line("footage_opened", camera=self._settings.name, started_at=started_at, plan=plan))
        return position

    def _started_ms(self) -> int:
        if self._settings.started_at is not None:
            return round(self._settings.started_at.timestamp() * 1000)
        own_ms = self._footage.started_ms()
        if own_ms is not None:
            return own_ms
        # Whole seconds, rounded down: nothing may lie in the future.
        return int(self._clock.unix_s() - self._footage.duration_s()) * 1000

    def _plan(self) -> str:
        """A digest of everything that decides which bursts come out: part of their ids, so that another cut has
        other ids.
        """
        cut = self._settings
        said: tuple[object, ...] = (
            *(self._site, cut.name, None if cut.started_at is None else cut.started_at.timestamp()),
            *(cut.burst.frames, cut.spacing_s, cut.every_s, cut.first_picture or 0),
            *(cut.quality, cut.max_width, self._footage.fingerprint()),
        )
        if cut.gate is not None or cut.masks:
            said += (cut.gate, mask_digest(cut.masks))
        return hashlib.sha256(repr(said).encode()).hexdigest()[:16]

    def _cuts(self, first: int) -> Iterator[Cut]:
        return cuts(self._settings, takewhile(lambda picture: not self._stop.is_set(), self._footage.pictures()), first)

    def _bind(self, position: Position, cut: Cut) -> Burst:
        """The footage's own time stands in for the clocks, so that the burst comes out the same the next time."""
        identity = f"{self._site}/{self._settings.name}/{position.started_ms}/{position.plan}"
        stills = [Still(look.jpeg, position.started_ms + round(look.at_s * 1000)) for look in cut.looks]
        first_ms = stills[0].at_ms
        return make_burst(
            stills,
            burst_id=str(uuid.uuid5(_NAMESPACE, f"{identity}/{cut.number}")),
            site=self._site,
            camera=self._settings.name,
            captured_ms=first_ms,
            clock=ClockReading(
                synced=True,
                boot_id=str(uuid.uuid5(_NAMESPACE, identity)),
                monotonic_ms=first_ms - position.started_ms,
            ),
            reason=cut.reason,
            mask_digest=mask_digest(self._settings.masks),
        )

    def _wait_until_due(self, origin_s: float, played_s: float, last_ms: int) -> bool:
        """Until the footage has come so far at its pace, and its last frame does not lie in the future; false
        when stopped.
        """
        speed = 1.0 if self._settings.speed is None else self._settings.speed
        due_s = origin_s + (played_s / speed if speed > 0 else 0.0)
        while (now_s := self._clock.monotonic_s()) < due_s or self._clock.unix_s() * 1000 < last_ms:
            ahead_s = last_ms / 1000 - self._clock.unix_s()
            # The wall clock may be stepped while we wait for it: look again every second.
            if not self._clock.wait_until(max(due_s, now_s + min(ahead_s, 1.0)), self._stop):
                return False
        return not self._stop.is_set()

    def _keep(self, burst: Burst) -> bool:
        """Hand the burst over once there is room for it; false when asked to stop first."""
        size_bytes = sum(len(frame) for frame in burst.frames)
        while not self._keeper.wait_for_room(size_bytes, _ROOM_WAIT_S):
            if self._stop.is_set():
                return False
        self._keeper.put(burst)
        self.health.is_now("watching", self._clock.monotonic_s())
        return True

    def _recall(self) -> Position | None:
        try:
            return msgspec.json.decode(self._memory.read_bytes(), type=Position)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
            _log.warning(line("position_unreadable", file=self._memory, cause=error))
            return None

    def _remember(self, position: Position) -> None:
        atomic_files.write(self._memory, [msgspec.json.encode(position)])

    def _retry(self, backoff: Backoff, failure: Exception) -> None:
        retry_in_s = backoff.next_s()
        self.health.failed(CameraFailure(str(failure)), self._clock.monotonic_s())
        _log.warning(line("camera_failed", camera=self._settings.name, cause=failure, retry_in_s=retry_in_s))
        self._clock.wait_until(self._clock.monotonic_s() + retry_in_s, self._stop)
