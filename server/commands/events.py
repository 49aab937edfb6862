"""`sectorwatch events`: the event log, past or as it grows."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import get_args

import click

from policies.events import Kind, microseconds
from server.commands.folding import check_camera_is_stored
from server.commands.options import check_window, opened_store, store_options, window_options
from server.delivery.channels import json_line, text_line
from server.domain.errors import RetryLater
from server.domain.records import LoggedEvent
from server.store import Store

POLL_S = 0.5
_PAGE = 500


@click.command()
@click.option("--follow", "-f", is_flag=True, help="Go on with what is said from now on, until Ctrl-C.")
@click.option("--kind", type=click.Choice(get_args(Kind)), help="Only this kind.")
@click.option("--withdrawn", is_flag=True, help="Also those that a late burst disproved.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per line.")
@window_options
@store_options
def command(
    follow: bool,
    kind: str | None,
    withdrawn: bool,
    as_json: bool,
    since_us: int | None,
    until_us: int | None,
    site: str | None,
    camera: str | None,
    config: Path | None,
    database: str | None,
    data_dir: Path | None,
) -> None:
    """Show events in order of time, as the log has them now.

    With --follow also what comes: in the order in which it is said, corrections and withdrawals included; without
    --since only that.
    """
    check_window(since_us, until_us)
    if follow and until_us is not None:
        raise click.UsageError("--follow has no end, so --until does not go with it")
    store = opened_store(config, database, data_dir)
    if not follow:  # what does not send yet may be waited for
        check_camera_is_stored(store, site, camera)
    line = json_line if as_json else text_line

    def show(logged: LoggedEvent) -> None:
        click.echo(line(logged))

    cursor = store.last_seq()
    if not follow or since_us is not None:
        for logged in in_time(store, since_us, until_us, site, camera, kind, withdrawn=withdrawn):
            if not follow or logged.seq <= cursor:
                show(logged)
    if follow:
        try:
            following(store, show, cursor, site, camera, kind, threading.Event())
        except KeyboardInterrupt:
            return


def in_time(
    store: Store,
    since_us: int | None,
    until_us: int | None,
    site: str | None,
    camera: str | None,
    kind: str | None,
    *,
    withdrawn: bool,
) -> Iterator[LoggedEvent]:
    """What `Store.events` gives, page by page: the first comes at once, and memory stays flat however long the log."""
    limit, shown = _PAGE, frozenset[str]()
    while True:
        page = store.events(since_us, until_us, site, camera, kind, limit=limit, withdrawn=withdrawn)
        yield from (logged for logged in page if logged.event.id not in shown)
        if len(page) < limit:
            return
        last_us = microseconds(page[-1].event.confirmed_at)
        if last_us == since_us:  # more were settled at that instant than this page holds
            limit *= 2
        else:
            limit, shown = _PAGE, frozenset()
        since_us, shown = last_us, shown | _ids(page)  # the next page begins with those of the last instant again


def _ids(page: Sequence[LoggedEvent]) -> frozenset[str]:
    return frozenset(logged.event.id for logged in page)


def following(
    store: Store,
    show: Callable[[LoggedEvent], None],
    cursor: int,
    site: str | None,
    camera: str | None,
    kind: str | None,
    stop: threading.Event,
) -> None:
    """Show everything said after `cursor`, until `stop` is set; the store is asked every POLL_S when idle.

    A database that is away is waited for: whoever began anew would miss what was said meanwhile.
    """
    is_away = False
    while not stop.is_set():
        try:
            newest = store.last_seq()
            page = store.events(site=site, camera=camera, kind=kind, after_seq=cursor, limit=_PAGE)
        except RetryLater as error:
            if not is_away:
                click.echo(f"sectorwatch: {error.detail}; waiting for it", err=True)
            is_away = True
            stop.wait(POLL_S)
            continue
        is_away = False
        for logged in page:
            show(logged)
            cursor = logged.seq
        if len(page) < _PAGE:  # what was said up to then of other places is not read again
            cursor = max(cursor, newest)
        if not page:
            stop.wait(POLL_S)
