"""Whether the agent's memory grows: `python -m tests.benchmarks.agent.growth KIND [--bursts 10000] [--minutes 60]`.

KIND is `snapshot`, `mjpeg` or `opencv`. An agent process takes single-frame bursts of 320x240, twelve a second, sent
to a stand-in server; its resident memory is told ten times on the way, with how many bursts wait: what the server
cannot keep up with is no growth. With `--minutes` it takes the default bursts of 640x480 with the gate for so long
instead. Exit code 1 when the bound is passed, or it grew by more than 2 MB after the first tenth.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.benchmarks.agent.__main__ import MAX_BYTES, SOURCES, Measured, camera, pictures
from tests.camera_agent.stand_in import Seen, StandIn

TENTHS = 10
MAX_GROWTH_BYTES = 2_000_000


class Forgetful(StandIn):
    """A server that only counts: the memory of this process is none of the matter."""

    count = 0

    def _remember(self, seen: Seen) -> bool:
        self.count += 1
        self.arrivals.clear()
        return False


def by_bursts(server: Forgetful, bursts: int) -> Iterator[str]:
    for tenth in range(1, TENTHS + 1):
        wanted = bursts * tenth // TENTHS
        server.wait_for(lambda wanted=wanted: server.count >= wanted, 3600.0)  # type: ignore[misc]
        yield f"{server.count:6} bursts"


def by_minutes(server: Forgetful, minutes: float) -> Iterator[str]:
    begun_s = time.monotonic()
    for tenth in range(1, TENTHS + 1):
        threading.Event().wait(max(0.0, begun_s + minutes * 60 * tenth / TENTHS - time.monotonic()))
        yield f"{minutes * tenth / TENTHS:6.1f} minutes, {server.count:6} bursts"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=list(SOURCES))
    parser.add_argument("footage", nargs="?", type=Path)
    parser.add_argument("--bursts", type=int, default=10_000)
    parser.add_argument("--minutes", type=float)
    options = parser.parse_args()
    steps: Callable[[Forgetful], Iterator[str]] = lambda server: by_bursts(server, options.bursts)  # noqa: E731
    more, per_s, size = "burst = { frames = 1, spacing_s = 0.08 }\n", 25.0, (320, 240)
    if options.minutes:
        steps = lambda server: by_minutes(server, options.minutes)  # noqa: E731
        more, per_s, size = "[cameras.gate]\n", 10.0, (640, 480)
    read: list[int] = []
    with (
        tempfile.TemporaryDirectory() as folder,
        Forgetful() as server,
        camera(pictures(options.footage, width=size[0], height=size[1]), per_s=per_s) as url,
    ):
        agent = Measured(Path(folder), server, SOURCES[options.kind].format(url=url) + "\n" + more)
        for step in steps(server):
            read.append(agent.resident_bytes())
            waiting = agent.status()["waiting"]
            sys.stdout.write(f"{options.kind}: {step}: {read[-1] / 1e6:6.2f} MB resident, {waiting} waiting\n")
            sys.stdout.flush()
        agent.stop()
    is_small, is_flat = max(read) < MAX_BYTES[options.kind], max(read) - read[0] < MAX_GROWTH_BYTES
    sys.stdout.write(
        f"{options.kind}: {'within the bound' if is_small else 'TOO MUCH'}, {'flat' if is_flat else 'GREW'}\n"
    )
    return 0 if is_small and is_flat else 1


if __name__ == "__main__":
    sys.exit(main())
