"""`sectorwatch audit`: who changed what, and who signed in."""

from __future__ import annotations

import click

from server.commands.options import Instant, aligned, current_store, echo_lines, local_of, store_options
from server.domain.people import AuditLine
from server.domain.times.clock import now_us
from server.domain.times.local_time import FORMS, When
from server.settings import ServerSettings


@click.command()
@click.option("--site", help="Only what concerns this site.")
@click.option("--since", type=Instant(), help=f"From this time on: {FORMS}. Without a zone: the site's time.")
@click.option("--limit", type=click.IntRange(1, 100_000), default=200, show_default=True, help="The newest so many.")
@store_options
def command(site: str | None, since: When | None, limit: int, settings: ServerSettings) -> None:
    """Show who changed what, who signed in and who failed to, the newest last.

    Times are in the site's local time. Lines are kept as long as events (keep_events_days).
    """
    store = current_store(settings)
    local = local_of(settings, store, site)
    sites = None if site is None else frozenset({site})
    since_us = None if since is None else since.us(local, now_us())
    lines = store.audit.page(sites=sites, since_us=since_us, limit=limit)
    if not lines:
        click.echo("No lines.", err=True)
        return

    def row(line: AuditLine) -> tuple[str, ...]:
        return local.dated(line.at_us), line.author, line.what, line.site or "-", line.subject or "-", line.detail or ""

    echo_lines(aligned([("AT", "WHO", "WHAT", "SITE", "SUBJECT", "DETAIL"), *map(row, reversed(lines))]))
    if len(lines) == limit:
        click.echo(f"These are the newest {limit}: --limit shows more.", err=True)
