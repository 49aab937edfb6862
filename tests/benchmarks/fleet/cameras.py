"""The cameras of `fleet`: the agent's own bursts and its own HTTP client, many cameras to a thread.

A camera sends its next burst once the one before is answered, so it is never in two places. Its clock is that of the
data: a day of a small fleet passes in minutes. A burst takes a connection of its own, as a server with more cameras
than it keeps connections gives them.
"""

from __future__ import annotations

import queue
import random
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import msgspec

from camera_agent.burst import Burst, ClockReading, Still, make_burst, new_burst_id
from camera_agent.clock import Clock
from camera_agent.config.settings import ServerSettings
from camera_agent.spool.entry import SpoolEntry, entry_of_burst
from camera_agent.uplink.http_client import Accepted, HttpClient, RetryLater
from camera_agent.wall_clock import WallClock
from tests.benchmarks.events.scenes import SCENES, Drawn
from tests.benchmarks.fleet.place import CameraPlace
from tests.benchmarks.fleet.recorded import BURST, BURSTS, SceneName

_PICTURES = 10
_SIZE = (768, 576)
_QUALITY = 85


def days_ago(days: float = 3.0) -> int:
    """The instant so long ago, in ms. A server takes what its camera took in the past; what lies ahead has to wait."""
    return time.time_ns() // 1_000_000 - round(days * 86_400_000)


class Activity(msgspec.Struct, frozen=True):
    """What the cameras see. `busy`: the share of the stretches of four bursts with somebody; `crowd`: of these, the
    share with a crowd. `frames` a burst, a burst every `every_s`.
    """

    busy: float = 0.1
    crowd: float = 0.2
    frames: int = BURST
    every_s: float = 10.0

    def scene(self, camera: int, number: int) -> SceneName:
        """What a camera sees in its burst with a number: the same each time."""
        chance = random.Random(f"{camera} {number // BURSTS}")
        if chance.random() >= self.busy:
            return "quiet"
        return "crowd" if chance.random() < self.crowd else "one"


class Sent(msgspec.Struct, frozen=True, gc=False):
    """One answer: when it was there (s of Unix time), how long it took, how many bytes were sent, its events' ids."""

    at_s: float
    took_s: float
    image_bytes: int
    events: tuple[str, ...]


@dataclass(eq=False)
class _Camera:
    place: CameraPlace
    port: int
    number: int
    waiting: SpoolEntry | None = None


@dataclass(eq=False)
class Cameras:
    """All cameras of a fleet, over `at_once` connections: `start`, look at `sent`, `stop`, and perhaps go on.

    Their bursts are numbered from `first`; number 0 is taken at `begin_ms`.
    """

    places: Sequence[CameraPlace]
    ports: Sequence[int]
    activity: Activity
    at_once: int
    begin_ms: int
    first: int = 0
    sent: list[Sent] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    """Why bursts had to be sent again."""

    def __post_init__(self) -> None:
        self._pictures = drawn_pictures()
        self._free: queue.SimpleQueue[_Camera] = queue.SimpleQueue()
        for place in random.Random(1).sample(self.places, len(self.places)):  # all sites from the beginning
            self._free.put(_Camera(place, self.ports[place.number % len(self.ports)], self.first))
        self._stop = threading.Event()
        self._failure: BaseException | None = None
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        self._stop.clear()
        self._threads = [threading.Thread(target=self._run) for _ in range(min(self.at_once, len(self.places)))]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Once every burst that is on its way is answered. Raises what went wrong in a thread."""
        self._stop.set()
        for thread in self._threads:
            thread.join()
        if self._failure is not None:
            raise self._failure

    @property
    def has_failed(self) -> bool:
        return self._failure is not None

    def _run(self) -> None:
        clock = WallClock(Clock())
        clients = {port: HttpClient(ServerSettings(url=f"http://127.0.0.1:{port}"), clock) for port in self.ports}
        try:
            while not self._stop.is_set():
                camera = self._free.get()
                self._send(camera, clients[camera.port])
                self._free.put(camera)
        except BaseException as error:  # noqa: BLE001  `stop` raises it
            self._failure = error
            self._stop.set()

    def _send(self, camera: _Camera, client: HttpClient) -> None:
        entry = camera.waiting or self._entry(camera)
        begun_s = time.perf_counter()
        outcome = client.send_burst(entry, camera.place.token)
        took_s = time.perf_counter() - begun_s
        client.close()
        if isinstance(outcome, RetryLater):
            camera.waiting = entry
            self.refused.append(outcome.cause)
            self._stop.wait(max(0.2, outcome.retry_after_s))
            return
        if not isinstance(outcome, Accepted):
            raise RuntimeError(f"a burst is refused: {outcome}")
        camera.waiting = None
        camera.number += 1
        events = tuple(event["id"] for event in outcome.receipt.events)
        self.sent.append(Sent(time.time(), took_s, entry.size_bytes, events))

    def _entry(self, camera: _Camera) -> SpoolEntry:
        burst = self._burst(camera.place, camera.number)
        return entry_of_burst(burst, camera.number, Path(), 0.0)

    def _burst(self, place: CameraPlace, number: int) -> Burst:
        """What the agent makes of a camera's frames, one a second."""
        every_ms, frames = round(1000 * self.activity.every_s), self.activity.frames
        phase_ms = every_ms * place.number // len(self.places)
        captured_ms = self.begin_ms + number * every_ms + phase_ms
        scene = self.activity.scene(place.number, number)
        first = number % BURSTS * BURST
        stills = [
            Still(self._picture(scene, first + index, f"{place.number} {number} {index}"), index * every_ms // frames)
            for index in range(frames)
        ]
        return make_burst(
            stills,
            burst_id=new_burst_id(captured_ms),
            site=place.site,
            camera=place.camera,
            captured_ms=captured_ms,
            clock=ClockReading(True, place.boot_id, captured_ms - self.begin_ms, 0.01),
        )

    def _picture(self, scene: SceneName, frame: int, name: str) -> bytes:
        """A JPEG whose comment names the labels, and which no other has the bytes of."""
        comment = f"fleet {scene} {frame} {name}".encode()
        picture = self._pictures[frame % len(self._pictures)]
        return b"".join((picture[:2], b"\xff\xfe", (len(comment) + 2).to_bytes(2, "big"), comment, picture[2:]))


def drawn_pictures() -> list[bytes]:
    """Pictures of the size and quality that an agent sends of OpenCV's sample clip."""
    drawn, form = Drawn(SCENES["empty"], 1), [cv2.IMWRITE_JPEG_QUALITY, _QUALITY]
    pictures = (cv2.resize(drawn.picture(number), _SIZE) for number in range(_PICTURES))
    return [cv2.imencode(".jpg", picture, form)[1].tobytes() for picture in pictures]
