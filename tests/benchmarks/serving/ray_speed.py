"""Images per second through the replicas on a Ray cluster of this machine, against the same engine in this process.

    python -m tests.benchmarks.serving.ray_speed --footage vtest.avi [--model nanodet-g ...] [--replicas 2] ...

Both have one worker for each processor, which the replicas share out among them. They take turns, so that both see the
same machine; the ratio is of each pair of turns.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import cycle
from pathlib import Path
from typing import Any

import click

from server.serving.machine import torch_environment

os.environ |= torch_environment()  # before torch is loaded

from server.app import create_app, runtime_of
from server.serving.answering import Handle
from server.settings import ServerSettings, processors
from tests.benchmarks.events.footage import SIZES, bursts_of, frames_of
from tests.benchmarks.serving.processes import end_on_sigterm
from tests.server import new_sqlite
from tests.server.ray_serving.clusters import cluster, loaded


@click.command()
@click.option(
    "--footage", type=click.Path(exists=True, path_type=Path), required=True, help="A video to take frames of."
)
@click.option("--model", "models", multiple=True, default=["nanodet-g", "frame-change"])
@click.option("--size", type=click.Choice(list(SIZES)), default="768x576")
@click.option("--replicas", default=1)
@click.option("--burst", "length", default=8, help="Frames in a burst.")
@click.option("--clients", default=4)
@click.option("--seconds", default=4.0, help="For each turn.")
@click.option("--rounds", default=4)
def main(
    footage: Path,
    models: tuple[str, ...],
    size: str,
    replicas: int,
    length: int,
    clients: int,
    seconds: float,
    rounds: int,
) -> None:
    """Measure, and print."""
    end_on_sigterm()
    bursts = bursts_of(frames_of(footage, size), length)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        nodes = stack.enter_context(cluster(processors()))
        local = stack.enter_context(_handle(folder / "local", models))
        began = time.monotonic()
        on_ray = {"ray_address": nodes.address, "ray_min_replicas": replicas, "ray_cpus": processors() / replicas}
        ray = stack.enter_context(_handle(folder / "ray", models, ensemble="ray", **on_ray))
        click.echo(f"{replicas} replicas ready after {time.monotonic() - began:.0f} s")
        assert ray.answer(bursts[0]) == local.answer(bursts[0]), "the answers differ"
        pairs = [tuple(_speed(handle, bursts, clients, seconds) for handle in (local, ray)) for _ in range(rounds)]
    for here, there in pairs:
        click.echo(f"in process {here:.1f} images/s, on Ray {there:.1f}: {there / here:.2f}")
    click.echo(f"median ratio {statistics.median(there / here for here, there in pairs):.2f}")


@contextmanager
def _handle(folder: Path, models: Sequence[str], **settings: Any) -> Iterator[Handle]:
    folder.mkdir()
    new_sqlite.provide(folder / "sectorwatch.sqlite")
    given = ServerSettings(data_dir=folder, models=tuple(models), golden_every_s=0.0, **settings)
    runtime = runtime_of(create_app(given, channels=[]))
    try:
        loaded(runtime)
        yield runtime.service.current().handle
    finally:
        runtime.stop()


def _speed(handle: Handle, bursts: Sequence[list[bytes]], clients: int, seconds: float) -> float:
    """Images per second of so many clients, each of which sends the next burst once its last one is answered."""
    until, counts = time.monotonic() + seconds, [0] * clients

    def ask(client: int) -> None:
        for burst in cycle([*bursts[client:], *bursts[:client]]):
            if time.monotonic() >= until:
                return
            handle.answer(burst)
            counts[client] += len(burst)

    threads = [threading.Thread(target=ask, args=(client,)) for client in range(clients)]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / (time.monotonic() - began)


if __name__ == "__main__":
    main()
