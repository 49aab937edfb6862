"""What the server does when three times as much comes as it can answer.

    python -m tests.benchmarks.overload --footage vtest.avi [--ensemble torchvision] [--rounds 4] [--times 3]

In each round first the capacity, with a crowd of clients that send their next request when the last one is answered:
half of the images in bursts, half alone. Then the same requests at `--times` that rate, each when its instant comes
(Poisson), whether or not earlier ones were answered, on a connection of its own, by clients that send their whole body
before they read anything. Latencies count from the instant a request was due. Meanwhile both ports are probed.

The generator shares the machine with the server and takes from its goodput; its processor seconds are told.
"""

from __future__ import annotations

import asyncio
import os
import platform
import random
import resource
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import cycle
from pathlib import Path

import click

from tests.benchmarks.footage import SIZES, bursts_of, frames_of
from tests.benchmarks.processes import Hosted, end_on_sigterm
from tests.benchmarks.wire import multipart

BURST = 8
_CROWD = 12
_PROBED_EVERY_S = 0.1
_ANSWERED_WITHIN_S = 90.0
_WARM_UP_S = 2.0

Probes = dict[tuple[str, int], list[float]]
"""What each probe took (s), by its name and port."""


@dataclass(frozen=True, slots=True)
class Request:
    """A whole HTTP request, and how many images are in it."""

    content: bytes
    images: int


@dataclass
class Told:
    """What came back: for each request when it was due and answered (s), its status (0: nothing came), its images."""

    answers: list[tuple[float, float, int, int]] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)
    given_up: int = 0
    """Admitted, and then told to come back all the same."""


@dataclass
class Phase:
    """All rounds of one kind of load: what came back, and what they took of the machine (s of processors).

    `good_images` were judged within `seconds`; `took_s` counts until the last answer.
    """

    told: list[Told] = field(default_factory=list)
    good_images: int = 0
    seconds: float = 0.0
    took_s: float = 0.0
    server_s: float = 0.0
    generator_s: float = 0.0

    def add(self, other: Phase) -> None:
        self.told += other.told
        for name in ("good_images", "seconds", "took_s", "server_s", "generator_s"):
            setattr(self, name, getattr(self, name) + getattr(other, name))

    @property
    def images_per_s(self) -> float:
        return self.good_images / self.seconds

    def cores(self) -> str:
        return f"cores in use: server {self.server_s / self.took_s:.2f}, generator {self.generator_s / self.took_s:.2f}"


@click.command()
@click.option("--footage", type=click.Path(exists=True, path_type=Path), required=True)
@click.option("--ensemble", "name", type=click.Choice(["torchvision", "shipped"]), default="torchvision")
@click.option("--size", type=click.Choice(list(SIZES)), default="768x576")
@click.option("--seconds", default=10.0, help="For the capacity, and again for the overload, in each round.")
@click.option("--rounds", default=4)
@click.option("--times", default=3.0, help="How much of the capacity is offered.")
def main(footage: Path, name: str, size: str, seconds: float, rounds: int, times: float) -> None:
    """Measure, and print."""
    end_on_sigterm()
    requests = _requests(frames_of(footage, size))
    click.echo(f"{name}, {size}; {datetime.now(UTC):%Y-%m-%d %H:%M} UTC; {platform.machine()}, {os.cpu_count()} CPUs")
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        with Hosted("tests.benchmarks.served", name, str(footage), folder, "fp32", log=place / "server.log") as server:
            asyncio.run(_crowd(server.port, requests, _WARM_UP_S))
            server.forget_peak()
            capacity, overload, probes = Phase(), Phase(), _no_probes(server)
            before = asyncio.run(_counted(server.admin_port))
            for _round in range(rounds):
                alone = _measured(server, _crowd(server.port, requests, seconds), seconds)
                capacity.add(alone)
                load = _overload(server, requests, times * alone.images_per_s, seconds, probes)
                overload.add(_measured(server, load, seconds))
            after = asyncio.run(_counted(server.admin_port))
            _tell(capacity, overload)
            _tell_accounts([capacity, overload], {status: after[status] - before[status] for status in after})
            for (route, _port), latencies_s in probes.items():
                click.echo(f"probe {route}: {_spread(latencies_s)}")
            click.echo(f"memory: {server.peak_mb:.0f} MB at most (PSS)")


def _requests(frames: Sequence[bytes]) -> list[Request]:
    """A round of requests in which as many images come alone as in bursts."""
    bursts = [_request(burst) for burst in bursts_of(frames, BURST)]
    alone = [_request([frame]) for frame in frames]
    requests = [*bursts, *alone]
    random.Random(1).shuffle(requests)
    return requests


def _request(images: Sequence[bytes]) -> Request:
    body, content_type = multipart(images)
    head = f"POST /batch HTTP/1.1\r\nHost: localhost\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n"
    return Request(head.encode() + b"Connection: close\r\n\r\n" + body, len(images))


def _measured(server: Hosted, load: Coroutine[None, None, Told], seconds: float) -> Phase:
    """One round of a kind of load, over when all of it is answered; what was judged within `seconds` is good."""
    server_s, generator_s, began = server.cpu_s(), _own_cpu_s(), time.perf_counter()
    told = asyncio.run(load)
    until, took_s = began + seconds, time.perf_counter() - began
    good = sum(images for _due, at, status, images in told.answers if status == 200 and at <= until)
    return Phase([told], good, seconds, took_s, server.cpu_s() - server_s, _own_cpu_s() - generator_s)


async def _crowd(port: int, requests: Sequence[Request], seconds: float) -> Told:
    """A closed loop."""
    told, until = Told(), time.perf_counter() + seconds
    endless = cycle(requests)

    async def client() -> None:
        while (now := time.perf_counter()) < until:
            await _send(port, next(endless), now, told)

    await asyncio.gather(*(client() for _ in range(_CROWD)))
    return told


def _no_probes(server: Hosted) -> Probes:
    return {
        ("admin /livez", server.admin_port): [],
        ("admin /readyz", server.admin_port): [],
        ("main /livez", server.port): [],
    }


async def _overload(
    server: Hosted, requests: Sequence[Request], images_per_s: float, seconds: float, probes: Probes
) -> Told:
    """An open loop, and what probes took meanwhile."""
    told, chance = Told(), random.Random(2)
    requests_per_s = images_per_s / statistics.mean(request.images for request in requests)
    began = due = time.perf_counter()
    probing = [asyncio.create_task(_probe(port, route.split()[1], took)) for (route, port), took in probes.items()]
    sending = set()
    for request in cycle(requests):
        due += chance.expovariate(requests_per_s)
        if due > began + seconds:
            break
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        sending.add(asyncio.create_task(_send(server.port, request, due, told)))
    await asyncio.sleep(max(0.0, began + seconds - time.perf_counter()))
    for probe in probing:
        probe.cancel()
    await asyncio.gather(*sending)
    return told


async def _send(port: int, request: Request, due: float, told: Told) -> None:
    try:
        async with asyncio.timeout(_ANSWERED_WITHIN_S):
            status, body = await _exchange(port, request.content)
    except (OSError, TimeoutError, ValueError, IndexError) as error:
        told.errors[type(error).__name__] += 1
        status, body = 0, b""
    told.given_up += b"not judged in time" in body
    told.answers.append((due, time.perf_counter(), status, request.images))


async def _exchange(port: int, content: bytes) -> tuple[int, bytes]:
    """All is sent before anything is read, as most HTTP clients do."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.transport.set_write_buffer_limits(high=0)
        writer.write(content)
        await writer.drain()
        answer = await reader.read()
    finally:
        writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split(b" ", 2)[1]), body


async def _probe(port: int, path: str, latencies_s: list[float]) -> None:
    ask = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()
    while True:
        began = time.perf_counter()
        status, _body = await _exchange(port, ask)
        latencies_s.append(time.perf_counter() - began if status == 200 else float("inf"))
        await asyncio.sleep(_PROBED_EVERY_S)


async def _counted(admin_port: int) -> Counter[int]:
    """The answers of `/batch` that the server has counted, by status."""
    ask = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    _status, text = await _exchange(admin_port, ask)
    counted: Counter[int] = Counter()
    for line in text.decode().splitlines():
        if line.startswith("sectorwatch_http_requests_total") and 'route="/batch"' in line:
            counted[int(line.partition('status="')[2][:3])] += int(float(line.rpartition(" ")[2]))
    return counted


def _tell(capacity: Phase, overload: Phase) -> None:
    answers = [answer for told in overload.told for answer in told.answers]
    offered = sum(images for *_rest, images in answers)
    refused = [at - due for due, at, status, _images in answers if status == 503]
    judged = [at - due for due, at, status, _images in answers if status == 200]
    each = capacity.server_s / sum(
        i for told in capacity.told for _due, _at, status, i in told.answers if status == 200
    )
    most, good = capacity.images_per_s, overload.images_per_s
    click.echo(f"capacity: {most:.1f} images/s, {_CROWD} clients; {each:.4f} CPU s per image; {capacity.cores()}")
    click.echo(f"offered: {offered / overload.seconds:.1f} images/s, {len(answers)} requests; {overload.cores()}")
    click.echo(f"goodput: {good:.1f} images/s, {good / most:.2f} of capacity")
    click.echo(f"refusals: {_spread(refused)}")
    click.echo(f"answers: {_spread(judged)}")


def _tell_accounts(phases: Sequence[Phase], counted: dict[int, int]) -> None:
    """Whether everything the server answered arrived."""
    told = [told for phase in phases for told in phase.told]
    came = Counter(status for one in told for _due, _at, status, _images in one.answers)
    lost = sum(max(0, count - came[status]) for status, count in counted.items())
    server = ", ".join(f"{status}: {count}" for status, count in sorted(counted.items()))
    client = ", ".join(f"{status or 'none'}: {count}" for status, count in sorted(came.items()))
    given_up = sum(one.given_up for one in told)
    errors = sum((one.errors for one in told), Counter[str]())
    click.echo(f"answers by status: server {server}; clients {client}; lost {lost}; given up {given_up}")
    click.echo(f"errors: {', '.join(f'{kind} {count}' for kind, count in errors.items()) or 'none'}")


def _spread(latencies_s: Sequence[float]) -> str:
    if not latencies_s:
        return "none"
    ordered = sorted(latencies_s)
    p50, p99 = (1e3 * ordered[min(len(ordered) - 1, int(len(ordered) * share))] for share in (0.5, 0.99))
    return f"{len(ordered)}, p50 {p50:.1f} ms, p99 {p99:.1f} ms, max {1e3 * ordered[-1]:.1f} ms"


def _own_cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    main()
