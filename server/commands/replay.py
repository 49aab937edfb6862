"""`sectorwatch replay`: fold the stored observations again, without models or images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import click

from policies.events import Event, microseconds
from policies.site.site_policy import RULES_VERSION
from server.commands.cameras import find_cameras, gone_within, note_enlarged
from server.commands.events import VisitPrinter, dated_lines
from server.commands.folding import (
    FoldTask,
    fold_as_accepted,
    fold_policies,
    processes_option,
    read_policy,
    refold_as_accepted,
    run_tasks,
)
from server.commands.options import (
    EXIT_OLDER,
    Asked,
    current_store,
    echo_lines,
    local_of,
    store_options,
    window_options,
)
from server.delivery.gone_text import NOT_KEPT
from server.delivery.lines import json_line, text_line
from server.delivery.visits import Joiner, unlogged
from server.domain.keeping import Gone
from server.domain.times.local_time import LocalTime
from server.settings import ServerSettings
from server.store import Store


@click.command()
@click.option("--policy", "file", type=click.Path(path_type=Path), help="Use this site policy instead.")
@click.option("--check", is_flag=True, help="Compare with the event log; exit with 1 if they differ.")
@click.option("--full", is_flag=True, help="All fields of each event, on a line of its own, with times in UTC.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per event.")
@processes_option
@window_options
@store_options
def command(
    file: Path | None,
    check: bool,
    full: bool,
    as_json: bool,
    processes: int | None,
    asked: Asked,
    settings: ServerSettings,
) -> None:
    """Show the events that follow from the stored observations.

    Without --policy, each burst is judged by the policy under which it was accepted, so the events equal the log bit
    for bit. --check proves it: the exit code is 1 if they differ, and 3 if another version of the rules explains every
    difference. Events whose bursts are no longer kept are counted, and not compared. --since and --until go by the time
    at which an event was confirmed.
    """
    if check and file is not None:
        raise click.UsageError("--check compares with the log, so it cannot be used with --policy")
    policy = None if file is None else read_policy(file)[0]
    if policy is not None and asked.site not in (None, policy.site):
        raise click.UsageError(f"{file} is a policy for site `{policy.site}`, not `{asked.site}`")
    store = current_store(settings)
    site = asked.site if policy is None else policy.site
    local = local_of(settings, store, site)
    window = asked.window(local)
    cameras = find_cameras(store, site, window.camera)
    policies = () if policy is None else (policy,)
    tasks = [
        FoldTask(settings.database_url, head.site, head.camera, policies, window.since_us, window.until_us)
        for head in cameras
    ]
    gone = gone_within(store, local, window)
    note_enlarged(store, policies, cameras, window.since_us, window.until_us)
    if check:
        _check(store, tasks, local, gone, processes)
        return
    logged_events = (unlogged(event) for events in run_tasks(_events, tasks, processes) for event in events)
    if as_json:
        echo_lines(map(json_line, logged_events))
    elif full:
        echo_lines(map(text_line, sorted(logged_events, key=lambda logged: logged.event.at)))
    else:
        events = sorted(logged_events, key=lambda logged: logged.event.started_at)
        VisitPrinter(store, local, site, window.camera).show(Joiner().join(events))


def _events(task: FoldTask) -> Sequence[Event]:
    """The events of a task's policy or, without one, of the policies that were in force."""
    return fold_policies(task).events[0] if task.policies else fold_as_accepted(task)


def _check(
    store: Store,
    tasks: Sequence[FoldTask],
    local: LocalTime,
    gone: Mapping[tuple[str, str], Gone],
    processes: int | None,
) -> None:
    """Print the differences between log and replay. Exits with 1, or 3 if other rules explain all of them.

    The fold goes on from the states that were kept of the end of what is gone, so the rest is compared bit for bit.
    """
    count = differences = older = unproved = 0
    for task, (events, other_rules) in zip(tasks, run_tasks(refold_as_accepted, tasks, processes), strict=True):
        log = {e.event.id: e.event for e in store.events(task.since_us, task.until_us, task.site, task.camera)}
        fold = {event.id: event for event in events}
        known = gone.get((task.site, task.camera), Gone(task.site, task.camera))
        unproved += sum(map(known.is_proof_gone, log.values()))
        count += len(fold)
        for how, event in _compared(log, fold):
            if event.id in log and known.is_proof_gone(log[event.id]):
                continue
            if event.id not in log and known.is_event_gone(event):
                count -= 1
                continue
            differences += 1
            older += _is_older(store, event, other_rules)
            click.echo(f"{how}: {dated_lines(store, local, [event])(event)}")
    if unproved:
        click.echo(f"{unproved} events of the log are not compared: their bursts are {NOT_KEPT}.", err=True)
    if differences:
        click.echo(f"{differences} differences between the log and the replay of {count} events", err=True)
        if older:
            click.echo(f"{older} of them were made under another version of the rules; `verify` shows more", err=True)
        raise SystemExit(EXIT_OLDER if older == differences else 1)
    cameras = "1 camera" if len(tasks) == 1 else f"{len(tasks)} cameras"
    click.echo(f"The log equals the replay: {count} events of {cameras}, bit for bit.")


def _is_older(store: Store, event: Event, other_rules: Sequence[tuple[int, int]]) -> bool:
    """Whether another version of the rules made the event, or judged bursts from which it follows."""
    at_us = microseconds(event.confirmed_at)
    return store.policy(event.provenance.policy).version != RULES_VERSION or any(
        first_us <= at_us <= last_us for first_us, last_us in other_rules
    )


def _compared(log: dict[str, Event], fold: dict[str, Event]) -> Iterator[tuple[str, Event]]:
    for event_id, event in fold.items():
        if event_id not in log:
            yield "missing from the log", event
        elif log[event_id] != event:
            yield "reported differently in the log", event
    for event_id, event in log.items():
        if event_id not in fold:
            yield "only in the log", event
