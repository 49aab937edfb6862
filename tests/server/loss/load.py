"""Cameras that send to several servers on one database until all is accepted, and what is in the database then."""

from __future__ import annotations

import io
import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import requests
from PIL import Image

from policies.events import Event
from server.store import open_store
from tests.server.launched import PATIENCE_S, Running
from tests.server.loss.server import Line
from tests.server.web_client import envelope, files

FRAMES = 4
_RESEND_S = 0.2
_STEPS = 40


@dataclass(frozen=True, slots=True)
class Failure:
    """A request that was not accepted: the status and what was said; status 0: there was no answer."""

    status: int
    detail: str


@dataclass
class Camera:
    """Somebody walks through its picture again and again. It sends each burst until it is accepted, in order.

    Each request goes to the next address, as by a proxy that knows nothing of the servers.
    """

    number: int
    addresses: Sequence[str]
    since_at: datetime
    on_change: Callable[[], None]
    accepted_at_s: list[float] = field(default_factory=list)
    failed: list[Failure] = field(default_factory=list)

    def send(self, burst: int) -> None:
        """Raises AssertionError for an answer that does not ask to be sent again."""
        frames = [walker(burst * FRAMES + index + 7 * self.number) for index in range(FRAMES)]
        began_at = self.since_at + timedelta(seconds=2 * burst)
        sent = envelope(
            frames,
            burst_id=f"burst-{self.number}-{burst:05d}",
            camera=f"gate{self.number}",
            captured_at=began_at.isoformat().replace("+00:00", "Z"),
        )
        part = ("burst", ("burst.json", json.dumps(sent), "application/json"))
        until_s = time.monotonic() + PATIENCE_S
        while time.monotonic() < until_s:
            parts = [part, *(("file", (name, content, "image/jpeg")) for content, name in files(frames))]
            if (failure := self._post(parts)) is None:
                self.accepted_at_s.append(time.monotonic())
                self.on_change()
                return
            self.failed.append(failure)
            self.on_change()
            threading.Event().wait(_RESEND_S)
        raise AssertionError(f"burst {burst} of camera {self.number} was never accepted: {self.failed[-1]}")

    def _post(self, parts: Sequence[object]) -> Failure | None:
        address = self.addresses[(self.number + len(self.accepted_at_s) + len(self.failed)) % len(self.addresses)]
        try:
            answer = requests.post(f"{address}/v1/bursts", files=parts, timeout=PATIENCE_S)  # type: ignore[arg-type]
        except (requests.ConnectionError, requests.exceptions.ChunkedEncodingError) as error:
            return Failure(0, type(error).__name__)
        if answer.status_code in (200, 201):
            return None
        detail = answer.json()["detail"]
        assert answer.status_code == 503, (answer.status_code, detail)
        assert int(answer.headers["Retry-After"]) >= 1, detail
        assert answer.headers["Content-Type"] == "application/problem+json"
        return Failure(503, detail)


class Load:
    """Cameras that send in threads of their own, `bursts` each, or until `done` is set."""

    def __init__(self, addresses: Sequence[str], since_at: datetime, cameras: int, bursts: float) -> None:
        self._changed = threading.Condition()
        self.cameras = [Camera(number, addresses, since_at, self._notify) for number in range(cameras)]
        self.done = threading.Event()
        self._bursts = bursts
        self._errors: list[BaseException] = []
        self._threads = [threading.Thread(target=self._run, args=(camera,)) for camera in self.cameras]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def wait_for(self, count: int) -> None:
        """Until so many more bursts are accepted."""
        with self._changed:
            until = self._count + count
            assert self._changed.wait_for(lambda: self._count >= until or self._errors, PATIENCE_S)
        self._raise()

    def wait_for_failures(self, count: int) -> None:
        """Until so many requests have failed in all."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.failed) >= count or self._errors, PATIENCE_S)
        self._raise()

    def join(self) -> None:
        """Until all is accepted."""
        for thread in self._threads:
            thread.join()
        self._raise()

    def images_a_second(self, seconds: float, until_s: float) -> float:
        """The speed in the `seconds` before an instant (monotonic)."""
        accepted = (at_s for camera in self.cameras for at_s in list(camera.accepted_at_s))
        return FRAMES * sum(until_s - seconds <= at_s < until_s for at_s in accepted) / seconds

    @property
    def failed(self) -> list[Failure]:
        return [failure for camera in self.cameras for failure in camera.failed]

    @property
    def _count(self) -> int:
        return sum(len(camera.accepted_at_s) for camera in self.cameras)

    def _notify(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def _run(self, camera: Camera) -> None:
        try:
            while len(camera.accepted_at_s) < self._bursts and not self.done.is_set():
                camera.send(len(camera.accepted_at_s))
        except BaseException as error:  # noqa: BLE001  `join` raises it
            with self._changed:
                self._errors.append(error)
                self._changed.notify_all()

    def _raise(self) -> None:
        if self._errors:
            raise self._errors[0]


def walker(step: int) -> bytes:
    """A dark picture in which somebody bright walks from left to right, and is away for as long."""
    place, picture = step % _STEPS, Image.new("L", (160, 120), 20)
    if place < _STEPS // 2:
        picture.paste(250, (8 * place, 40, 8 * place + 20, 100))
    picture.putpixel((0, 119), step % 20)  # no two pictures of a living camera are the same
    picture.putpixel((1, 119), step // 20 % 20)
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=95)
    return out.getvalue()


def an_hour_ago() -> datetime:
    return datetime.now(UTC).replace(microsecond=0) - timedelta(hours=1)


class Servers:
    """Servers on one database, started as `names` in folders beside each other."""

    def __init__(
        self,
        folder: Path,
        url: str,
        names: Sequence[str],
        running: list[Running],
        *,
        image_s: float = 0.0,
        believed_s: float = 20.0,
    ) -> None:
        self.sent = folder / "sent"
        self.processes: dict[str, Running] = {}
        self._folder, self._url, self._running = folder, url, running
        self._image_s, self._believed_s = str(image_s), str(believed_s)
        for name in names:
            self._start(name, 0)
        self._ports = {name: int(server.line(r"^port (\d+)")[1]) for name, server in self.processes.items()}
        for server in self.processes.values():
            server.line("ensemble ready")
        self.addresses = [f"http://127.0.0.1:{port}" for port in self._ports.values()]

    def start_again(self, name: str) -> None:
        """Start one that was killed, on its port; it may not be ready yet."""
        self._start(name, self._ports[name])

    def _start(self, name: str, port: int) -> None:
        place = [str(self._folder / name), self._url, name, str(self.sent)]
        arguments = [*place, self._image_s, str(port), self._believed_s]
        self.processes[name] = Running(["tests.server.loss.server", *arguments])
        self._running.append(self.processes[name])

    @property
    def lines(self) -> list[Line]:
        """What the channel sent, in the order in which it did."""
        return [msgspec.json.decode(line, type=Line) for line in self.sent.read_bytes().splitlines()]

    @property
    def output(self) -> Iterator[str]:
        return (line for server in self.processes.values() for line in server.output)


def logs(url: str) -> dict[str, list[tuple[Event, bool, bool]]]:
    """The event log of each camera in the order of announcement, with what is late or withdrawn."""
    found: dict[str, list[tuple[Event, bool, bool]]] = {}
    with closing(open_store(url)) as store:
        for logged in store.events(after_seq=0):
            found.setdefault(logged.event.camera, []).append((logged.event, logged.late, logged.is_withdrawn))
    return found


def is_all_sent(url: str) -> bool:
    with closing(open_store(url)) as store:
        return [state.backlog for state in store.channel_states()] == [0]
