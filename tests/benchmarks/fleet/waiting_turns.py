"""How long turns of different cameras wait for each other.

    python -m tests.benchmarks.fleet.waiting_turns [--writers 4]

Writers, each with a camera of its own, send bursts of somebody who walks to and fro through the real pipeline, into a
PostgreSQL of our own (fsync is off) or the one that `SECTORWATCH_TEST_POSTGRES` names. A channel takes what is
announced. Another camera holds each of its turns that writes events open for 50 ms, just before the commit. Compared,
in turn and several times in one run: turns that take the numbers of announcements themselves, so that the counter is
locked until their commit (as before), and turns that write tickets. `alone` is without the camera that holds its turns
open. Only turns that write events count. `lock s` is how long all connections together waited for locks, by a look
every 10 ms; it does not depend on what else the machine does.
"""

from __future__ import annotations

import itertools
import statistics
import tempfile
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import click
from sqlalchemy import Connection, event, text

from server.domain.burst import Burst
from server.store import Store, open_store
from server.store.events import outbox
from tests.server import databases
from tests.server.scenes import START_US, Yard, burst
from tests.stand_ins import ManualClock

_KINDS = ("numbers", "tickets")
_PERIOD_S = 30
_LEASE_US = 30_000_000


class _Figures(NamedTuple):
    """Of turns with events: how long each took (ms). Of all: the time that they waited for locks, and that of the
    processor (s).
    """

    turns_ms: list[float]
    locked_s: float
    cpu_s: float


def _to_and_fro(t: float) -> float | None:
    t %= _PERIOD_S
    return None if t < 1 or t > 25 else round(0.1 + min(t - 1, 25 - t) * 0.06, 4)


def _walk(yard: Yard, camera: str, bursts: int) -> list[Burst]:
    found: list[Burst] = []
    for number in range(bursts):
        at = [2 * number + i / 2 for i in range(4)]
        images = [yard.picture(*([] if (x := _to_and_fro(t)) is None else [x]), at_s=t) for t in at]
        found.append(burst(number, images, 2 * number, camera=camera, burst_id=f"{camera}-{number:05d}"))
    return found


class _Turns:
    """Notes which turns of each thread write events; those of the thread `slow` stay open for a while."""

    def __init__(self, store: Store, held_s: float) -> None:
        self._held_s = held_s
        self._here = threading.local()
        event.listen(store._engine, "before_cursor_execute", self._note)
        event.listen(store._engine, "commit", self._hold)

    def send(self, yard: Yard, bursts: Sequence[Burst], *, is_slow: bool, until: threading.Event) -> list[float]:
        """Send bursts, or those that come before `until` is set; how long each turn with events took (ms)."""
        self._here.is_slow = is_slow
        took_ms: list[float] = []
        for one in bursts:
            if until.is_set():
                break
            self._here.writes, begun_s = False, time.perf_counter()
            yard.pipeline.process(one)
            if self._here.writes:
                took_ms.append(1000 * (time.perf_counter() - begun_s))
        return took_ms

    def _note(self, _connection: Connection, _cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith("INSERT INTO events "):
            self._here.writes = True

    def _hold(self, _connection: Connection) -> None:
        if getattr(self._here, "is_slow", False) and self._here.writes:
            time.sleep(self._held_s)


def _measured(url: str, folder: Path, writers: int, bursts: int, held_s: float) -> _Figures:
    """One run on an empty database. `held_s` 0: without the camera that holds its turns open."""
    over, never = threading.Event(), threading.Event()
    with closing(open_store(url, ManualClock(START_US + 36_000_000_000))) as store:
        yard = Yard(folder / "sites", store, ManualClock(START_US + 36_000_000_000))
        store.add_channel("phone")
        walks = [_walk(yard, f"camera{number}", bursts) for number in range(writers)]
        slow = _walk(yard, "slow", 20 * bursts)
        turns = _Turns(store, held_s)
        begun_s = time.process_time()
        with ThreadPoolExecutor(writers + 3) as pool:
            delivered, waited = pool.submit(_deliver, store, over), pool.submit(_waited_s, store, over)
            if held_s:
                pool.submit(turns.send, yard, slow, is_slow=True, until=over)
            sent = [pool.submit(turns.send, yard, walk, is_slow=False, until=never) for walk in walks]
            try:
                took_ms = [each for one in sent for each in one.result()]
            finally:
                over.set()
            delivered.result()
        return _Figures(took_ms, waited.result(), time.process_time() - begun_s)


def _deliver(store: Store, over: threading.Event) -> None:
    while not over.wait(0.02):
        found = store.claim("phone", "ours", _LEASE_US, 100)
        if found:
            store.delivered("phone", "ours", found[-1].seq)


def _waited_s(store: Store, over: threading.Event) -> float:
    """How long connections wait for locks until `over` is set."""
    waiting = text("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
    found_s, last_s = 0.0, time.perf_counter()
    with store._engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        while not over.wait(0.01):
            count = connection.execute(waiting).scalar_one()
            now_s = time.perf_counter()
            found_s, last_s = found_s + count * (now_s - last_s), now_s
    return found_s


def _line(name: str, alone: list[_Figures], held: list[_Figures]) -> str:
    """The median of each run's medians and slowest twentieths."""

    def middle(runs: list[_Figures], part: int) -> float:
        return statistics.median(statistics.quantiles(each.turns_ms, n=20)[part] for each in runs)

    figures = [middle(alone, 9), middle(held, 9), middle(held, 9) / middle(alone, 9)]
    figures += [middle(alone, 18), middle(held, 18), middle(held, 18) / middle(alone, 18)]
    for runs in (alone, held):
        figures += [statistics.median(each.locked_s for each in runs), statistics.median(each.cpu_s for each in runs)]
    return f"{name:<10}" + "".join(f"{figure:>11.2f}" for figure in figures)


@click.command()
@click.option("--writers", default=4, show_default=True, help="Cameras whose turns are measured.")
@click.option("--bursts", default=45, show_default=True, help="Bursts of each; about a third writes events.")
@click.option("--held-ms", default=50.0, show_default=True, help="How long another camera holds its turns open.")
@click.option("--rounds", default=3, show_default=True, help="Runs of each kind, one after the other.")
def main(writers: int, bursts: int, held_ms: float, rounds: int) -> None:
    """Measure turns that wait for each other."""
    runs: dict[tuple[str, bool], list[_Figures]] = {}
    with tempfile.TemporaryDirectory() as folder, databases.postgresql_database() as url:
        for number, is_held, name in itertools.product(range(rounds), (False, True), _KINDS):
            here = Path(folder) / f"{number} {is_held} {name}"
            here.mkdir()
            databases.renew(url, is_migrated=True)
            with mock.patch.object(outbox, "_has_tickets", return_value=name == "tickets"):
                found = _measured(url, here, writers, bursts, held_ms / 1000 if is_held else 0.0)
            runs.setdefault((name, is_held), []).append(found)
    columns = ["p50 alone", "p50 held", "ratio", "p95 alone", "p95 held", "ratio"]
    columns += ["lock alone", "CPU alone", "lock held", "CPU held"]
    click.echo(f"{'ms, s':<10}" + "".join(f"{column:>11}" for column in columns))
    for name in _KINDS:
        click.echo(_line(name, runs[name, False], runs[name, True]))


if __name__ == "__main__":
    main()
