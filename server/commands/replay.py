"""`sectorwatch replay`: run policies over what was seen, without the models and without a single picture."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import click

from policies.events import Event
from policies.site.site_policy import RULES_VERSION
from server.commands.folding import FoldTask, find_cameras, fold_as_accepted, fold_policies, read_policy, run_tasks
from server.commands.options import OLDER, check_window, found_settings, opened_store, store_options, window_options
from server.delivery.channels import json_line, text_line
from server.domain.records import LoggedEvent
from server.store import Store


@click.command()
@click.option("--policy", "file", type=click.Path(path_type=Path), help="Judge by this site policy instead.")
@click.option("--check", is_flag=True, help="Compare with the event log; exit with 1 if they differ.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per line.")
@window_options
@store_options
def command(
    file: Path | None,
    check: bool,
    as_json: bool,
    since_us: int | None,
    until_us: int | None,
    site: str | None,
    camera: str | None,
    config: Path | None,
    database: str | None,
    data_dir: Path | None,
) -> None:
    """Show the events that a policy makes of the stored observations.

    Without --policy each burst is judged by the policy it was accepted under, so the events are those of the
    log, to the last bit; --check proves it. It ends with 1 where they differ, and with 3 where all that differs
    was made under another version of the rules.
    """
    check_window(since_us, until_us)
    if check and file is not None:
        raise click.UsageError("--check compares with the log, which other rules than --policy made")
    policy = None if file is None else read_policy(file)[0]
    if policy is not None and site not in (None, policy.site):
        raise click.UsageError(f"{file} is a policy for site `{policy.site}`, not `{site}`")
    store = opened_store(config, database, data_dir)
    url = found_settings(config, database, data_dir).database_url
    cameras = find_cameras(store, site if policy is None else policy.site, camera)
    policies = () if policy is None else (policy,)
    tasks = [FoldTask(url, head.site, head.camera, policies, since_us, until_us) for head in cameras]
    if check:
        _check(store, tasks)
        return
    line = json_line if as_json else text_line
    for events in run_tasks(_told, tasks):
        for event in events:
            click.echo(line(_unlogged(event)))


def _told(task: FoldTask) -> Sequence[Event]:
    """What a task's policy tells, or, without one, what the rules in force tell."""
    return fold_policies(task).events[0] if task.policies else fold_as_accepted(task)


def _unlogged(event: Event) -> LoggedEvent:
    return LoggedEvent(0, event, late=False, withdrawn_at_us=None, burst_id="")


def _check(store: Store, tasks: Sequence[FoldTask]) -> None:
    """Print how log and replay differ, and exit with 1 (3: other rules explain all of it), or say that they do not."""
    count = differences = older = 0
    for task, events in zip(tasks, run_tasks(partial(fold_as_accepted, from_start=True), tasks), strict=True):
        log = {e.event.id: e.event for e in store.events(task.since_us, task.until_us, task.site, task.camera)}
        fold = {event.id: event for event in events}
        count += len(fold)
        for how, event in _compared(log, fold):
            differences += 1
            older += store.policy(event.provenance.policy).version != RULES_VERSION
            click.echo(f"{how}: {text_line(_unlogged(event))}")
    if differences:
        click.echo(f"{differences} differences between the log and the replay of {count} events", err=True)
        if older:
            click.echo(f"{older} of them were made under another version of the rules; `verify` looks closer", err=True)
        raise SystemExit(OLDER if older == differences else 1)
    cameras = "1 camera" if len(tasks) == 1 else f"{len(tasks)} cameras"
    click.echo(f"The log is what replay gives: {count} events of {cameras}, bit for bit.")


def _compared(log: dict[str, Event], fold: dict[str, Event]) -> Iterator[tuple[str, Event]]:
    for event_id, event in fold.items():
        if event_id not in log:
            yield "missing from the log", event
        elif log[event_id] != event:
            yield "told otherwise in the log", event
    for event_id, event in log.items():
        if event_id not in fold:
            yield "only in the log", event
