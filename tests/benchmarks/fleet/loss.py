"""How soon two servers on one PostgreSQL are at full speed again after a loss under load.

    python -m tests.benchmarks.fleet.loss [server|fast|immediate ...] [--cameras 8] [--image-s 0.1]

`server`: one of the two gets SIGKILL with all its processes, and is started again at once, as by systemd. `fast` and
`immediate`: PostgreSQL, which writes to its disk before it answers, is stopped in that mode and started again. Cameras
send bursts as fast as they are answered, each request to the next server. An image takes a server a set time in which
it sleeps, so that the speed is that of the servers. The tests in `tests/server/loss` compare the logs.
"""

from __future__ import annotations

import math
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Literal, get_args

import click

from tests.server import databases
from tests.server.databases import Cluster
from tests.server.launched import Running
from tests.server.loss.load import FRAMES, Failure, Load, Servers, an_hour_ago

Loss = Literal["server", "fast", "immediate"]

BACK_WITHIN_S = 15.0
_BEFORE_S, _WINDOW_S = 8.0, 5.0
_FULL = 0.9
_GIVE_UP_S = 60.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """Speeds are in images per second: `before`, and `after` in each second after the loss. `back_s` after it the first
    span of full speed begins (NaN: not within a minute). `gap_s` is the longest time in which no burst was accepted.
    """

    before: float
    after: tuple[float, ...]
    gap_s: float
    back_s: float
    bursts: int
    failed: tuple[Failure, ...]


def measure(folder: Path, loss: Loss, cameras: int, image_s: float) -> Outcome:
    """Run two servers under load through one loss. Raises AssertionError for an answer that is not to be sent again."""
    running: list[Running] = []
    try:
        with databases.durable_database() as (cluster, url):
            servers = Servers(folder, url, ["one", "two"], running, image_s=image_s)
            load = Load(servers.addresses, an_hour_ago(), cameras, math.inf)
            load.start()
            try:
                load.wait_for(2 * cameras)
                _pause(_BEFORE_S)
                before = load.images_a_second(_BEFORE_S, time.monotonic())
                lost_s = time.monotonic()
                _lose(loss, servers, cluster)
                back_s = _back(load, before, lost_s)
            finally:
                load.done.set()
                load.join()
    finally:
        for server in running:
            server.end()
    accepted = sorted(at_s for camera in load.cameras for at_s in camera.accepted_at_s)
    seconds = range(1, 1 + math.ceil(_GIVE_UP_S if math.isnan(back_s) else back_s + _WINDOW_S))
    return Outcome(
        before,
        tuple(load.images_a_second(1.0, lost_s + second) for second in seconds),
        _gap(accepted, lost_s),
        back_s,
        len(accepted),
        tuple(load.failed),
    )


def _lose(loss: Loss, servers: Servers, cluster: Cluster) -> None:
    if loss == "server":
        servers.processes["one"].end()
        servers.start_again("one")
    else:
        cluster.stop(loss)
        cluster.start()


def _back(load: Load, before: float, lost_s: float) -> float:
    while (now_s := time.monotonic()) < lost_s + _GIVE_UP_S:
        if now_s > lost_s + _WINDOW_S and load.images_a_second(_WINDOW_S, now_s) >= _FULL * before:
            return now_s - _WINDOW_S - lost_s
        _pause(0.1)
    return math.nan


def _gap(accepted: Sequence[float], lost_s: float) -> float:
    """The longest time without an accepted burst, from a second before the loss on."""
    around = [at_s for at_s in accepted if at_s > lost_s - 1.0]
    return max((b - a for a, b in pairwise(around)), default=math.nan)


def _pause(seconds: float) -> None:
    threading.Event().wait(seconds)


@click.command()
@click.argument("losses", nargs=-1, type=click.Choice(get_args(Loss)))
@click.option("--cameras", default=8)
@click.option("--image-s", default=0.1, help="What an image takes a server.")
def main(losses: tuple[Loss, ...], cameras: int, image_s: float) -> None:
    """Measure, and print."""
    for loss in losses or get_args(Loss):
        with tempfile.TemporaryDirectory() as folder:
            outcome = measure(Path(folder), loss, cameras, image_s)
        failed = Counter(failure.detail for failure in outcome.failed)
        click.echo(
            f"{loss}: {outcome.bursts} bursts of {FRAMES}; {outcome.before:.1f} images/s before; in the seconds after "
            f"{', '.join(f'{speed:.0f}' for speed in outcome.after)}; no burst accepted for {outcome.gap_s:.1f} s; "
            f"full speed after {outcome.back_s:.1f} s (bar: {BACK_WITHIN_S:g}); {len(outcome.failed)} requests failed, "
            f"and were sent again: {dict(failed)}"
        )


if __name__ == "__main__":
    main()
