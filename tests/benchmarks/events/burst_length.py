"""What the length of a burst costs and gains: `python -m tests.benchmarks.events.burst_length [FOOTAGE]`.

Frames one second apart go through the shipped ensemble, the pipeline and the agent's HTTP client in bursts of each
length, without blind time between bursts. The table has one column per length.

The delay of an event runs from its `confirmed_at` to the answer of its burst: the wait for the burst's last frame, the
upload, and the CPU time of the ensemble and the pipeline for the burst. The footage is repeated with another first
frame each time, so that events fall on every place in a burst.

CPU is `time.process_time` of one thread. The lengths take turns within each 30 frames, so that other load on the
machine reaches them alike. Compare the ratios to the first length, not milliseconds.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TypeVar

import click
import cv2
import msgspec

from server.serving.machine import torch_environment

os.environ |= torch_environment()  # before torch is loaded

import torch

from camera_agent.burst import ClockReading, Still, make_burst, new_burst_id
from camera_agent.clock import Clock
from camera_agent.config.settings import ServerSettings as AgentServer
from camera_agent.spool.entry import entry_of_burst
from camera_agent.uplink.byte_budget import wire_bytes
from camera_agent.uplink.http_client import Accepted, HttpClient
from camera_agent.wall_clock import WallClock
from policies.events import instant, microseconds
from policies.observation import Box, EnsembleInfo, Prediction
from server.catalogue import cache_dir
from server.domain.burst import Limits, decode_burst
from server.ensemble import Ensemble, load_ensemble
from server.pipeline.pipeline import Pipeline
from server.pipeline.site_policies import Sites
from server.settings import ServerSettings
from server.store import open_store
from tests.benchmarks.events.change_context import in_bursts
from tests.camera_agent.stand_in import StandIn
from tests.stand_ins import ManualClock

LENGTHS = (10, 5, 3)
WINDOW = 30
"""Frames after which the next length has its turn: a multiple of each length."""
START_US = 1_767_225_600_000_000
_PASS_US = 600 * 1_000_000
_TOKEN = "t" * 48
_SITE = (Path(__file__).parents[3] / "deploy" / "sites" / "pets.toml").read_text(encoding="utf-8")

T = TypeVar("T")
Answers = Mapping[str, tuple[Prediction, ...] | None]
Column = dict[str, str]
"""Name of a row -> its figure for one length."""


def sampled(footage: Path, rate: float) -> list[bytes]:
    """JPEGs of quality 85, `rate` a second of the footage's own time."""
    video = cv2.VideoCapture(str(footage))
    distance = video.get(cv2.CAP_PROP_FPS) / rate
    jpegs: list[bytes] = []
    number = 0
    while video.grab():
        if number >= len(jpegs) * distance - 0.5:
            jpegs.append(cv2.imencode(".jpg", video.retrieve()[1], [cv2.IMWRITE_JPEG_QUALITY, 85])[1].tobytes())
        number += 1
    return jpegs


def cut(frames: Sequence[T], length: int) -> list[Sequence[T]]:
    return [frames[first : first + length] for first in range(0, len(frames), length)]


def judged(ensemble: Ensemble, frames: Sequence[bytes]) -> tuple[dict[int, list[Answers]], dict[int, list[float]]]:
    """Per length: the answers to all frames, and the CPU seconds a frame of each window. Decoding is included."""
    answers: dict[int, list[Answers]] = {length: [] for length in LENGTHS}
    cpu_s: dict[int, list[float]] = {length: [] for length in LENGTHS}
    ensemble.answer(frames[: max(LENGTHS)])
    for window in cut(frames, WINDOW):
        for length in LENGTHS:
            begun_s = time.process_time()
            for burst in cut(window, length):
                answers[length] += ensemble.answer(burst)
            cpu_s[length].append((time.process_time() - begun_s) / len(window))
    return answers, cpu_s


class Recorded:
    """An ensemble that repeats stored answers; an image is `PASS INDEX`."""

    def __init__(self, ensemble_info: EnsembleInfo, answers: Sequence[Answers]) -> None:
        self.ensemble_info = ensemble_info
        self._answers = answers

    def only(self, model: str | None, within_s: float | None = None) -> Recorded:
        return self

    def answer(
        self, images: Sequence[bytes], crops: Mapping[str, Box] | None = None, enlarged: Sequence[Box] = ()
    ) -> list[Answers]:
        return [self._answers[int(image.split()[1])] for image in images]


def envelopes(frames: int, length: int, passes: int) -> Iterator[tuple[bytes, list[bytes]]]:
    """The bursts of so many passes over the footage: the JSON of each, and its images."""
    for number in range(passes):
        for burst in cut(range(number % max(LENGTHS), frames), length):
            images = [f"{number} {index}".encode() for index in burst]
            envelope = {
                "burst_id": f"burst-{number:04d}-{burst[0]:06d}",
                "site": "pets",
                "camera": "view1",
                "captured_at": instant(START_US + number * _PASS_US + burst[0] * 1_000_000).isoformat(),
                "offsets_ms": [1000 * place for place in range(len(burst))],
                "frame_sha256": [hashlib.sha256(image).hexdigest() for image in images],
            }
            yield msgspec.json.encode(envelope), images


@dataclass(frozen=True, slots=True)
class Served:
    """All passes through the server in bursts of one length: per event the seconds from the frame that settled it
    to the last frame of its burst, and figures per frame.
    """

    waits_s: Sequence[float]
    rows: float
    stored_bytes: float
    cpu_s: float


def served(recorded: Recorded, frames: int, length: int, passes: int) -> Served:
    """Feed the pipeline, on a database of its own."""
    waits_s: list[float] = []
    cpu_s = 0.0
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "pets.toml").write_text(_SITE, encoding="utf-8")
        file = Path(folder, "store.sqlite")
        clock = ManualClock(START_US + passes * _PASS_US)
        store = open_store(f"sqlite:///{file}", clock)
        store.upgrade()
        empty_bytes = size_bytes(file)
        pipeline = Pipeline(recorded, store, Sites(Path(folder)), clock)
        bursts = [decode_burst(document, images, Limits()) for document, images in envelopes(frames, length, passes)]
        for burst in bursts:
            begun_s = time.process_time()
            events = pipeline.process(burst).burst.events
            cpu_s += time.process_time() - begun_s
            last_us = burst.frames[-1].at_us
            waits_s += [(last_us - microseconds(logged.event.confirmed_at)) / 1e6 for logged in events]
        rows = sum(store.counts().values())
        store.close()
        count = sum(len(burst.frames) for burst in bursts)
        return Served(waits_s, rows / count, (size_bytes(file) - empty_bytes) / count, cpu_s / count)


def size_bytes(file: Path) -> int:
    """Of the database, after what its journal holds was written into it."""
    with sqlite3.connect(file) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    return file.stat().st_size


@contextmanager
def receiver() -> Iterator[str]:
    """The URL of a server in a process of its own that accepts every burst."""
    ours, theirs = multiprocessing.get_context("spawn").Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_receive, args=(theirs,), daemon=True)
    process.start()
    try:
        yield ours.recv()
    finally:
        ours.send(None)
        process.join()


def _receive(parent: Connection) -> None:
    with StandIn() as server:
        parent.send(server.url)
        parent.recv()


def posted(frames: Sequence[bytes], rounds: int) -> tuple[dict[int, float], dict[int, list[float]]]:
    """Per length: the bytes of the requests beyond the JPEGs, a frame, and CPU seconds a frame of each round."""
    beyond: dict[int, float] = {}
    cpu_s: dict[int, list[float]] = {length: [] for length in LENGTHS}
    jpegs = sum(map(len, frames))
    with receiver() as url:
        for _ in range(rounds):
            for length in LENGTHS:
                client = HttpClient(AgentServer(url=url), WallClock(Clock()))
                begun_s = time.process_time()
                for number, some in enumerate(cut(frames, length)):
                    _post(client, number * length, some)
                cpu_s[length].append((time.process_time() - begun_s) / len(frames))
                beyond[length] = (client.take_traffic()[0] - jpegs) / len(frames)
                client.close()
    return beyond, cpu_s


def _post(client: HttpClient, first: int, jpegs: Sequence[bytes]) -> None:
    unix_ms = time.time_ns() // 1_000_000
    burst = make_burst(
        [Still(jpeg=jpeg, at_ms=1000 * place) for place, jpeg in enumerate(jpegs)],
        burst_id=new_burst_id(unix_ms),
        site="pets",
        camera="view1",
        captured_ms=unix_ms,
        clock=ClockReading(synced=True, boot_id="0" * 36, monotonic_ms=1000 * first, uncertainty_s=0.01),
    )
    outcome = client.send_burst(entry_of_burst(burst, first, Path(), 0.0), _TOKEN)
    assert isinstance(outcome, Accepted), outcome


def versus(cpu_s: Mapping[int, Sequence[float]], length: int) -> str:
    """Milliseconds a frame, and the ratio to the first length: medians over the rounds."""
    return f"{1000 * statistics.median(cpu_s[length]):.2f} ({ratio(cpu_s, length):.3f})"


def ratio(cpu_s: Mapping[int, Sequence[float]], length: int) -> float:
    return statistics.median(mine / first for mine, first in zip(cpu_s[length], cpu_s[LENGTHS[0]], strict=True))


def delays(server: Served, upload_s: float, judging_s: float) -> Column:
    """The rows about the events."""
    total_s = sorted(wait_s + upload_s + judging_s for wait_s in server.waits_s)
    late_s = total_s[int(0.9 * len(total_s))]
    wait_s = statistics.median(server.waits_s)
    return {
        "events": str(len(total_s)),
        "delay of an event, median and 90 % (s)": f"{statistics.median(total_s):.1f}, {late_s:.1f}",
        "of it: last frame, upload, judging (s)": f"{wait_s:.1f}, {upload_s:.1f}, {judging_s:.1f}",
    }


@click.command(help=__doc__)
@click.argument("footage", required=False, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--passes", default=30, show_default=True, help="Passes over the footage through the pipeline.")
@click.option("--rounds", default=5, show_default=True, help="Rounds of the agent's requests.")
@click.option("--uplink-mbit", default=10.0, show_default=True, help="The agent's uplink, Mbit/s.")
@click.option("--round-trip-ms", default=50.0, show_default=True, help="Added to each upload.")
def main(footage: Path | None, passes: int, rounds: int, uplink_mbit: float, round_trip_ms: float) -> None:
    """Measure, and print a table."""
    torch.set_num_threads(1)
    footage = footage or cache_dir() / "footage" / "vtest.avi"
    ensemble = load_ensemble(ServerSettings().models)
    frames = sampled(footage, 1.0)
    beyond, agent_cpu_s = posted(frames, rounds)
    change = {rate: in_bursts(ensemble, sampled(footage, rate), LENGTHS) for rate in (1.0, 2.0)}
    answers, ensemble_cpu_s = judged(ensemble, frames)
    frame_s = statistics.median(ensemble_cpu_s[LENGTHS[0]])
    columns: dict[int, Column] = {}
    for length in LENGTHS:
        server = served(Recorded(ensemble.ensemble_info, answers[length]), len(frames), length, passes)
        burst_bytes = round(length * (statistics.mean(map(len, frames)) + beyond[length]))
        upload_s = burst_bytes * 8 / (uplink_mbit * 1e6) + round_trip_ms / 1000
        judging_s = length * (frame_s * ratio(ensemble_cpu_s, length) + server.cpu_s)
        columns[length] = {
            **delays(server, upload_s, judging_s),
            "agent: bytes a frame beyond the JPEG": f"{beyond[length]:,.0f}",
            "agent: MB an hour on the wire": f"{3600 / length * wire_bytes(burst_bytes) / 1e6:.2f}",
            "agent: making and sending, CPU ms a frame (ratio)": versus(agent_cpu_s, length),
            "server: ensemble, CPU ms a frame (ratio)": versus(ensemble_cpu_s, length),
            "server: pipeline and database, CPU ms a frame": f"{1000 * server.cpu_s:.2f}",
            "database rows a frame": f"{server.rows:.2f}",
            "database bytes a frame": f"{server.stored_bytes:,.0f}",
        }
        for rate, figures in change.items():
            columns[length] |= {f"`frame-change` at {rate:g}/s: {name}": text for name, text in figures[length].items()}
    click.echo("| | " + " | ".join(f"{length} x 1 s" for length in LENGTHS) + " |\n|---" + "|---" * len(LENGTHS) + "|")
    for name in columns[LENGTHS[0]]:
        click.echo(f"| {name} | " + " | ".join(columns[length][name] for length in LENGTHS) + " |")


if __name__ == "__main__":
    main()
