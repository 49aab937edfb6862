"""Ways to have the same bursts answered: the limit, our engine, and servers over HTTP, ours and others.

Each is asked by some number of clients that send their next burst when the last one is answered.
"""

from __future__ import annotations

import http.client
import resource
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Protocol

import torch

from policies.observation import Prediction
from server.domain.ensemble_protocol import Payload
from server.ensemble import Ensemble
from server.pipeline.response import top_label
from server.serving.loading import engine_of
from server.settings import ServerSettings, processors
from tests.benchmarks.serving.processes import Hosted
from tests.benchmarks.serving.wire import Client, Labels

_MERGED_IMAGES = 16


@dataclass
class Measured:
    """What one contestant did in one cell."""

    images: int = 0
    seconds: float = 0.0
    cpu_s: float = 0.0
    latencies_s: list[float] = field(default_factory=list)
    wrong: int = 0
    errors: int = 0
    peak_mb: float | None = None
    """The most memory (PSS) of a server's processes; None in this process, where all share it."""


class Contestant(Protocol):
    def measure(self, bursts: Sequence[list[bytes]], clients: int, seconds: float) -> Measured: ...


def labels_of(ensemble: Ensemble, answers: Sequence[Mapping[str, tuple[Prediction, ...] | None]]) -> Labels:
    return {
        model_info.model: [top_label(answer[model_info.model]) for answer in answers]
        for model_info in ensemble.ensemble_info.models
    }


class Limit:
    """Decode, transform and forward in one process without any queue: one-core workers that share out the images.

    A closed loop of clients is stood in for by taking up to so many bursts at once, of at most 16 images together.
    """

    def __init__(self, ensemble: Ensemble) -> None:
        self._ensemble = ensemble
        self._workers = processors()
        self._pool = ThreadPoolExecutor(self._workers, initializer=lambda: torch.set_num_threads(1))

    def measure(self, bursts: Sequence[list[bytes]], clients: int, seconds: float) -> Measured:
        length = len(bursts[0])
        at_once = min(clients, max(1, _MERGED_IMAGES // length))
        measured, turn = Measured(), 0
        began, cpu_s = time.perf_counter(), _own_cpu_s()
        while time.perf_counter() - began < seconds:
            asked_at = time.perf_counter()
            self._deal([bursts[(turn + place) % len(bursts)] for place in range(at_once)])
            measured.latencies_s.append(time.perf_counter() - asked_at)
            measured.images += at_once * length
            turn += at_once
        measured.seconds, measured.cpu_s = time.perf_counter() - began, _own_cpu_s() - cpu_s
        return measured

    def _deal(self, bursts: Sequence[list[bytes]]) -> None:
        items: list[Payload] = [(image, place, {}, ()) for burst in bursts for place, image in enumerate(burst)]
        cuts = [len(items) * worker // self._workers for worker in range(self._workers + 1)]
        parts = list(self._pool.map(lambda w: self._asked(items[cuts[w] : cuts[w + 1]]), range(self._workers)))
        asked = [frame for part in parts for frame in part]
        length = len(bursts[0])
        runs = [asked[start : start + length] for start in range(0, len(asked), length)]
        spans = [
            (run, length * worker // self._workers, length * (worker + 1) // self._workers)
            for run in runs
            for worker in range(self._workers)
        ]
        list(self._pool.map(lambda span: self._ensemble.postprocess(*span), spans))

    def _asked(self, items: Sequence[Payload]) -> list[object]:
        step = self._ensemble.batch_images
        asked: list[object] = []
        for start in range(0, len(items), step):
            rows = [self._ensemble.prepare(item) for item in items[start : start + step]]
            asked += self._ensemble.infer(rows)
        return asked


class InProcess:
    """Our engine, asked by threads of the same process."""

    def __init__(self, ensemble: Ensemble, expected: dict[bytes, Labels]) -> None:
        self._ensemble = ensemble
        self._expected = expected
        self._engine = engine_of(ensemble, ServerSettings())
        self._engine.start(lambda: None)

    def measure(self, bursts: Sequence[list[bytes]], clients: int, seconds: float) -> Measured:
        cpu_s = _own_cpu_s()
        measured = _closed_loop(lambda: self._ask, bursts, clients, seconds, self._expected)
        measured.cpu_s = _own_cpu_s() - cpu_s
        return measured

    def _ask(self, burst: list[bytes]) -> Labels:
        return labels_of(self._ensemble, self._engine.first.answer(burst))


class OverHttp:
    """A server in processes of its own, asked on kept connections with FlexServe's `/batch`."""

    def __init__(self, server: Hosted, expected: dict[bytes, Labels]) -> None:
        self._server = server
        self._expected = expected
        server.pause()

    def measure(self, bursts: Sequence[list[bytes]], clients: int, seconds: float) -> Measured:
        self._server.go_on()
        cpu_s = self._server.cpu_s()
        self._server.forget_peak()
        measured = _closed_loop(lambda: Client(self._server.port), bursts, clients, seconds, self._expected)
        measured.cpu_s = self._server.cpu_s() - cpu_s
        measured.peak_mb = max(self._server.peak_mb, self._server.memory_mb())
        self._server.pause()
        return measured


def _closed_loop(make_client, bursts, clients, seconds, expected) -> Measured:  # type: ignore[no-untyped-def]
    """`clients` threads, each sending its next burst when the last was answered."""
    measured, lock = Measured(), threading.Lock()
    began = time.perf_counter()

    def run(number: int) -> None:
        ask, turn = make_client(), number
        while time.perf_counter() - began < seconds:
            burst = bursts[turn % len(bursts)]
            asked_at = time.perf_counter()
            try:
                labels = ask(burst)
            except (OSError, http.client.HTTPException, RuntimeError):
                ask = make_client()
                with lock:
                    measured.errors += 1
                continue
            latency_s = time.perf_counter() - asked_at
            with lock:
                measured.images += len(burst)
                measured.latencies_s.append(latency_s)
                measured.wrong += labels != expected[b"".join(burst)]
            turn += clients

    threads = [threading.Thread(target=run, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    measured.seconds = time.perf_counter() - began
    return measured


def _own_cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime
