"""`sectorwatch verify`: recompute an event from its stored votes, and check every digest in its provenance."""

from __future__ import annotations

import click
import msgspec

from server.analysis.annotations import no_event, several
from server.analysis.verify import Check, summary_of, verify
from server.commands.events import dated_lines
from server.commands.options import EXIT_NOT_KEPT, EXIT_OLDER, current_store, local_of, store_options
from server.domain.records import EventRecord
from server.settings import ServerSettings
from server.store import Store


@click.command()
@click.argument("event_id")
@click.option("--from-start", is_flag=True, help="Fold from the camera's first frame, without any checkpoint.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@store_options
def command(event_id: str, from_start: bool, as_json: bool, settings: ServerSettings) -> None:
    """Verify one event; EVENT_ID may be the beginning of its id.

    Prints each check. The exit code is 1 if a check fails, 3 if other rules explain every failure, and 4 if all hold
    that can be made, because the site no longer keeps what the others take.
    """
    store = current_store(settings)
    record = event_record(store, event_id)
    checks = list(verify(store, record, from_start=from_start))
    older = sum(check.is_older for check in checks)
    gone = sum(check.is_gone for check in checks)
    failed = sum(not check.holds for check in checks) - older - gone
    if as_json:
        wire = {
            "event": record.logged.as_wire(),
            "holds": not (failed or older or gone),
            "checks": msgspec.to_builtins(checks),
        }
        click.echo(msgspec.json.encode(wire).decode())
    else:
        event = record.logged.event
        line = dated_lines(store, local_of(settings, store, event.site), [event])
        click.echo(f"{line(event)}{', withdrawn' if record.logged.is_withdrawn else ''}")
        for check in checks:
            click.echo(f"  {_mark(check)} {check.what}: {check.finding}")
        click.echo(summary_of(checks))
    if failed or older or gone:
        raise SystemExit(1 if failed else EXIT_OLDER if older else EXIT_NOT_KEPT)


def _mark(check: Check) -> str:
    if check.holds:
        return "ok  "
    return "gone" if check.is_gone else "old " if check.is_older else "FAIL"


def event_record(store: Store, prefix: str) -> EventRecord:
    """The only event whose id begins with `prefix`. Raises Unknown if there are none or several."""
    records = store.past.events_like(prefix)
    if not records:
        raise no_event(prefix, store.retention.all_gone())
    if len(records) > 1:
        raise several(store, prefix, records)
    return records[0]
