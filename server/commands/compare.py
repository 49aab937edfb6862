"""`sectorwatch compare`: two policies over the same past, and the events on which they differ."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import click
import msgspec

from policies.events import Event
from policies.site.site_policy import SitePolicy
from server.analysis.compare import Comparison, Pair, compared
from server.commands.cameras import find_cameras, gone_within, note_enlarged
from server.commands.events import dated_lines
from server.commands.folding import FoldTask, fold_policies, read_policy, run_tasks
from server.commands.options import Asked, Window, current_store, echo_lines, local_of, store_options, window_options
from server.domain.records import CameraHead
from server.settings import ServerSettings
from server.store import Store

LIVE = "live"


@click.command()
@click.argument("a", metavar="A")
@click.argument("b", metavar="B")
@click.option(
    "--within", "more_s", type=click.FloatRange(min=0), default=0.0, help="Further seconds that events may shift."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@window_options
@store_options
def command(a: str, b: str, more_s: float, as_json: bool, asked: Asked, settings: ServerSettings) -> None:
    """Compare the events of A and B: policy files, or `live` for the log.

    The comparison is exact and needs neither models nor images. Two events report the same fact if kind and place agree
    and their times are no further apart than both uncertainties together. Every other event is only in A or only in B.
    --since and --until go by the time at which an event was confirmed.
    """
    policies = [None if name == LIVE else read_policy(Path(name))[0] for name in (a, b)]
    sites = {site for site in (asked.site, *(policy.site for policy in policies if policy)) if site is not None}
    if len(sites) > 1:
        raise click.UsageError(f"one site at a time, not {' and '.join(sorted(sites))}")
    store = current_store(settings)
    site = next(iter(sites), None)
    local = local_of(settings, store, site)
    window = asked.window(local)
    cameras = find_cameras(store, site, window.camera)
    gone = gone_within(store, local, window)
    tried = [policy for policy in policies if policy]
    note_enlarged(store, tried, cameras, window.since_us, window.until_us)

    def is_comparable(event: Event) -> bool:
        known = gone.get((event.site, event.camera))
        return known is None or not (known.is_proof_gone(event) or known.is_event_gone(event))

    events_a, events_b = (
        list(filter(is_comparable, events))
        for events in _events(store, settings.database_url, policies, cameras, window)
    )
    result = compared(events_a, events_b, more_s)
    if as_json:
        names = {"names": [a, b], "policies": [policy and policy.digest for policy in policies]}
        click.echo(msgspec.json.encode(names | result.as_wire()).decode())
    else:
        echo_lines(report(result, a, b, dated_lines(store, local, [*events_a, *events_b])))


def report(result: Comparison, a: str, b: str, line: Callable[[Event], str]) -> Iterator[str]:
    """The comparison as lines for a person: every difference, by `line`, in order of time, then the counts."""
    differences = [
        *((pair.a, f"shifted {pair.shift_s:+g} s", pair) for pair in result.shifted),
        *((pair.a, "another direction", pair) for pair in result.otherwise),
        *((event, "only in A", None) for event in result.only_a),
        *((event, "only in B", None) for event in result.only_b),
    ]
    for event, how, pair in sorted(differences, key=lambda d: (d[0].at, d[0].id)):
        yield f"{how + _directions(pair):<16} {line(event)}"
    if differences:
        yield ""
    yield f"A is {a}, B is {b}"
    yield f"  {'kind':<18}{'A':>6}{'B':>6}{'only A':>8}{'only B':>8}"
    for kind, *counts in result.kinds():
        yield f"  {kind:<18}{counts[0]:>6}{counts[1]:>6}{counts[2]:>8}{counts[3]:>8}"
    yield (
        f"A {result.count_a} events, B {result.count_b}: {len(result.same)} the same, {len(result.shifted)} shifted, "
        f"{len(result.otherwise)} in another direction, {len(result.only_a)} only in A, "
        f"{len(result.only_b)} only in B; these {result.differ} differ"
    )


def _directions(pair: Pair | None) -> str:
    if pair is None or pair.a.direction == pair.b.direction:
        return ""
    return f" ({pair.a.direction} -> {pair.b.direction})"


def _events(
    store: Store, url: str, policies: Sequence[SitePolicy | None], cameras: Sequence[CameraHead], window: Window
) -> list[list[Event]]:
    """The events of each policy; of None, those of the log. All policies are folded in one reading of the past."""
    since_us, until_us = window.since_us, window.until_us
    tried = tuple(policy for policy in policies if policy)
    tasks = [FoldTask(url, c.site, c.camera, tried, since_us, until_us) for c in cameras if tried]
    results = [result.events for result in run_tasks(fold_policies, tasks)]
    folded = ([event for events in of_policy for event in events] for of_policy in zip(*results, strict=True))
    return [
        next(folded)
        if policy
        else [logged.event for c in cameras for logged in store.events(since_us, until_us, c.site, c.camera)]
        for policy in policies
    ]
