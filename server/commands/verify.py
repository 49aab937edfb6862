"""`sectorwatch verify`: recompute an event from its stored votes, and check every digest in its provenance."""

from __future__ import annotations

from pathlib import Path

import click
import msgspec

from server.analysis.verify import verified
from server.commands.options import OLDER, opened_store, store_options
from server.delivery.channels import text_line
from server.domain.errors import Unknown
from server.domain.records import EventRecord
from server.store import Store


@click.command()
@click.argument("event_id")
@click.option("--from-start", is_flag=True, help="Fold from the camera's first frame: trusts no checkpoint.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@store_options
def command(
    event_id: str,
    from_start: bool,
    as_json: bool,
    config: Path | None,
    database: str | None,
    data_dir: Path | None,
) -> None:
    """Verify one event; EVENT_ID may be the beginning of its id.

    Each check is printed; the exit code is 1 if any does not hold. It is 3 if all that does not hold is explained by
    another version of the rules, under which the event was made.
    """
    store = opened_store(config, database, data_dir)
    record = event_record(store, event_id)
    checks = list(verified(store, record, from_start=from_start))
    older = sum(check.is_older for check in checks)
    failed = sum(not check.holds for check in checks) - older
    if as_json:
        wire = {"event": record.logged.as_wire(), "holds": not (failed or older), "checks": msgspec.to_builtins(checks)}
        click.echo(msgspec.json.encode(wire).decode())
    else:
        click.echo(text_line(record.logged))
        for check in checks:
            mark = "ok  " if check.holds else "old " if check.is_older else "FAIL"
            click.echo(f"  {mark} {check.what}: {check.found}")
        click.echo(_summary(failed, older, len(checks)))
    if failed or older:
        raise SystemExit(1 if failed else OLDER)


def _summary(failed: int, older: int, count: int) -> str:
    if failed:
        return f"{failed} of {count} checks failed"
    if older:
        return f"{count - older} of {count} checks hold; the others only the rules of then could repeat"
    return f"all {count} checks hold"


def event_record(store: Store, prefix: str) -> EventRecord:
    """The one event whose id begins so. Raises Unknown for none, and for several."""
    found = store.past.events_like(prefix)
    if len(found) == 1:
        return found[0]
    if not found:
        raise Unknown(f"no event {prefix}: `sectorwatch events` shows their ids, at the end of each line")
    raise Unknown(f"several events begin with {prefix}, among them {found[0].id} and {found[1].id}")
