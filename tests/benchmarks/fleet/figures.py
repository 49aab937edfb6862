"""What one run of `fleet` has measured, and its lines."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from tests.benchmarks.fleet.cameras import Activity

_DAY_S = 86_400.0
_LEAST_SHOWN = 0.02


class Spread(msgspec.Struct, frozen=True):
    """Of many durations (s)."""

    p50_s: float
    p95_s: float
    p99_s: float
    most_s: float

    @classmethod
    def of(cls, took_s: Sequence[float]) -> Spread:
        ordered = sorted(took_s) or [0.0]
        shown = (ordered[min(len(ordered) - 1, int(len(ordered) * share))] for share in (0.5, 0.95, 0.99))
        p50_s, p95_s, p99_s = shown
        return cls(p50_s, p95_s, p99_s, ordered[-1])

    def __str__(self) -> str:
        named = zip(("p50", "p95", "p99", "most"), msgspec.structs.astuple(self), strict=True)
        return ", ".join(f"{name} {1000 * each_s:.0f}" for name, each_s in named) + " ms"


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """The measured part of a run.

    `yard_ms`: the CPU of the yardstick meanwhile; neighbours make all CPU longer, and this tells by how much.
    CPU in seconds of all processes of a kind, until what the bursts have left is done. `idle_cpu_s`: of the servers, in
    a second without any burst. `rested_mb`: proportional memory of all servers before the first burst. `waited_s`: what
    the servers' transactions waited for a connection, their turn and their lock. `waits`: what PostgreSQL's sessions
    waited for, in seconds of all together. `outbox`: from an event's answer to its line in the log; an event that left
    before its answer counts as 0.
    """

    cameras: int
    servers: int
    database: str
    images_per_s: float
    activity: Activity
    keep_frames: str
    load: float
    yard_ms: float
    seconds: float
    bursts: int
    refused: int
    events: int
    undelivered: int
    image_bytes: int
    server_cpu_s: float
    database_cpu_s: float
    client_cpu_s: float
    idle_cpu_s: float
    rested_mb: float
    server_mb: float
    database_mb: float
    grown_bytes: int
    log_bytes: int
    waited_s: float
    transactions: int
    waits: dict[str, float]
    post: Spread
    outbox: Spread
    causes: dict[str, int] = {}
    """Why bursts had to be sent again: the most frequent causes."""

    @property
    def frames(self) -> int:
        return self.bursts * self.activity.frames

    @property
    def cpu_s(self) -> float:
        """Of servers and database, for a burst."""
        return (self.server_cpu_s + self.database_cpu_s) / self.bursts

    def lines(self) -> Iterator[str]:
        """The figures for people."""
        each, day, bursts = self.activity, _DAY_S / self.activity.every_s * self.cameras, self.bursts
        yield (
            f"{self.cameras} cameras, {self.servers} servers, {self.database}; somebody in {each.busy:g} of bursts, "
            f"in {each.crowd:g} of these a crowd; {each.frames} frames a burst; pictures kept: {self.keep_frames}; "
            f"load {self.load:.0f}, yardstick {self.yard_ms:.2f} ms"
        )
        yield (
            f"  {bursts} bursts in {self.seconds:.0f} s, {bursts / self.seconds:.1f} a second, each with "
            f"{self.events / bursts:.2f} events, {self.image_bytes / bursts / 1000:.0f} kB; {self.refused} sent again"
        )
        yield (
            f"  CPU a burst: servers {1000 * self.server_cpu_s / bursts:.1f} ms, database "
            f"{1000 * self.database_cpu_s / bursts:.1f} ms (clients {1000 * self.client_cpu_s / bursts:.1f} ms); "
            f"servers without bursts {1000 * self.idle_cpu_s:.0f} ms a second"
        )
        yield (
            f"  memory: servers {self.server_mb:.0f} MB ({self.rested_mb:.0f} before the first burst), database "
            f"{self.database_mb:.0f} MB"
        )
        kept, log = self.grown_bytes / bursts, self.log_bytes / bursts
        yield (
            f"  database: {kept:.0f} bytes a burst, {kept / each.frames:.0f} a frame, {log:.0f} of log a burst; with a "
            f"burst every {each.every_s:g} s {kept * day / 1e9:.2f} GB and {log * day / 1e9:.1f} GB of log a day"
        )
        yield (
            f"  waits of the servers' transactions: {1000 * self.waited_s / bursts:.1f} ms a burst, in "
            f"{self.transactions / bursts:.1f} transactions"
        )
        for what, seconds in sorted(self.waits.items(), key=lambda item: -item[1]):
            if seconds / self.seconds > _LEAST_SHOWN:
                yield f"  waits in PostgreSQL: {1000 * seconds / bursts:.2f} ms a burst of {what}"
        for cause, count in self.causes.items():
            yield f"  sent again {count} times: {cause}"
        yield f"  POST: {self.post}"
        yield f"  from the answer to the log: {self.outbox}; {self.undelivered} events not yet there at the end"
