"""A day of a site with many cameras in minutes, with everything that goes wrong: `python -m tests.benchmarks.soak`.

    python -m tests.benchmarks.soak [--minutes 20] [--cameras 50] [--bursts-per-s 8] [--seed 1] [--folder DIR]

Simulated cameras send bursts of four pictures over the real wire to a real server (`sectorwatch serve`, Gunicorn,
SQLite, the engine with a network that needs no weights), whose clock is that of the data. Meanwhile the server is
killed, alone and with its worker, and stopped; the link of a site is cut, slow, lossy, deaf, hangs; the disk is full;
the clocks of server and cameras step; a greedy client sends as fast as it can; cameras send out of order and twice; and
retention deletes beside it all. Kills and stops come in the first half, so that one process lives through the second.

Of the four sites, `yard-0` keeps all, `yard-1` a quarter of a day of bursts and all events, `yard-2` a quarter of a day
of both, `yard-3` as many bytes as a quarter of a day takes.

Then a second server without any fault takes the acknowledged bursts in the order of their capture. Exit code 1 if

- the log differs from that of the second server. All of each event is compared but how the log came to it (`late`,
  `supersedes`, ...). Where events are deleted, those younger than the site's border must be there and equal, and older
  ones, if they are there, equal;
- somebody who followed `GET /v1/events` all day, or the log channel, ends with other events;
- an acknowledged burst is not stored, though its time is kept, or is outside the fold, or a frame is there twice;
- a burst is refused, the server or its worker ends unless a fault ends it, a log line has a traceback, the database is
  damaged, `replay --check` finds a difference;
- a reader of `GET /v1/events`, or the clean server's log channel, gets an event twice in a row. That of the day
  may send an event again: a fault can come between sending it and noting that it is sent;
- a site holds bursts beyond its bound; memory, handles or threads grow over the life of the longest process;
- the run shows too little: full spools drop more than a tenth of the bursts, the clean run has fewer events than there
  are cameras, or no process lives for 40 s after its warm-up.
"""

from __future__ import annotations

import os
import platform
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

import click

from tests.benchmarks.serving.processes import end_on_sigterm
from tests.benchmarks.soak.day import faults
from tests.benchmarks.soak.proof import soak
from tests.benchmarks.soak.storm import SITES, Outcome, Plan
from tests.benchmarks.soak.verdict import longest_life, trends


@click.command()
@click.option("--minutes", default=20.0, show_default=True, help="Of the machine, for the whole day.")
@click.option("--cameras", default=50, show_default=True)
@click.option("--bursts-per-s", default=8.0, show_default=True, help="Of all cameras, in seconds of the machine.")
@click.option("--seed", default=1, show_default=True)
@click.option("--folder", type=click.Path(path_type=Path), help="Where to make the databases, on a disk.")
@click.option("--keep", is_flag=True, help="Leave databases and logs there.")
def main(minutes: float, cameras: int, bursts_per_s: float, seed: int, folder: Path | None, keep: bool) -> None:
    """Run the day, prove it, and print."""
    end_on_sigterm()
    seconds = minutes * 60
    bursts_each = max(4, round(seconds * bursts_per_s / cameras))
    plan = Plan(seconds, cameras, bursts_each, seed, faults(seconds, SITES, seed))
    click.echo(
        f"{minutes:g} minutes, {cameras} cameras with {bursts_each} bursts each, seed {seed}; "
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC; {platform.machine()}, {os.cpu_count()} CPUs, "
        f"load {os.getloadavg()[0]:.0f}"
    )
    with ExitStack() as stack:
        place = tempfile.mkdtemp(dir=folder) if keep else stack.enter_context(tempfile.TemporaryDirectory(dir=folder))
        outcome = soak(plan, Path(place), click.echo)
        for line in report(plan, outcome):
            click.echo(line)
        if keep:
            click.echo(f"kept in {place}")
    sys.exit(1 if outcome.wrong else 0)


def report(plan: Plan, outcome: Outcome) -> Iterator[str]:
    """What happened, what was measured, and what is wrong."""
    ledger = outcome.ledger
    kinds = sorted({fault.kind for fault in plan.faults})
    yield "faults: " + ", ".join(f"{kind} {sum(fault.kind == kind for fault in plan.faults)}" for kind in kinds)
    yield f"server: {outcome.lives} lives, ends by exit code {outcome.ends}; settled in {outcome.settled_s:.0f} s"
    yield (
        f"bursts: {len(ledger.acknowledged)} acknowledged, {outcome.kept_bursts} of them kept, "
        f"{outcome.deleted_bursts} deleted by retention; at most {ledger.most_waiting} waiting at a camera, "
        f"{ledger.dropped} dropped by full spools"
    )
    yield f"answers: {dict(ledger.statuses.most_common())}; the greedy client's: {outcome.greedy}"
    yield f"answered in: {_spread(ledger.took_s)}"
    yield f"events: {outcome.events} in the log, {outcome.late_events} late; {outcome.clean_events} in the clean run"
    yield f"announced twice in a row: {outcome.heard_again} to the follower, {outcome.told_again} by the log channel"
    yield f"log: {outcome.log or 'no warnings'}"
    life = longest_life(outcome.samples)
    if life:
        yield f"longest life, after the warm-up: {life[-1].at_s - life[0].at_s:.0f} s, {len(life)} samples"
    for name, each in trends(outcome.samples).items():
        yield (
            f"  {name}: {each.first:.1f} in the first third, {each.last:.1f} in the last ({each.ratio:.3f}), "
            f"at most {each.most:.1f}"
        )
    for name in ("file_bytes", "log_bytes", "bounded_bytes"):
        yield f"  {name}: {_quarters([getattr(sample, name) for sample in outcome.samples])}"
    yield from outcome.wrong or ["the log equals the clean run; nothing acknowledged is lost; nothing grows"]


def _quarters(sizes: Sequence[int]) -> str:
    ends = [sizes[(len(sizes) - 1) * part // 4] for part in range(5)] if sizes else []
    return ", ".join(f"{size / 1e6:.2f}" for size in ends) + " MB at the quarters of the day"


def _spread(took_s: Sequence[float]) -> str:
    if not took_s:
        return "none"
    ordered = sorted(took_s)
    p50, p95, p99 = (1e3 * ordered[min(len(ordered) - 1, int(len(ordered) * share))] for share in (0.5, 0.95, 0.99))
    return f"p50 {p50:.0f} ms, p95 {p95:.0f} ms, p99 {p99:.0f} ms, most {1e3 * ordered[-1]:.0f} ms"


if __name__ == "__main__":
    main()
