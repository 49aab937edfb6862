"""Limit, engine, server and what one would use instead, cell by cell, in one interleaved run.

    python -m tests.benchmarks.serving.engine --footage vtest.avi [--ensemble torchvision] [--execution bf16] ...

A ratio is of the limit in the same cell and round: of `limit`, which computes as the server does, and, for the
torchvision networks, of `eager limit`, which has them in float32 and as they are. On a machine that does other things
the ratios of one run swing by a fifth; processor seconds per image suffer less. Labels are compared with those of the
ensemble asked frame by frame, alone, in the same arithmetic: every burst whose labels differ is counted as wrong,
every answer that did not come as an error.

The peers ask the networks as they are and in float32, tuned with `--peers-tuned`. LitServe takes part where it is
installed (`pip install litserve python-multipart`). In a limit the mean is of the time that so many bursts together
take.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from operator import truediv
from pathlib import Path
from typing import get_args

import click

from server.serving.machine import torch_environment

os.environ |= torch_environment()  # before torch is loaded

import torch

from server.domain.precision import Execution, check_execution
from server.ensemble import Ensemble
from server.serving.machine import this_machine
from server.settings import processors
from tests.benchmarks.events.footage import SIZES, bursts_of, frames_of
from tests.benchmarks.serving.contestants import Contestant, InProcess, Limit, Measured, OverHttp, labels_of
from tests.benchmarks.serving.processes import Hosted, end_on_sigterm
from tests.benchmarks.serving.wire import Labels
from tests.benchmarks.serving.work import ensemble_named

HEAD = (
    "| frames | burst | clients | contestant | images/s | of the limit | of eager | p50 ms | p99 ms | mean ms "
    "| p99/mean | CPU ms/image | peak MB | wrong | errors |"
)
PEERS = ("flask", "litserve")
_SETTLE_S = 0.3


@click.command()
@click.option(
    "--footage", type=click.Path(exists=True, path_type=Path), required=True, help="A video to take frames of."
)
@click.option(
    "--ensemble", "name", type=click.Choice(["torchvision", "eager", "lite", "shipped"]), default="torchvision"
)
@click.option("--execution", type=click.Choice(get_args(Execution)), default="fp32", help="How classifiers compute.")
@click.option("--size", "sizes", multiple=True, type=click.Choice(list(SIZES)), default=list(SIZES))
@click.option("--burst", "lengths", multiple=True, type=int, default=[1, 4, 8, 16], help="Frames in a burst.")
@click.option("--clients", "crowds", multiple=True, type=int, default=[1, 4, 16])
@click.option("--seconds", default=3.0, help="For each contestant in each cell and round.")
@click.option("--rounds", default=1)
@click.option("--peer", "peers", multiple=True, type=click.Choice(PEERS), default=PEERS)
@click.option("--peers-tuned", is_flag=True, help="Give the peers our tuned networks.")
def main(
    footage: Path,
    name: str,
    execution: Execution,
    sizes: tuple[str, ...],
    lengths: tuple[int, ...],
    crowds: tuple[int, ...],
    seconds: float,
    rounds: int,
    peers: tuple[str, ...],
    peers_tuned: bool,
) -> None:
    """Measure, and print a table."""
    end_on_sigterm()
    torch.set_num_threads(1)
    check_execution(execution, this_machine().vectors, {name: True})
    ensemble = ensemble_named(name, footage, execution)
    theirs = "eager" if name == "torchvision" and not peers_tuned else name
    judge = ensemble if execution == "fp32" else ensemble_named(theirs, footage)
    click.echo(_where(f"{name} {execution}"))
    click.echo(HEAD + "\n" + "|---" * HEAD.count(" | ") + "|---|")
    expected: dict[bytes, Labels] = {}
    of_peers: dict[bytes, Labels] = {}
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        place = Path(folder)
        ours = Hosted(
            "tests.benchmarks.serving.served", name, str(footage), folder, execution, log=place / "server.log"
        )
        eager = {"eager limit": Limit(ensemble_named("eager", footage))} if name == "torchvision" else {}
        contestants: dict[str, Contestant] = eager | {
            "limit": Limit(ensemble),
            "engine": InProcess(ensemble, expected),
            "server": OverHttp(stack.enter_context(ours), expected),
        }
        for peer in peers:
            if peer == "litserve" and importlib.util.find_spec("litserve") is None:
                click.echo("litserve is not installed, so it is not measured", err=True)
                continue
            hosted = Hosted(f"tests.benchmarks.peer_{peer}", theirs, str(footage), log=place / f"{peer}.log")
            contestants[peer] = OverHttp(stack.enter_context(hosted), of_peers)
        for size in sizes:
            frames = frames_of(footage, size)
            for length in lengths:
                bursts = bursts_of(frames, length)
                expected |= _alone(ensemble, bursts)
                of_peers |= expected if judge is ensemble else _alone(judge, bursts)
                for clients in crowds:
                    _tell(size, length, clients, _cell(contestants, bursts, clients, seconds, rounds))


def _alone(ensemble: Ensemble, bursts: Sequence[list[bytes]]) -> dict[bytes, Labels]:
    """What the models say of each burst when nobody else asks."""
    return {b"".join(burst): labels_of(ensemble, ensemble.answer(burst)) for burst in bursts}


def _cell(
    contestants: Mapping[str, Contestant], bursts: Sequence[list[bytes]], clients: int, seconds: float, rounds: int
) -> dict[str, list[Measured]]:
    for contestant in contestants.values():
        contestant.measure(bursts, clients, _SETTLE_S)
    rows: dict[str, list[Measured]] = {key: [] for key in contestants}
    for _ in range(rounds):
        for key, contestant in contestants.items():
            rows[key].append(contestant.measure(bursts, clients, seconds))
    return rows


def _tell(size: str, length: int, clients: int, rows: Mapping[str, list[Measured]]) -> None:
    limit, eager = (_paces(rows.get(key, ())) for key in ("limit", "eager limit"))
    for key, measured in rows.items():
        pace = _paces(measured)
        latencies = sorted(latency for one in measured for latency in one.latencies_s) or [float("nan")]
        p50, p99 = (1e3 * latencies[min(len(latencies) - 1, int(len(latencies) * share))] for share in (0.5, 0.99))
        mean = 1e3 * statistics.fmean(latencies)
        cpu_ms = 1e3 * sum(one.cpu_s for one in measured) / max(1, sum(one.images for one in measured))
        peak_mb = max((one.peak_mb for one in measured if one.peak_mb is not None), default=None)
        wrong, errors = (sum(getattr(one, kind) for one in measured) for kind in ("wrong", "errors"))
        click.echo(
            f"| {size} | {length} | {clients} | {key} | {statistics.median(pace):.1f} "
            f"| {_ratio(pace, limit)} | {_ratio(pace, eager)} | {p50:.0f} | {p99:.0f} | {mean:.0f} | {p99 / mean:.2f} "
            f"| {cpu_ms:.1f} | {'' if peak_mb is None else f'{peak_mb:.0f}'} | {wrong} | {errors} |"
        )


def _paces(measured: Sequence[Measured]) -> list[float]:
    return [one.images / one.seconds for one in measured]


def _ratio(paces: Sequence[float], limits: Sequence[float]) -> str:
    """The median over the rounds; empty where there is no such limit."""
    return f"{statistics.median(map(truediv, paces, limits)):.2f}" if limits else ""


def _where(name: str) -> str:
    return (
        f"{name}; {datetime.now(UTC):%Y-%m-%d %H:%M} UTC; {platform.machine()}, {processors()} processors, "
        f"load {os.getloadavg()[0]:.1f}; torch {torch.__version__}, Python {platform.python_version()}\n"
    )


if __name__ == "__main__":
    main()
