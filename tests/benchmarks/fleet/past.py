"""A fleet's past on PostgreSQL: `python -m tests.benchmarks.fleet.past [--cameras 1000] [--bursts 2000]`.

Every camera has so many bursts of ten frames, one each `--every-s`: 20 million frames by default, in which nobody is
there, and `--events` events at other instants of that time. Measured on it: bursts that come, without retention and
beside it, which deletes half of the past; CPU of what servers and pages ask; and other shapes of the largest tables
(`shapes`).
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path

import click
from sqlalchemy import Engine, create_engine, make_url, text

from policies.events import microseconds
from server.analysis.explain import explain
from server.domain.times.clock import SECOND_US
from server.store import Store, open_store
from tests.benchmarks.fleet.__main__ import new_database
from tests.benchmarks.fleet.cameras import Activity, days_ago
from tests.benchmarks.fleet.databases import Postgresql
from tests.benchmarks.fleet.filling import fill
from tests.benchmarks.fleet.place import CameraPlace, prepare
from tests.benchmarks.fleet.running import Plan, run
from tests.benchmarks.fleet.shapes import shapes
from tests.benchmarks.serving.processes import end_on_sigterm

_DAY_S = 86_400.0
_LEAST_CPU_S, _MOST_REPEATED = 0.3, 20
_HOUR_US = 3600 * SECOND_US
_WARM = 50

_COPY_EVENTS = text(
    """
    WITH made AS (
      SELECT e.*, row_number() OVER () AS n,
             (random() * (:until_us - :since_us))::bigint + :since_us - e.started_at_us AS shift
      FROM events e, generate_series(1, :times)
    )
    INSERT INTO events (seq, id, camera, kind, sector, label, started_at_us, confirmed_at_us, burst, before, burst_id,
                        place, origin, body, late)
    SELECT (SELECT value FROM counters WHERE name = 'outbox') + n, decode(md5(n::text), 'hex'), camera, kind, sector,
           label, started_at_us + shift, confirmed_at_us + shift, burst, before, burst_id, place, origin, body, late
    FROM made
    """
)


def add_events(engine: Engine, wanted: int, since_us: int, until_us: int) -> int:
    """Copy the events that there are to other instants; how many there are then."""
    with engine.begin() as connection:
        there = connection.execute(text("SELECT count(*) FROM events")).scalar_one()
        stretch = {"since_us": since_us, "until_us": until_us, "times": max(1, wanted // there)}
        connection.execute(_COPY_EVENTS, stretch)
        newest = "(SELECT max(seq) FROM events)"
        connection.execute(text(f"UPDATE counters SET value = {newest} WHERE name = 'outbox'"))
        connection.execute(text(f"UPDATE channels SET delivered_seq = {newest}"))  # the log has them all
        return int(connection.execute(text("SELECT count(*) FROM events")).scalar_one())


def asked(store: Store, places: Sequence[CameraPlace], middle_us: int) -> dict[str, Callable[[], object]]:
    """What servers, pages and commands ask; `middle_us` is in the middle of the past."""
    newest = store.begun(backwards=True, limit=500)[-1].event
    at_us, place = microseconds(newest.started_at), places[len(places) // 2]
    burst = store.past.bursts(place.site, place.camera, middle_us, middle_us + _HOUR_US)[0]
    return {
        "the newest 100 events": lambda: store.begun(backwards=True, limit=100),
        "the newest 100 events of a site": lambda: store.begun(backwards=True, limit=100, site=newest.site),
        "events of ten minutes": lambda: store.events(since_us=at_us - _HOUR_US // 6, until_us=at_us),
        "the last 100 announcements": lambda: store.events(after_seq=store.last_seq() - 100, limit=100),
        "explain a minute": lambda: explain(
            store, place.site, place.camera, middle_us, middle_us + 60 * SECOND_US, now_us=at_us
        ),
        "is a burst known": lambda: store.known(burst.burst_id),
        "states of all cameras": store.heartbeats.activities,
        "states of a site's cameras": lambda: store.heartbeats.activities(place.site),
    }


def questions(url: str, database: Postgresql, places: Sequence[CameraPlace], middle_us: int) -> Iterator[str]:
    """What each of them takes: the second time and later, so that pages of the file are in memory."""
    with closing(open_store(url)) as store:
        for name, ask in asked(store, places, middle_us).items():
            ask()
            count, own_s, cpu_s = 0, time.process_time(), database.cpu_s()
            while count < _MOST_REPEATED and time.process_time() - own_s < _LEAST_CPU_S:
                ask()
                count += 1
            own_s, cpu_s = time.process_time() - own_s, database.cpu_s() - cpu_s
            yield (
                f"{name}: {1000 * own_s / count:.1f} ms of CPU of the process that asks, "
                f"{1000 * cpu_s / count:.1f} of PostgreSQL"
            )


def sizes(engine: Engine) -> Iterator[str]:
    """The largest tables and indexes."""
    query = (
        "SELECT relname, pg_relation_size(oid), reltuples FROM pg_class WHERE relkind IN ('r', 'i') "
        "AND pg_relation_size(oid) > 20000000 AND relnamespace = 'public'::regnamespace ORDER BY 2 DESC"
    )
    with engine.connect() as connection:
        for name, size, rows in connection.execute(text(query)):
            yield f"{name}: {size / 1e6:.0f} MB, {size / max(rows, 1):.0f} bytes for each of {rows:,.0f} rows"


def rows_of(engine: Engine, table: str) -> int:
    with engine.connect() as connection:
        return int(connection.execute(text(f"SELECT count(*) FROM {table}")).scalar_one())


def measured(
    url: str, folder: Path, cameras: int, bursts: int, every_s: float, events: int, minutes: float
) -> Iterator[str]:
    """Everything, line by line."""
    activity, begin_ms = Activity(busy=0.3, every_s=every_s), days_ago(2 * bursts * every_s / _DAY_S + 1)
    places = prepare(folder, url, cameras)
    begun_s = time.monotonic()
    fill(url, places, bursts, activity, begin_ms, is_silent=True)
    yield f"{cameras * bursts * activity.frames / 1e6:.1f} million frames in {time.monotonic() - begun_s:.0f} s"
    engine = create_engine(make_url(url).set(drivername="postgresql+psycopg"))

    def plan(first: int, **keeping: float | str) -> Plan:
        return Plan(
            cameras=cameras,
            servers=2,
            seconds=60 * minutes,
            activity=activity,
            warm=_WARM,
            idle_s=0.0,
            begin_ms=begin_ms,
            first=first,
            keeping={"keep_frames": "none", **keeping},
        )

    with closing(Postgresql(url)) as database:
        yield "Bursts come, and nothing is deleted:"
        yield from run(plan(bursts), places, url, folder).lines()
        stretch = (1000 * begin_ms, 1000 * begin_ms + round(bursts * every_s * SECOND_US))
        yield f"{add_events(engine, events, *stretch):,} events"
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text("VACUUM ANALYZE"))
        yield from sizes(engine)
        yield from questions(url, database, places, sum(stretch) // 2)
        yield "Bursts come, and half of the past is deleted:"
        keep_days = bursts * every_s / 2 / _DAY_S
        bursts_before, events_before = rows_of(engine, "burst_records"), rows_of(engine, "events")
        begun_s = time.monotonic()
        half = plan(bursts + bursts // 2, keep_observations_days=keep_days, keep_events_days=keep_days)
        beside = run(half, places, url, folder)
        took_s = time.monotonic() - begun_s
        bursts_gone = bursts_before + beside.bursts + _WARM - rows_of(engine, "burst_records")
        events_gone = events_before + beside.events - rows_of(engine, "events")  # but for those of the first bursts
        yield from beside.lines()
        for gone, what in ((bursts_gone, "bursts"), (events_gone, "events")):
            yield f"{gone} {what} deleted in {took_s:.0f} s, {gone / took_s:.0f} a second"
        yield from shapes(engine, database, begin_ms, round(bursts * every_s))


@click.command(help=__doc__)
@click.option("--cameras", default=1000, show_default=True)
@click.option("--bursts", default=2000, show_default=True, help="Of each camera.")
@click.option("--every-s", default=40.0, show_default=True)
@click.option("--events", default=500_000, show_default=True)
@click.option("--minutes", default=1.5, show_default=True, help="Of each of the two runs with bursts.")
@click.option("--folder", type=click.Path(path_type=Path), help="Where to keep files of the run, on a disk.")
def main(cameras: int, bursts: int, every_s: float, events: int, minutes: float, folder: Path | None) -> None:
    end_on_sigterm()
    with tempfile.TemporaryDirectory(dir=folder) as temporary, new_database("postgresql", Path(temporary)) as url:
        for line in measured(url, Path(temporary) / "run", cameras, bursts, every_s, events, minutes):
            click.echo(line)


if __name__ == "__main__":
    main()
