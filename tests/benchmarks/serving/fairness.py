"""What honest cameras notice of one bad client.

    python -m tests.benchmarks.serving.fairness [--cameras 20] [--every-s 5] [--rounds 3] [--image-ms 35] [--seconds 20]
    python -m tests.benchmarks.serving.fairness --models yolov3-tiny [...]

Honest cameras send a burst of five frames every five seconds, each with its token. In each round they are alone, then
beside a greedy client, then beside a slow one. The greedy client has one token and 32 connections. On each it sends
bursts of 64 frames, the next one as soon as the last is answered, and takes no notice of `Retry-After`. The slow one
has one token and 32 uploads under way, of 51 kB/s in all, each of which it begins anew when it ends.

The server is real; its ensemble takes `--image-ms` for an image, in which a worker sleeps. So figures show queueing,
not the neighbours on the machine. With `--models`, these judge the pictures instead, and the neighbours count: choose
`--every-s` so that the machine keeps pace. Latencies count from the instant a burst was due. Each bad client is a
process of its own.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import multiprocessing
import os
import platform
import random
import socket
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import click
from PIL import Image

from server.store import open_store
from server.web.auth import new_token
from tests.benchmarks.serving.processes import Hosted, end_on_sigterm
from tests.benchmarks.serving.traffic import Answer, Traffic

FRAMES = 5
GREEDY_FRAMES = 64
CONNECTIONS = 32
SLOW_BYTES_PER_S = 51_000
SITE = "yard"
_JOINS_S = 5.0
"""Until a bad client's process has begun and filled what it can."""

_numbers = itertools.count()


@dataclass
class Told:
    """What honest cameras were told: how long each burst took (s), and statuses other than 201."""

    took_s: list[float] = field(default_factory=list)
    refused: Counter[int] = field(default_factory=Counter)

    def add(self, other: Told) -> None:
        self.took_s += other.took_s
        self.refused += other.refused

    def quantile_s(self, share: float) -> float:
        return sorted(self.took_s)[min(len(self.took_s) - 1, int(share * len(self.took_s)))]


@dataclass(frozen=True, slots=True)
class Camera:
    """`pictures` are what it sends, over and over."""

    name: str
    token: str
    pictures: Sequence[bytes]

    def request(self) -> bytes:
        """A whole HTTP request with a new burst, taken just now."""
        count, number = len(self.pictures), next(_numbers)
        envelope = {
            "burst_id": f"burst-{number:08d}",
            "site": SITE,
            "camera": self.name,
            "captured_at": datetime.now(UTC).isoformat(),
            "offsets_ms": [1000 * index // count for index in range(count)],
            "frame_sha256": [hashlib.sha256(picture).hexdigest() for picture in self.pictures],
        }
        head = b'--x\r\nContent-Disposition: form-data; name="burst"\r\nContent-Type: application/json\r\n\r\n'
        file = b'\r\n--x\r\nContent-Disposition: form-data; name="file"; filename="f.jpg"\r\n\r\n'
        body = head + json.dumps(envelope).encode() + b"".join(file + picture for picture in self.pictures)
        body += b"\r\n--x--\r\n"
        return (
            f"POST /v1/bursts HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
            f"Authorization: Bearer {self.token}\r\nContent-Type: multipart/form-data; boundary=x\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        ).encode() + body


@click.command()
@click.option("--cameras", default=20)
@click.option("--every-s", default=5.0, help="Between the bursts of an honest camera.")
@click.option("--rounds", default=3)
@click.option("--image-ms", default=35.0)
@click.option("--models", help="Of the catalogue, instead of workers that sleep.")
@click.option("--seconds", default=20.0, help="Of each kind of company, in each round.")
def main(cameras: int, every_s: float, rounds: int, image_ms: float, models: str | None, seconds: float) -> None:
    """Measure, and print."""
    end_on_sigterm()
    works = models or f"{image_ms:g} ms"
    click.echo(f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC; {platform.machine()}; {cameras} cameras, {works}")
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        (place / "sites").mkdir()
        (place / f"sites/{SITE}.toml").write_text(f'site = "{SITE}"\n', encoding="utf-8")
        name = models or f"paced:{image_ms / 1000}"
        with Hosted(
            "tests.benchmarks.serving.served", name, "none", folder, "fp32", log=place / "server.log"
        ) as server:
            honest = [_camera(place, f"camera-{number}", FRAMES) for number in range(cameras)]
            greedy, slow = _camera(place, "greedy", GREEDY_FRAMES), _camera(place, "slow", FRAMES)
            company = {"alone": None, "greedy": (_greedy, greedy), "slow": (_slow, slow)}
            told = {kind: Told() for kind in company}
            _measured(server.port, honest, every_s, every_s)
            for _round in range(rounds):
                for kind, joins in company.items():
                    with _joined(server.port, joins):
                        told[kind].add(_measured(server.port, honest, every_s, seconds))
    _tell(told)


def _camera(folder: Path, name: str, frames: int) -> Camera:
    made, store = new_token(), open_store(f"sqlite:///{folder}/sectorwatch.sqlite")
    store.add_token(made.id, name, SITE, name, made.hash)
    store.close()
    return Camera(name, made.token, [_picture(name, index) for index in range(frames)])


def _picture(name: str, index: int) -> bytes:
    """640x480, of about 20 kB."""
    noise = Image.frombytes("L", (80, 60), random.Random(f"{name}{index}").randbytes(80 * 60))
    out = io.BytesIO()
    noise.resize((640, 480)).save(out, "JPEG", quality=70)
    return out.getvalue()


@contextmanager
def _joined(port: int, joins: tuple[Callable[[int, Camera], None], Camera] | None) -> Iterator[None]:
    """With a bad client in a process of its own, if there is one."""
    if joins is None:
        yield
        return
    act, camera = joins
    process = multiprocessing.get_context("spawn").Process(target=act, args=(port, camera), daemon=True)
    process.start()
    time.sleep(_JOINS_S)
    try:
        yield
    finally:
        process.terminate()
        process.join()


def _measured(port: int, honest: Sequence[Camera], every_s: float, seconds: float) -> Told:
    traffic, told, chance = Traffic(), Told(), random.Random(3)
    began = time.perf_counter() + 1.0
    for camera in honest:
        due = began + chance.uniform(0, every_s)
        while due < began + seconds:
            traffic.at(due, _sending(traffic, port, camera, due, told))
            due += every_s
    traffic.run()
    return told


def _sending(traffic: Traffic, port: int, camera: Camera, due: float, told: Told) -> Callable[[], None]:
    def heard(answer: Answer) -> None:
        told.took_s.append(answer.at - due)
        told.refused.update([] if answer.status == 201 else [answer.status])

    return lambda: traffic.ask(port, camera.request(), heard)


def _greedy(port: int, camera: Camera) -> None:
    traffic = Traffic()
    whole = camera.request()
    began = whole.index(b"burst-")

    def send(_answer: Answer | None = None) -> None:
        name = b"%s-%08d" % (os.urandom(2).hex().encode(), next(_numbers))
        traffic.ask(port, whole[:began] + b"%b" % name.ljust(14, b"0")[:14] + whole[began + 14 :], send)

    for _ in range(CONNECTIONS):
        send()
    traffic.run()


def _slow(port: int, camera: Camera) -> None:
    each, whole = SLOW_BYTES_PER_S // CONNECTIONS // 10, memoryview(camera.request())
    under_way: list[tuple[socket.socket, memoryview]] = []
    while True:
        while len(under_way) < CONNECTIONS:
            under_way.append((socket.create_connection(("127.0.0.1", port)), whole))
        going = []
        for connection, left in under_way:
            with suppress(OSError):  # refused
                connection.sendall(left[:each])
                if left[each:]:
                    going.append((connection, left[each:]))
                    continue
            connection.close()
        under_way = going
        time.sleep(0.1)


def _tell(told: dict[str, Told]) -> None:
    alone = told["alone"]
    for kind, one in told.items():
        p50, p95 = one.quantile_s(0.5), one.quantile_s(0.95)
        click.echo(
            f"{kind}: {len(one.took_s)} bursts, p50 {p50 * 1e3:.0f} ms, p95 {p95 * 1e3:.0f} ms, "
            f"mean {statistics.mean(one.took_s) * 1e3:.0f} ms; of alone: p50 {p50 / alone.quantile_s(0.5):.2f}, "
            f"p95 {p95 / alone.quantile_s(0.95):.2f}; refused {dict(one.refused) or 'none'}"
        )


if __name__ == "__main__":
    main()
