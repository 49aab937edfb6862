"""`sectorwatch events`: the event log, past or as it grows."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import get_args

import click

from policies.events import Kind, microseconds
from server.commands.cameras import check_camera_is_stored
from server.commands.options import Window, current_store, store_options, window_options
from server.delivery.channels import json_line, text_line
from server.domain.errors import RetryLater
from server.domain.records import LoggedEvent
from server.settings import ServerSettings
from server.store import Store

POLL_S = 0.5
_PAGE = 500


@click.command()
@click.option("--follow", "-f", is_flag=True, help="Then show new announcements as they come, until Ctrl-C.")
@click.option("--kind", type=click.Choice(get_args(Kind)), help="Only this kind.")
@click.option("--withdrawn", is_flag=True, help="Also events that a late burst disproved.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per line.")
@window_options
@store_options
def command(
    follow: bool,
    kind: str | None,
    withdrawn: bool,
    as_json: bool,
    window: Window,
    settings: ServerSettings,
) -> None:
    """Show events in order of time, as the log has them now.

    With --follow, show new events as they come, with corrections and withdrawals, in the order of their announcement.
    Without --since, --follow shows no past events.
    """
    if follow and window.until_us is not None:
        raise click.UsageError("--follow does not end, so it cannot be used with --until")
    store = current_store(settings)
    if not follow:  # --follow may wait for a camera that has not sent anything yet
        check_camera_is_stored(store, window.site, window.camera)
    line = json_line if as_json else text_line

    def show(logged: LoggedEvent) -> None:
        click.echo(line(logged))

    cursor = store.last_seq()
    if not follow or window.since_us is not None:
        for logged in in_time(store, window, kind, withdrawn=withdrawn):
            if not follow or logged.seq <= cursor:
                show(logged)
    if follow:
        try:
            following(store, show, cursor, window, kind, threading.Event())
        except KeyboardInterrupt:
            return


def in_time(store: Store, window: Window, kind: str | None, *, withdrawn: bool) -> Iterator[LoggedEvent]:
    """What `Store.events` gives, read page by page so that memory stays flat however long the log."""
    since_us, until_us, site, camera = window
    limit, shown = _PAGE, frozenset[str]()
    while True:
        page = store.events(since_us, until_us, site, camera, kind, limit=limit, withdrawn=withdrawn)
        yield from (logged for logged in page if logged.event.id not in shown)
        if len(page) < limit:
            return
        last_us = microseconds(page[-1].event.confirmed_at)
        if last_us == since_us:  # that instant has more events than fit on this page
            limit *= 2
        else:
            limit, shown = _PAGE, frozenset()
        since_us, shown = (
            last_us,
            shown | {logged.event.id for logged in page},
        )  # the next page repeats the last instant


def following(
    store: Store,
    show: Callable[[LoggedEvent], None],
    cursor: int,
    window: Window,
    kind: str | None,
    stop: threading.Event,
) -> None:
    """Show every announcement after `cursor` until `stop` is set. Reads the store every POLL_S when idle.

    While the database does not answer, it waits, so that no announcement is missed.
    """
    is_away = False
    while not stop.is_set():
        try:
            newest = store.last_seq()
            page = store.events(site=window.site, camera=window.camera, kind=kind, after_seq=cursor, limit=_PAGE)
        except RetryLater as error:
            if not is_away:
                click.echo(f"sectorwatch: {error.detail}; waiting", err=True)
            is_away = True
            stop.wait(POLL_S)
            continue
        is_away = False
        for logged in page:
            show(logged)
            cursor = logged.seq
        if len(page) < _PAGE:  # the announcements of other cameras up to here need not be read again
            cursor = max(cursor, newest)
        if not page:
            stop.wait(POLL_S)
