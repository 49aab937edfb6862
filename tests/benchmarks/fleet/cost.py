"""The cost model of a fleet: `python -m tests.benchmarks.fleet.cost FIGURES...`, files that `fleet --figures` wrote.

CPU, growth and log of a burst are fitted, by least squares over the runs, to a part of each burst, one of each of its
frames and one of each of its events; CPU without bursts and memory to a part of each server and one of each camera. It
prints the parts, how far each run is from the model, and what a fleet takes from it by its size and its schedule. Sizes
above the largest run are extrapolated, and marked. The models' own work is not in it: `--model-ms` adds it. CPU is that
of a calm machine: each run's is divided by how much longer the yardstick took in it than `--yard-ms`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import click
import msgspec
import numpy as np

from tests.benchmarks.fleet.cameras import Activity
from tests.benchmarks.fleet.figures import Figures

_DAY_S = 86_400.0
_LEAST_RUNS = 4
_SIZES = (10, 100, 1_000, 10_000)
SCHEDULES = {
    "10 frames every 10 s": Activity(frames=10, every_s=10.0),
    "5 frames every 10 s": Activity(frames=5, every_s=10.0),
    "10 frames every minute (gate)": Activity(frames=10, every_s=60.0),
}


class Parts(msgspec.Struct, frozen=True):
    """What one burst, one of its frames and one of its events takes of something."""

    burst: float
    frame: float
    event: float

    @classmethod
    def fitted(cls, runs: Sequence[Figures], taken: Sequence[float]) -> Parts:
        """From what each run took for a burst. Parts that runs do not tell apart share what they take."""
        rows = np.array([[1.0, run.activity.frames, run.events / run.bursts] for run in runs])
        solved = np.linalg.lstsq(rows, np.array(taken), rcond=None)[0]
        return cls(*map(float, solved))

    def of(self, frames: float, events: float) -> float:
        """What a burst with so many frames and events takes."""
        return self.burst + self.frame * frames + self.event * events


class Standing(msgspec.Struct, frozen=True):
    """What one server and one camera take without any burst."""

    server: float
    camera: float

    @classmethod
    def fitted(cls, runs: Sequence[Figures], taken: Sequence[float]) -> Standing:
        rows = np.array([[run.servers, run.cameras] for run in runs], dtype=float)
        solved = np.linalg.lstsq(rows, np.array(taken), rcond=None)[0]
        return cls(*map(float, solved))


class Model(msgspec.Struct, frozen=True):
    """CPU in seconds, sizes in bytes, memory in MB. `largest`: cameras of the largest run."""

    server_cpu: Parts
    database_cpu: Parts
    grown: Parts
    log: Parts
    idle_cpu: Standing
    memory: Standing
    picture_bytes: float
    largest: int

    @classmethod
    def of(cls, runs: Sequence[Figures], yard_ms: float) -> Model:
        """`yard_ms`: the yardstick on a calm machine."""
        calm = [yard_ms / run.yard_ms for run in runs]
        return cls(
            server_cpu=Parts.fitted(
                runs, [part * run.server_cpu_s / run.bursts for part, run in zip(calm, runs, strict=True)]
            ),
            database_cpu=Parts.fitted(
                runs, [part * run.database_cpu_s / run.bursts for part, run in zip(calm, runs, strict=True)]
            ),
            grown=Parts.fitted(runs, [run.grown_bytes / run.bursts for run in runs]),
            log=Parts.fitted(runs, [run.log_bytes / run.bursts for run in runs]),
            idle_cpu=Standing.fitted(runs, [part * run.idle_cpu_s for part, run in zip(calm, runs, strict=True)]),
            memory=Standing.fitted(runs, [run.server_mb for run in runs]),
            picture_bytes=sum(run.image_bytes for run in runs) / sum(run.frames for run in runs),
            largest=max(run.cameras for run in runs),
        )

    def lines(self, runs: Sequence[Figures], yard_ms: float) -> Iterator[str]:
        """The parts, and how far each run is from them."""
        yield "| of | a burst | a frame | an event |"
        yield "|---|---|---|---|"
        for name, parts, scale, unit in (
            ("CPU of the servers", self.server_cpu, 1000, "ms"),
            ("CPU of the database", self.database_cpu, 1000, "ms"),
            ("kept in the database", self.grown, 1, "bytes"),
            ("written to its log", self.log, 1, "bytes"),
        ):
            shown = (f"{scale * part:.{2 if scale > 1 else 0}f} {unit}" for part in msgspec.structs.astuple(parts))
            yield f"| {name} | {' | '.join(shown)} |"
        yield ""
        idle, memory = self.idle_cpu, self.memory
        yield (
            f"Without bursts: {1000 * idle.server:.0f} ms of CPU a second for each server and "
            f"{1000 * idle.camera:.3f} for each camera. Memory: {memory.server:.0f} MB for each server, "
            f"{memory.camera:.3f} for each camera."
        )
        for run in runs:
            frames, events = run.activity.frames, run.events / run.bursts
            calm_s = run.cpu_s * yard_ms / run.yard_ms
            cpu = (self.server_cpu.of(frames, events) + self.database_cpu.of(frames, events)) or math.nan
            yield (
                f"{run.cameras} cameras, {run.servers} servers, {frames} frames and {events:.2f} events a burst: "
                f"{1000 * calm_s:.1f} ms of CPU a burst, {calm_s / cpu:.2f} of the model's"
            )

    def table(self, schedule: Activity, events: float, model_ms: float) -> Iterator[str]:
        """What fleets of several sizes take. `events`: of a burst of ten frames, in proportion for shorter ones."""
        yield "| cameras | bursts/s | cores: servers | database | models | GB of memory | GB a day | log | Mbit/s |"
        yield "|---|---|---|---|---|---|---|---|---|"
        each = events * schedule.frames / 10
        for cameras in _SIZES:
            rate = cameras / schedule.every_s
            busy = rate * self.server_cpu.of(schedule.frames, each) + self.idle_cpu.camera * cameras
            servers = max(1, math.ceil(busy / _CORE_OF_A_SERVER))
            cells = (
                f"{cameras:,}{'' if cameras <= self.largest else ' (extrapolated)'}",
                f"{rate:g}",
                f"{busy + servers * self.idle_cpu.server:.1f} in {servers}",
                f"{rate * self.database_cpu.of(schedule.frames, each):.2f}",
                f"{rate * schedule.frames * model_ms / 1000:.0f}",
                f"{(servers * self.memory.server + cameras * self.memory.camera) / 1000:.1f}",
                f"{rate * _DAY_S * self.grown.of(schedule.frames, each) / 1e9:.1f}",
                f"{rate * _DAY_S * self.log.of(schedule.frames, each) / 1e9:.1f}",
                f"{rate * schedule.frames * self.picture_bytes * 8 / 1e6:.0f}",
            )
            yield f"| {' | '.join(cells)} |"


_CORE_OF_A_SERVER = 0.7
"""Of a core, what one server is planned to take: its Python runs one thread at a time, and uploads come unevenly."""


@click.command(help=__doc__)
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--events", default=2.0, show_default=True, help="Of a burst of ten frames.")
@click.option("--model-ms", default=100.0, show_default=True, help="CPU of the ensemble for a frame (README).")
@click.option("--yard-ms", default=2.1, show_default=True, help="The yardstick on a calm machine.")
def main(files: tuple[Path, ...], events: float, model_ms: float, yard_ms: float) -> None:
    runs = [
        msgspec.json.decode(line, type=Figures) for file in files for line in file.read_bytes().splitlines() if line
    ]
    for database, kept in sorted({(run.database, run.keep_frames) for run in runs}):
        these = [run for run in runs if (run.database, run.keep_frames) == (database, kept)]
        click.echo(f"## {database}, pictures kept: {kept}, {len(these)} runs\n")
        if len(these) < _LEAST_RUNS:
            click.echo(f"too few for a model: {_LEAST_RUNS} that differ in frames, events and cameras at least\n")
            continue
        model = Model.of(these, yard_ms)
        for line in model.lines(these, yard_ms):
            click.echo(line)
        for name, schedule in SCHEDULES.items():
            click.echo(f"\n{name}, {events:g} events in ten frames:\n")
            for line in model.table(schedule, events, model_ms):
                click.echo(line)
        click.echo()


if __name__ == "__main__":
    main()
