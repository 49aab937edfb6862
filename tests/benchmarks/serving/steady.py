"""Whether the server's memory stays where it is, under a mixed load that does not end.

    python -m tests.benchmarks.serving.steady --footage vtest.avi --minutes 60 [--ensemble torchvision] ...

Bursts through the whole pipeline (site, database, events), single images, and all that is refused: pictures that are
none, too many of them, crowds beyond the admission limit. Memory is the proportional size of
all the server's processes; its slope is a least-squares line through everything after the warm-up, the first quarter.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import statistics
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from itertools import count, cycle
from pathlib import Path

import click

from tests.benchmarks.events.footage import SIZES, bursts_of, frames_of
from tests.benchmarks.serving.processes import Hosted, end_on_sigterm
from tests.benchmarks.serving.wire import multipart

BURST = 8
_SITE = 'site = "bench"\n'
_SAMPLED_EVERY_S = 5.0
_CROWD = 60
_WARM_UP = 0.25


class Sender:
    """Sends one kind of request after the other, and counts what was said."""

    def __init__(self, port: int, frames: Sequence[bytes]) -> None:
        self._port = port
        self._frames = cycle(frames)
        self._bursts = cycle(bursts_of(frames, BURST))
        self._numbers = count()
        self._run = f"{time.time_ns():x}"
        self.statuses: Counter[str] = Counter()
        self.images = 0

    def burst(self) -> None:
        """Eight frames of one of four cameras, through the pipeline."""
        frames, number = next(self._bursts), next(self._numbers)
        told = {
            "burst_id": f"{self._run}-{number}",
            "site": "bench",
            "camera": f"camera-{number % 4}",
            "reason": "schedule",
            "captured_at": datetime.now(UTC).isoformat().replace("+00:00", "Z"),
            "offsets_ms": [125 * place for place in range(len(frames))],
            "clock": {"synced": True},
            "frame_sha256": [hashlib.sha256(frame).hexdigest() for frame in frames],
        }
        part = b'--frame\r\nContent-Disposition: form-data; name="burst"\r\nContent-Type: application/json\r\n\r\n'
        files, content_type = multipart(frames)
        self._send("burst", "/v1/bursts", part + json.dumps(told).encode() + b"\r\n" + files, content_type, BURST)

    def alone(self) -> None:
        """One image."""
        self._send("image", "/classify", *multipart([next(self._frames)]), 1)

    def broken(self) -> None:
        """A picture that ends too early, among whole ones."""
        frame = next(self._frames)
        self._send("broken", "/batch", *multipart([frame, frame[: len(frame) // 2]]), 1)

    def many(self) -> None:
        """More images than are taken, in a body that is read."""
        self._send("many", "/batch", *multipart([b"x"] * 100), 0)

    def crowd(self) -> None:
        """More at once than are admitted; whoever is refused does not come back."""
        body = multipart([next(self._frames)])
        crowd = [threading.Thread(target=self._send, args=("crowd", "/batch", *body, 1)) for _ in range(_CROWD)]
        for one in crowd:
            one.start()
        for one in crowd:
            one.join()

    def _send(self, kind: str, path: str, body: bytes, content_type: str, images: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=120)
        try:
            connection.request("POST", path, body, {"Content-Type": content_type})
            status = str(connection.getresponse().status)
        except OSError as error:
            status = type(error).__name__
        finally:
            connection.close()
        self.statuses[f"{kind} {status}"] += 1
        self.images += images if status in ("200", "201", "422") else 0


@click.command()
@click.option("--footage", type=click.Path(exists=True, path_type=Path), required=True)
@click.option("--ensemble", "name", type=click.Choice(["torchvision", "shipped"]), default="torchvision")
@click.option("--size", type=click.Choice(list(SIZES)), default="768x576")
@click.option("--minutes", default=60.0)
@click.option("--images-per-s", default=4.0, help="About so many are judged; crowds come on top, every minute.")
def main(footage: Path, name: str, size: str, minutes: float, images_per_s: float) -> None:
    """Load, sample, and print."""
    end_on_sigterm()
    frames = frames_of(footage, size)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "sites").mkdir()
        (Path(folder) / "sites" / "bench.toml").write_text(_SITE)
        with Hosted(
            "tests.benchmarks.serving.served", name, str(footage), folder, "fp32", log=Path(folder) / "log"
        ) as server:
            sender, cpu_s = Sender(server.port, frames), server.cpu_s()
            samples = _loaded(server, sender, 60 * minutes, images_per_s)
            cpu_s = server.cpu_s() - cpu_s
            click.echo(f"{name}, {size}: {minutes:g} minutes, {sender.images} images, {cpu_s / 60 / minutes:.2f} cores")
            click.echo("; ".join(f"{what}: {times}" for what, times in sorted(sender.statuses.items())))
            click.echo(_told(samples))
            click.echo(f"peak {server.peak_mb:.0f} MB")


def _loaded(server: Hosted, sender: Sender, seconds: float, images_per_s: float) -> list[tuple[float, float]]:
    """The load; (seconds since the beginning, MB) every five seconds."""
    began, samples, next_crowd_s = time.monotonic(), [(0.0, server.memory_mb())], 30.0
    steps: list[Callable[[], None]] = [sender.burst, *[sender.alone] * BURST, sender.broken, sender.many]
    pause_s = (2 * BURST + 1) / images_per_s / len(steps)
    for number, step in enumerate(cycle(steps), 1):
        now_s = time.monotonic() - began
        if now_s >= seconds:
            return samples
        step()
        if now_s - samples[-1][0] >= _SAMPLED_EVERY_S:
            samples.append((now_s, server.memory_mb()))
        if now_s >= next_crowd_s:
            next_crowd_s += 60.0
            sender.crowd()
        threading.Event().wait(max(0.0, began + number * pause_s - time.monotonic()))
    return samples


def _told(samples: Sequence[tuple[float, float]]) -> str:
    warm_s = _WARM_UP * samples[-1][0]
    steady = [(at_s / 3600, mb) for at_s, mb in samples if at_s >= warm_s]
    hours, megabytes = zip(*steady, strict=True)
    slope = statistics.linear_regression(hours, megabytes).slope if len(steady) > 2 else float("nan")
    quarters = [megabytes[len(megabytes) * part // 4] for part in range(4)] + [megabytes[-1]]
    return (
        f"memory: {samples[0][1]:.0f} MB at first; after the warm-up {min(megabytes):.0f} to {max(megabytes):.0f} MB, "
        f"slope {slope:+.1f} MB an hour ({len(steady)} samples; at its quarters "
        f"{', '.join(f'{mb:.0f}' for mb in quarters)} MB)"
    )


if __name__ == "__main__":
    main()
