"""One run of `fleet`: real servers on a database, and the cameras that send to them."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack, closing
from pathlib import Path

import msgspec
from sqlalchemy import make_url

from tests.benchmarks.fleet.cameras import Activity, Cameras, days_ago
from tests.benchmarks.fleet.databases import Database, looked_at
from tests.benchmarks.fleet.figures import Figures, Spread
from tests.benchmarks.fleet.place import CameraPlace
from tests.benchmarks.fleet.server import Waits
from tests.benchmarks.fleet.yardstick import Yardstick
from tests.benchmarks.serving.processes import Hosted

_LOOKED_EVERY_S = 0.05
_DELIVERED_WITHIN_S = 60.0
_IDLE_S = 10.0
_SHOWN = 200
_SETTLED_EVERY_S, _SETTLED_WITHIN_S = 1.0, 60.0
_QUIET = 0.08
"""Of a core: a server that does no more has done what bursts have left."""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What is run. `seconds` count once `warm` bursts are answered; the run ends after `most` bursts more, too.

    `idle_s`: how long the servers are watched without any burst afterwards. `first`: the number of each camera's first
    burst; number 0 is taken at `begin_ms`. `keeping`: settings of the servers.
    """

    cameras: int
    servers: int
    seconds: float
    activity: Activity = Activity()
    at_once: int = 16
    images_per_s: float = 0.0
    warm: int
    most: int | None = None
    idle_s: float = _IDLE_S
    begin_ms: int = msgspec.field(default_factory=days_ago)
    first: int = 0
    keeping: dict[str, float | str] = {}


class _Reading(msgspec.Struct, frozen=True):
    """All counters at one instant."""

    at_s: float
    server_cpu_s: float
    database_cpu_s: float
    client_cpu_s: float
    size_bytes: int
    log_bytes: int
    waits: Waits
    database_waits: dict[str, float]


class _Run:
    def __init__(self, plan: Plan, folder: Path, database: Database, servers: Sequence[Hosted]) -> None:
        self._plan, self._folder, self._database, self._servers = plan, folder, database, servers

    def read(self) -> _Reading:
        return _Reading(
            time.time(),
            self._cpu_s(),
            self._database.cpu_s(),
            time.process_time(),
            self._database.size_bytes(),
            self._database.log_bytes(),
            self._waits(),
            dict(self._database.waits),
        )

    def _cpu_s(self) -> float:
        return sum(server.cpu_s() for server in self._servers)

    def _waits(self) -> Waits:
        told = [msgspec.json.decode(file.read_bytes(), type=Waits) for file in self._folder.glob("*.waits")]
        return Waits(sum(each.waited_s for each in told), sum(each.count for each in told))

    def memory_mb(self) -> float:
        return sum(server.memory_mb() for server in self._servers)

    def settle(self) -> None:
        """Wait until what bursts have left is done: pictures are kept beside the answers."""
        deadline_s, before_s = time.monotonic() + _SETTLED_WITHIN_S, self._cpu_s()
        while time.monotonic() < deadline_s:
            time.sleep(_SETTLED_EVERY_S)
            spent_s, before_s = self._cpu_s() - before_s, self._cpu_s()
            if spent_s < _QUIET * _SETTLED_EVERY_S * len(self._servers):
                return

    def idle_cpu_s(self) -> float:
        """CPU of the servers in a second in which no camera sends."""
        if not self._plan.idle_s:
            return 0.0
        begun_s, before_s = time.monotonic(), self._cpu_s()
        time.sleep(self._plan.idle_s)
        return (self._cpu_s() - before_s) / (time.monotonic() - begun_s)

    def left_at(self) -> dict[str, float]:
        """Event -> when it first left for the log (s of Unix time)."""
        left: dict[str, float] = {}
        for file in self._folder.glob("*.sent"):
            for line in file.read_text(encoding="ascii").splitlines():
                at, _, event = line.partition(" ")
                left[event] = min(float(at), left.get(event, float(at)))
        return left


def run(plan: Plan, places: Sequence[CameraPlace], url: str, folder: Path) -> Figures:
    """Run it on what `prepare` made. Raises RuntimeError when a burst is refused."""
    with ExitStack() as stack:
        database = stack.enter_context(closing(looked_at(url)))
        servers = [
            stack.enter_context(_server(plan, folder, url, f"server-{number}")) for number in range(plan.servers)
        ]
        watched = _Run(plan, folder, database, servers)
        rested_mb = watched.memory_mb()
        ports = [server.port for server in servers]
        cameras = Cameras(places, ports, plan.activity, plan.at_once, plan.begin_ms, plan.first)
        _send(cameras, plan.warm, None)
        watched.settle()
        load, begin, first = os.getloadavg()[0], watched.read(), len(cameras.sent)
        with Yardstick() as yardstick:
            _send(cameras, None if plan.most is None else first + plan.most, plan.seconds)
        end, memory_mb, database_mb = watched.read(), watched.memory_mb(), database.memory_mb()
        watched.settle()
        settled = watched.read()
        sent = cameras.sent[first:]
        events = {event: each.at_s for each in sent for event in each.events}
        left_at = _delivered(watched, events)
        idle_cpu_s = watched.idle_cpu_s()
    return Figures(
        cameras=plan.cameras,
        servers=plan.servers,
        database=make_url(url).get_backend_name(),
        images_per_s=plan.images_per_s,
        activity=plan.activity,
        keep_frames=str(plan.keeping.get("keep_frames", "events")),
        load=load,
        yard_ms=yardstick.median_ms,
        seconds=end.at_s - begin.at_s,
        bursts=len(sent),
        refused=len(cameras.refused),
        events=len(events),
        undelivered=sum(left_at.get(event, end.at_s) >= end.at_s for event in events),
        image_bytes=sum(each.image_bytes for each in sent),
        server_cpu_s=settled.server_cpu_s - begin.server_cpu_s,
        database_cpu_s=settled.database_cpu_s - begin.database_cpu_s,
        client_cpu_s=end.client_cpu_s - begin.client_cpu_s,
        idle_cpu_s=idle_cpu_s,
        rested_mb=rested_mb,
        server_mb=memory_mb,
        database_mb=database_mb,
        grown_bytes=settled.size_bytes - begin.size_bytes,
        log_bytes=settled.log_bytes - begin.log_bytes,
        waited_s=end.waits.waited_s - begin.waits.waited_s,
        transactions=end.waits.count - begin.waits.count,
        waits={what: seconds - begin.database_waits.get(what, 0.0) for what, seconds in end.database_waits.items()},
        post=Spread.of([each.took_s for each in sent]),
        causes=dict(Counter(cause[:_SHOWN] for cause in cameras.refused).most_common(3)),
        outbox=Spread.of([max(0.0, left_at[event] - at_s) for event, at_s in events.items() if event in left_at]),
    )


def _server(plan: Plan, folder: Path, url: str, name: str) -> Hosted:
    keeping = msgspec.json.encode(plan.keeping).decode()
    arguments = (str(folder), url, name, str(plan.images_per_s), keeping)
    return Hosted("tests.benchmarks.fleet.server", *arguments, log=folder / f"{name}.log")


def _send(cameras: Cameras, until: int | None, seconds: float | None) -> None:
    """Let cameras send until there are so many answers, or so many seconds are over."""
    deadline_s = None if seconds is None else time.monotonic() + seconds
    cameras.start()
    try:
        while not cameras.has_failed:
            if until is not None and len(cameras.sent) >= until:
                return
            if deadline_s is not None and time.monotonic() >= deadline_s:
                return
            time.sleep(_LOOKED_EVERY_S)
    finally:
        cameras.stop()


def _delivered(watched: _Run, events: dict[str, float]) -> dict[str, float]:
    """When each event left, once all have, or have had their time."""
    deadline_s = time.monotonic() + _DELIVERED_WITHIN_S
    while True:
        left_at = watched.left_at()
        if events.keys() <= left_at.keys() or time.monotonic() > deadline_s:
            return left_at
        time.sleep(_LOOKED_EVERY_S)
