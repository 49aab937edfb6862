"""Limit, engine and server, cell by cell, in one interleaved run.

    python -m tests.benchmarks.engine --footage vtest.avi [--ensemble torchvision] [--size 768x576] [--seconds 3] ...

A ratio is of the limit in the same cell and round. On a machine that does other things the ratios of one run swing by
a fifth; processor seconds per image suffer less. Labels are compared with those of the ensemble asked frame by frame,
alone: every burst whose labels differ is counted as wrong.
"""

from __future__ import annotations

import os
import platform
import statistics
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import click

from server.hosting import torch_environment

os.environ |= torch_environment()  # before torch is loaded

import torch

from server.settings import processors
from tests.benchmarks.contestants import Contestant, InProcess, Labels, Limit, Measured, OverHttp, labels_of
from tests.benchmarks.work import SIZES, bursts_of, ensemble_named, frames_of

HEAD = "| frames | burst | clients | contestant | images/s | of the limit | p50 ms | p99 ms | CPU s/image | wrong |"


@click.command()
@click.option(
    "--footage", type=click.Path(exists=True, path_type=Path), required=True, help="A video to take frames of."
)
@click.option("--ensemble", "name", type=click.Choice(["torchvision", "eager", "shipped"]), default="torchvision")
@click.option("--size", "sizes", multiple=True, type=click.Choice(list(SIZES)), default=list(SIZES))
@click.option("--burst", "lengths", multiple=True, type=int, default=[1, 4, 8, 16], help="Frames in a burst.")
@click.option("--clients", "crowds", multiple=True, type=int, default=[1, 4, 16])
@click.option("--seconds", default=3.0, help="For each contestant in each cell and round.")
@click.option("--rounds", default=1)
def main(
    footage: Path,
    name: str,
    sizes: tuple[str, ...],
    lengths: tuple[int, ...],
    crowds: tuple[int, ...],
    seconds: float,
    rounds: int,
) -> None:
    """Measure, and print a table."""
    torch.set_num_threads(1)
    ensemble = ensemble_named(name, footage)
    click.echo(_where(name))
    click.echo(HEAD + "\n" + "|---" * HEAD.count(" | ") + "|---|")
    expected: dict[bytes, Labels] = {}
    with tempfile.TemporaryDirectory() as folder, OverHttp(name, footage, Path(folder), expected) as server:
        contestants: dict[str, Contestant] = {
            "limit": Limit(ensemble),
            "engine": InProcess(ensemble, expected),
            "server": server,
        }
        for size in sizes:
            frames = frames_of(footage, size)
            for length in lengths:
                bursts = bursts_of(frames, length)
                expected |= {b"".join(burst): labels_of(ensemble, ensemble.answer(burst)) for burst in bursts}
                for clients in crowds:
                    rows = {key: [one.measure(bursts, clients, 0.3)][:0] for key, one in contestants.items()}  # warm
                    for _ in range(rounds):
                        for key, contestant in contestants.items():
                            rows[key].append(contestant.measure(bursts, clients, seconds))
                    _tell(size, length, clients, rows)
        click.echo(f"\nmemory of the server: {server.memory_mb():.0f} MB (PSS)")


def _tell(size: str, length: int, clients: int, rows: dict[str, list[Measured]]) -> None:
    limit = [one.images / one.seconds for one in rows["limit"]]
    for key, measured in rows.items():
        pace = [one.images / one.seconds for one in measured]
        ratio = statistics.median(mine / best for mine, best in zip(pace, limit, strict=True))
        latencies = sorted(latency for one in measured for latency in one.latencies_s)
        p50, p99 = (1e3 * latencies[min(len(latencies) - 1, int(len(latencies) * share))] for share in (0.5, 0.99))
        cpu_s = sum(one.cpu_s for one in measured) / sum(one.images for one in measured)
        wrong = sum(one.wrong for one in measured)
        click.echo(
            f"| {size} | {length} | {clients} | {key} | {statistics.median(pace):.1f} | {ratio:.2f} "
            f"| {p50:.0f} | {p99:.0f} | {cpu_s:.4f} | {wrong} |"
        )


def _where(name: str) -> str:
    return (
        f"{name}; {datetime.now(UTC):%Y-%m-%d %H:%M} UTC; {platform.machine()}, {processors()} processors, "
        f"load {os.getloadavg()[0]:.1f}; torch {torch.__version__}, Python {platform.python_version()}\n"
    )


if __name__ == "__main__":
    main()
