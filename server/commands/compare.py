"""`sectorwatch compare`: two policies over the same past, and the events on which they differ."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click
import msgspec

from policies.events import Event
from policies.site.site_policy import SitePolicy
from server.analysis.compare import Comparison, Pair, compared
from server.commands.folding import FoldTask, find_cameras, fold_policies, read_policy, run_tasks
from server.commands.options import check_window, found_settings, opened_store, store_options, window_options
from server.delivery.channels import text_line
from server.domain.records import CameraHead, LoggedEvent
from server.store import Store

LIVE = "live"


@dataclass(frozen=True, slots=True)
class _Side:
    """A or B: what the user called it, and the policy it names (None: whatever was in force, as the log has it)."""

    name: str
    policy: SitePolicy | None


@click.command()
@click.argument("a", metavar="A")
@click.argument("b", metavar="B")
@click.option(
    "--within", "more_s", type=click.FloatRange(min=0), default=0.0, help="Seconds more that count as a shift."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@window_options
@store_options
def command(
    a: str,
    b: str,
    more_s: float,
    as_json: bool,
    since_us: int | None,
    until_us: int | None,
    site: str | None,
    camera: str | None,
    config: Path | None,
    database: str | None,
    data_dir: Path | None,
) -> None:
    """Compare the events of A and B: policy files, or `live` for the log as it is.

    Exact, from the stored labels, without models or pictures. An event of the same kind and place counts as the
    same fact, shifted, as far as the uncertainties of both times reach; else it is only in A, or only in B.
    """
    check_window(since_us, until_us)
    sides = (_side(a), _side(b))
    store = opened_store(config, database, data_dir)
    url = found_settings(config, database, data_dir).database_url
    cameras = _cameras(store, sides, site, camera)
    events_a, events_b = _told(store, url, sides, cameras, since_us, until_us)
    result = compared(events_a, events_b, more_s)
    if as_json:
        names = {"names": [side.name for side in sides], "policies": [s.policy and s.policy.digest for s in sides]}
        click.echo(msgspec.json.encode(names | result.as_wire()).decode())
        return
    for line in report(result, a, b):
        click.echo(line)


def report(result: Comparison, a: str, b: str) -> Iterator[str]:
    """The comparison as lines for a person: every difference in order of time, then the counts."""
    differences = [
        *((pair.a, f"shifted {pair.shift_s:+g} s", pair) for pair in result.shifted),
        *((pair.a, "told otherwise", pair) for pair in result.otherwise),
        *((event, "only in A", None) for event in result.only_a),
        *((event, "only in B", None) for event in result.only_b),
    ]
    for event, how, pair in sorted(differences, key=lambda d: (d[0].at, d[0].id)):
        yield f"{how + _ways(pair):<16} {text_line(LoggedEvent(0, event, False, None, ''))}"
    if differences:
        yield ""
    yield f"A is {a}, B is {b}"
    yield f"  {'kind':<18}{'A':>6}{'B':>6}{'only A':>8}{'only B':>8}"
    for kind, *counts in result.kinds():
        yield f"  {kind:<18}{counts[0]:>6}{counts[1]:>6}{counts[2]:>8}{counts[3]:>8}"
    yield (
        f"A {result.count_a} events, B {result.count_b}: {len(result.same)} the same, {len(result.shifted)} shifted, "
        f"{len(result.otherwise)} told otherwise, {len(result.only_a)} only in A, {len(result.only_b)} only in B; "
        f"these {result.differ} differ"
    )


def _ways(pair: Pair | None) -> str:
    if pair is None or pair.a.direction == pair.b.direction:
        return ""
    return f" ({pair.a.direction} -> {pair.b.direction})"


def _side(name: str) -> _Side:
    return _Side(name, None if name == LIVE else read_policy(Path(name))[0])


def _cameras(store: Store, sides: tuple[_Side, _Side], site: str | None, camera: str | None) -> list[CameraHead]:
    """The cameras both sides can be asked about. Raises Unknown when there is none."""
    wanted = {name for name in (site, *(s.policy.site for s in sides if s.policy is not None)) if name is not None}
    if len(wanted) > 1:
        raise click.UsageError(f"one site at a time, not {' and '.join(sorted(wanted))}")
    return find_cameras(store, next(iter(wanted), None), camera)


def _told(
    store: Store,
    url: str,
    sides: tuple[_Side, _Side],
    cameras: list[CameraHead],
    since_us: int | None,
    until_us: int | None,
) -> tuple[list[Event], list[Event]]:
    """The events of A and of B. The log is read as it is; policies are folded, both in one reading."""
    policies = tuple(side.policy for side in sides if side.policy is not None)
    told: list[list[Event]] = [[] for _ in policies]
    if policies:
        tasks = [FoldTask(url, c.site, c.camera, policies, since_us, until_us) for c in cameras]
        for result in run_tasks(fold_policies, tasks):
            for all_events, events in zip(told, result.events, strict=True):
                all_events += events
    found = iter(told)

    def of(side: _Side) -> list[Event]:
        if side.policy is not None:
            return next(found)
        return [e.event for c in cameras for e in store.events(since_us, until_us, c.site, c.camera)]

    return of(sides[0]), of(sides[1])
