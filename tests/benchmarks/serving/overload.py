"""What the server does when three times as much comes as it can answer.

    python -m tests.benchmarks.serving.overload --footage vtest.avi [--ensemble torchvision] [--rounds 4] [--times 3]

In each round first the capacity, with a crowd of clients that send their next request when the last one is answered:
half of the images in bursts, half alone. Then the same requests at `--times` that rate, each when its instant comes
(Poisson), whether or not earlier ones were answered. Every request has a connection of its own, on which all of its
body is sent before anything is read. Latencies count from the instant a request was due. Both ports are probed all
the time.

The generator shares the machine with the server and takes from its goodput; what each of them had of it is told.
"""

from __future__ import annotations

import os
import platform
import random
import resource
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import cycle
from pathlib import Path

import click

from tests.benchmarks.events.footage import SIZES, bursts_of, frames_of
from tests.benchmarks.serving.processes import Hosted, end_on_sigterm
from tests.benchmarks.serving.traffic import Answer, Traffic
from tests.benchmarks.serving.wire import multipart

BURST = 8
_CROWD = 12
_PROBED_EVERY_S = 0.1
_WARM_UP_S = 2.0

Load = Callable[[Traffic, "Told", float], None]
"""Begins to send, until an instant, and notes what comes back."""

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

    `good_images` were judged within `seconds`, while `had_s` went to the server and `took_s` to the generator;
    `server_s` is what the server had until the last answer.
    """

    told: list[Told] = field(default_factory=list)
    good_images: int = 0
    seconds: float = 0.0
    had_s: float = 0.0
    took_s: float = 0.0
    server_s: float = 0.0

    def add(self, other: Phase) -> None:
        self.told += other.told
        for name in ("good_images", "seconds", "had_s", "took_s", "server_s"):
            setattr(self, name, getattr(self, name) + getattr(other, name))

    @property
    def images_per_s(self) -> float:
        return self.good_images / self.seconds

    def answers(self, status: int) -> list[tuple[float, float, int, int]]:
        return [answer for told in self.told for answer in told.answers if answer[2] == status]

    def images(self, status: int) -> int:
        return sum(images for *_rest, images in self.answers(status))

    def cost(self) -> str:
        server, generator = self.had_s / self.seconds, self.took_s / self.seconds
        each_s = self.server_s / max(1, self.images(200))
        return f"cores in use: server {server:.2f}, generator {generator:.2f}; {each_s:.4f} CPU s per image judged"


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
        with Hosted(
            "tests.benchmarks.serving.served", name, str(footage), folder, "fp32", log=place / "server.log"
        ) as server:
            probes = _no_probes(server)
            _measured(server, _crowd(server.port, requests), _no_probes(server), _WARM_UP_S)
            server.forget_peak()
            capacity, overload = Phase(), Phase()
            before = _counted(server.admin_port)
            for _round in range(rounds):
                alone = _measured(server, _crowd(server.port, requests), _no_probes(server), seconds)
                capacity.add(alone)
                load = _poisson(server.port, requests, times * alone.images_per_s)
                overload.add(_measured(server, load, probes, seconds))
            after = _counted(server.admin_port)
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


def _measured(server: Hosted, load: Load, probes: Probes, seconds: float) -> Phase:
    """One round of a kind of load, over when all of it is answered; what was judged within `seconds` is good."""
    traffic, told, phase = Traffic(), Told(), Phase(seconds=seconds)
    server_s, own_s, began = server.cpu_s(), _own_cpu_s(), time.perf_counter()
    until = began + seconds

    def so_far() -> None:
        phase.had_s, phase.took_s = server.cpu_s() - server_s, _own_cpu_s() - own_s

    for (route, port), latencies_s in probes.items():
        _probe(traffic, port, route.split()[1], until, latencies_s)
    load(traffic, told, until)
    traffic.at(until, so_far)
    traffic.run()
    phase.told, phase.server_s = [told], server.cpu_s() - server_s
    phase.good_images = sum(images for _due, at, status, images in told.answers if status == 200 and at <= until)
    return phase


def _crowd(port: int, requests: Sequence[Request]) -> Load:
    """A closed loop."""
    endless = cycle(requests)

    def load(traffic: Traffic, told: Told, until: float) -> None:
        def client() -> None:
            if (now := time.perf_counter()) < until:
                _send(traffic, port, next(endless), now, told, client)

        for _ in range(_CROWD):
            client()

    return load


def _poisson(port: int, requests: Sequence[Request], images_per_s: float) -> Load:
    """An open loop."""
    chance, endless = random.Random(2), cycle(requests)
    requests_per_s = images_per_s / statistics.mean(request.images for request in requests)

    def load(traffic: Traffic, told: Told, until: float) -> None:
        def line_up(due: float) -> None:
            if due < until:
                traffic.at(due, lambda: send(due))

        def send(due: float) -> None:
            line_up(due + chance.expovariate(requests_per_s))
            _send(traffic, port, next(endless), due, told)

        line_up(time.perf_counter() + chance.expovariate(requests_per_s))

    return load


def _send(
    traffic: Traffic, port: int, request: Request, due: float, told: Told, then: Callable[[], None] = lambda: None
) -> None:
    def heard(answer: Answer) -> None:
        told.errors.update([answer.error] if answer.error else [])
        told.given_up += b"not judged in time" in answer.body
        told.answers.append((due, answer.at, answer.status, request.images))
        then()

    traffic.ask(port, request.content, heard)


def _no_probes(server: Hosted) -> Probes:
    return {
        ("admin /livez", server.admin_port): [],
        ("admin /readyz", server.admin_port): [],
        ("main /livez", server.port): [],
    }


def _probe(traffic: Traffic, port: int, path: str, until: float, latencies_s: list[float]) -> None:
    """Ask again and again."""
    content = _get(path)

    def ask() -> None:
        began = time.perf_counter()

        def heard(answer: Answer) -> None:
            latencies_s.append(answer.at - began if answer.status == 200 else float("inf"))
            if answer.at + _PROBED_EVERY_S < until:
                traffic.at(answer.at + _PROBED_EVERY_S, ask)

        traffic.ask(port, content, heard)

    ask()


def _counted(admin_port: int) -> Counter[int]:
    """The answers of `/batch` that the server has counted, by status."""
    traffic, answers = Traffic(), list[Answer]()
    traffic.ask(admin_port, _get("/metrics"), answers.append)
    traffic.run()
    counted: Counter[int] = Counter()
    for line in answers[0].body.decode().splitlines():
        if line.startswith("sectorwatch_http_requests_total") and 'route="/batch"' in line:
            counted[int(line.partition('status="')[2][:3])] += int(float(line.rpartition(" ")[2]))
    return counted


def _get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()


def _tell(capacity: Phase, overload: Phase) -> None:
    refused, judged = overload.answers(503), overload.answers(200)
    offered = sum(images for told in overload.told for *_rest, images in told.answers)
    most, good = capacity.images_per_s, overload.images_per_s
    click.echo(f"capacity: {most:.1f} images/s, {_CROWD} clients; {capacity.cost()}")
    click.echo(f"offered: {offered / overload.seconds:.1f} images/s, {offered / overload.seconds / most:.2f} times")
    click.echo(f"under it: {overload.cost()}, refusals included")
    click.echo(f"goodput: {good:.1f} images/s, {good / most:.2f} of capacity")
    for name, answers in {"refusals": refused, "answers": judged}.items():
        click.echo(f"{name}: {_spread([at - due for due, at, _status, _images in answers])}")


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
