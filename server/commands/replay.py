"""`sectorwatch replay`: run policies over what was seen, without the models and without a single picture."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click

from policies.events import Event
from policies.site_policy import InvalidPolicy, SitePolicy, parse_site_policy
from server.channels import json_line, text_line
from server.commands.options import opened_store, store_options, window_options
from server.records import CameraHead, Checkpoint, LoggedEvent
from server.refold import PolicyOf, steps
from server.store import Store

_START = Checkpoint(None, None)


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
    log, to the last bit; --check proves it.
    """
    if check and file is not None:
        raise click.UsageError("--check compares with the log, which other rules than --policy made")
    policy = None if file is None else _read(file)
    if policy is not None and site not in (None, policy.site):
        raise click.UsageError(f"{file} is a policy for site `{policy.site}`, not `{site}`")
    store = opened_store(config, database, data_dir)
    wanted = policy.site if policy is not None else site
    cameras = [c for c in store.cameras() if wanted in (None, c.site) and camera in (None, c.camera)]
    if check:
        _check(store, cameras, since_us, until_us)
        return
    line = json_line if as_json else text_line
    for head in cameras:
        for logged in replayed(store, head, since_us, until_us, policy):
            click.echo(line(logged))


def replayed(
    store: Store,
    head: CameraHead,
    since_us: int | None,
    until_us: int | None,
    policy: SitePolicy | None = None,
    start: Checkpoint | None = None,
) -> Iterator[LoggedEvent]:
    """A camera's events confirmed in a stretch of time, as the fold gives them; `seq` is 0, nothing is late.

    Under another `policy` the fold begins with the first frame ever seen, since what came before decides who is
    in the yard; under the recorded ones, at `start` or else at the checkpoint before `since_us`.
    """
    if start is None:
        is_recorded = policy is None and since_us is not None
        start = store.checkpoint(head.site, head.camera, since_us or 0) if is_recorded else _START
    policy_of: PolicyOf = store.policy if policy is None else lambda _: policy
    after_us = None if start.at_us is None else start.at_us + 1
    told: set[str] = set()
    for step in steps(store.history(head.site, head.camera, after_us, until_us), start, policy_of):
        if since_us is not None and step.recorded.observation.at_us < since_us:
            continue
        for event in step.events:
            if event.id not in told:
                told.add(event.id)
                yield LoggedEvent(0, event, False, None, step.recorded.observation.burst_id)


def _read(file: Path) -> SitePolicy:
    try:
        return parse_site_policy(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise click.UsageError(f"{file}: {error.strerror}") from None
    except (InvalidPolicy, UnicodeDecodeError) as error:
        raise click.UsageError(f"{file}: {error}") from None


def _check(store: Store, cameras: list[CameraHead], since_us: int | None, until_us: int | None) -> None:
    """Print how log and replay differ, and exit with 1, or say that they do not."""
    count = differences = 0
    for head in cameras:
        log = {e.event.id: e.event for e in store.events(since_us, until_us, head.site, head.camera)}
        fold = {e.event.id: e.event for e in replayed(store, head, since_us, until_us, start=_START)}
        count += len(fold)
        for how, event in _compared(log, fold):
            differences += 1
            click.echo(f"{how}: {text_line(LoggedEvent(0, event, False, None, ''))}")
    if differences:
        click.echo(f"{differences} differences between the log and the replay of {count} events", err=True)
        raise SystemExit(1)
    click.echo(f"The log is what replay gives: {count} events of {len(cameras)} cameras, bit for bit.")


def _compared(log: dict[str, Event], fold: dict[str, Event]) -> Iterator[tuple[str, Event]]:
    for event_id, event in fold.items():
        if event_id not in log:
            yield "missing from the log", event
        elif log[event_id] != event:
            yield "told otherwise in the log", event
    for event_id, event in log.items():
        if event_id not in fold:
            yield "only in the log", event
