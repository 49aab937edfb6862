"""Bursts of a recording, as if its camera were live: the instants are the footage's own, the pace is chosen.

A recording's bursts are a function of the footage and the settings: burst number, id, frames and instants come
out the same whenever they are made. The next number to make is remembered after each burst that was kept, so an
agent that was killed goes on where it was; a burst that is made twice is one burst to the server.
"""

from __future__ import annotations

import hashlib
import logging
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, Protocol

import msgspec

from camera_agent import durable
from camera_agent.backoff import Backoff
from camera_agent.burst import Burst, ClockReading, Still, make_burst
from camera_agent.cameras.failure import CameraFailure
from camera_agent.clock import Clock, iso_ms
from camera_agent.journal import line
from camera_agent.settings import CameraSettings

_log = logging.getLogger(__name__)
_NAMESPACE = uuid.UUID("5a3f5c2e-7d54-5c0b-9b0e-0f6f6d1d2a71")
_TOLERANCE_S = 0.0005
_ROOM_WAIT_S = 1.0


class Picture(NamedTuple):
    """Picture `number`, counted from 0, of a recording, taken `at_s` after the first. `jpeg` is asked only
    before the next picture is.
    """

    number: int
    at_s: float
    jpeg: Callable[[], bytes]


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


class Cut(NamedTuple):
    """A burst's number, its frames with instants in Unix milliseconds, and the footage time of the last one."""

    number: int
    stills: list[Still]
    end_s: float


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
            cut = next(self._cuts(msgspec.structs.replace(position, next_burst=0)), None)
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
        for cut in self._cuts(position):
            first_s = (cut.stills[0].at_ms - position.started_ms) / 1000
            begun_s = first_s if begun_s is None else begun_s
            is_due = self._wait_until_due(origin_s, cut.end_s - begun_s, cut.stills[-1].at_ms)
            if not is_due or not self._keep(self._bind(position, cut)):
                return
            self._remember(msgspec.structs.replace(position, next_burst=cut.number + 1))
        if not self._stop.is_set():
            self.is_over = True
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
        said = (
            *(self._site, cut.name, None if cut.started_at is None else cut.started_at.timestamp()),
            *(cut.burst.frames, cut.spacing_s, cut.every_s, cut.first_picture or 0),
            *(cut.quality, cut.max_width, self._footage.fingerprint()),
        )
        return hashlib.sha256(repr(said).encode()).hexdigest()[:16]

    def _cuts(self, position: Position) -> Iterator[Cut]:
        """The footage cut into bursts, from `position.next_burst` on.

        Burst n begins `n * every_s` after the first picture played, and its frame j is the first picture at or
        after `j * spacing_s` more. Half a millisecond of tolerance keeps rounding from moving a picture that
        stands exactly on its place.
        """
        number, last, end_s = -1, (-1, -1), 0.0
        stills: list[Still] = []
        for picture, place in self._placed():
            if self._stop.is_set():
                return
            if place[0] < position.next_burst or place == last:
                continue
            if place[0] != number and stills:
                yield Cut(number, stills, end_s)
                stills = []
            last, number = place, place[0]
            still = self._still(picture, position)
            if still is not None:
                stills.append(still)
                end_s = picture.at_s
            if len(stills) == self._settings.burst.frames:
                yield Cut(number, stills, end_s)
                stills = []
        if stills:
            yield Cut(number, stills, end_s)

    def _placed(self) -> Iterator[tuple[Picture, tuple[int, int]]]:
        """The pictures that fall into a burst, each with the burst's number and the place in it."""
        every_s, spacing_s = self._settings.every_s, self._settings.spacing_s
        origin_s: float | None = None
        for picture in self._footage.pictures():
            if picture.number < (self._settings.first_picture or 0):
                continue
            origin_s = picture.at_s if origin_s is None else origin_s
            since_s = picture.at_s - origin_s + _TOLERANCE_S
            number = int(since_s / every_s)
            index = int((since_s - number * every_s) / spacing_s)
            if index < self._settings.burst.frames:
                yield picture, (number, index)

    def _still(self, picture: Picture, position: Position) -> Still | None:
        try:
            return Still(jpeg=picture.jpeg(), at_ms=position.started_ms + round(picture.at_s * 1000))
        except CameraFailure as failure:
            camera = self._settings.name
            _log.warning(line("picture_skipped", camera=camera, picture=picture.number, cause=failure))
            return None

    def _bind(self, position: Position, cut: Cut) -> Burst:
        """The footage's own time stands in for the clocks, so that the burst comes out the same the next time."""
        identity = f"{self._site}/{self._settings.name}/{position.started_ms}/{position.plan}"
        first_ms = cut.stills[0].at_ms
        return make_burst(
            cut.stills,
            burst_id=str(uuid.uuid5(_NAMESPACE, f"{identity}/{cut.number}")),
            site=self._site,
            camera=self._settings.name,
            captured_ms=first_ms,
            clock=ClockReading(
                synced=True,
                boot_id=str(uuid.uuid5(_NAMESPACE, identity)),
                monotonic_ms=first_ms - position.started_ms,
            ),
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
        return True

    def _recall(self) -> Position | None:
        try:
            return msgspec.json.decode(self._memory.read_bytes(), type=Position)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.DecodeError) as error:
            _log.warning(line("position_unreadable", file=self._memory, cause=error))
            return None

    def _remember(self, position: Position) -> None:
        durable.write(self._memory, [msgspec.json.encode(position)])

    def _retry(self, backoff: Backoff, failure: Exception) -> None:
        retry_in_s = backoff.next_s()
        _log.warning(line("camera_failed", camera=self._settings.name, cause=failure, retry_in_s=retry_in_s))
        self._clock.wait_until(self._clock.monotonic_s() + retry_in_s, self._stop)
