"""`sectorwatch late`: the bursts that came too late, and how to fold them in or take others out."""

from __future__ import annotations

from collections.abc import Callable

import click

from server.commands.cameras import find_camera
from server.commands.options import Instant, aligned, current_store, echo_lines, local_of, store_options, stretch
from server.domain.errors import Unknown
from server.domain.people import COMMAND_LINE
from server.domain.times.local_time import FORMS, When
from server.settings import ServerSettings
from server.store import Store

_WHAT = ("ahead of the clock", "waiting for their refold", "set aside")


@click.group()
def command() -> None:
    """Show bursts outside of the log, fold them in, or take bursts out.

    A burst that is older than its camera's newest frame by more than `late_within` is kept and changes no event.
    """


@command.command("list")
@store_options
def list_(settings: ServerSettings) -> None:
    """Show how many bursts of each camera the log does not include, and of which time."""
    store = current_store(settings)
    found = store.marked()
    if not found:
        click.echo("The log includes all bursts.")
        return
    local = local_of(settings, store, None)
    rows = [("camera", "bursts", "are", "from", "to")]
    for each in found:
        span = (local.dated(each.first_at_us), local.dated(each.last_at_us))
        rows.append((f"{each.site}/{each.camera}", str(each.bursts), _WHAT[each.late], *span))
    echo_lines(aligned(rows))


def _of_camera(change: Callable[..., None]) -> Callable[..., None]:
    """Adds --site, --camera, --since and --until."""
    for option in (
        click.option("--until", type=Instant(), help="Only bursts that begin before this time."),
        click.option("--since", type=Instant(), help=f"Only bursts that begin from this time on: {FORMS}."),
        click.option("--camera", help="The camera; may be left out if there is only one."),
        click.option("--site", help="Its site, if several sites have a camera of that name."),
    ):
        change = option(change)
    return change


@command.command()
@_of_camera
@store_options
def fold_in(
    site: str | None, camera: str | None, since: When | None, until: When | None, settings: ServerSettings
) -> None:
    """Fold in bursts that were set aside, as if they had come in time.

    The log is corrected. The server may run meanwhile.
    """
    _change(settings, site, camera, since, until, Store.fold_in, "folded in")


@command.command()
@_of_camera
@store_options
def set_aside(
    site: str | None, camera: str | None, since: When | None, until: When | None, settings: ServerSettings
) -> None:
    """Take bursts out of the log: those that a wrong clock stamped, for example.

    They are kept, and `fold-in` brings them back. Their events are withdrawn. Give --since or --until. The server may
    run meanwhile.
    """
    if since is None and until is None:
        raise click.UsageError("name the time of the bursts with --since or --until")
    _change(settings, site, camera, since, until, Store.set_aside, "set aside")


def _change(
    settings: ServerSettings,
    site: str | None,
    camera: str | None,
    since: When | None,
    until: When | None,
    change: Callable[..., int],
    done: str,
) -> None:
    store = current_store(settings)
    site, camera = _named(store, site, camera)
    span = stretch(local_of(settings, store, site), since, until)
    before = store.last_seq()
    count = change(store, site, camera, *span, by=COMMAND_LINE)
    bursts = "1 burst" if count == 1 else f"{count} bursts"
    click.echo(f"{bursts} of {site}/{camera} {done}; {store.last_seq() - before} corrections in the event log")


def _named(store: Store, site: str | None, camera: str | None) -> tuple[str, str]:
    """The only camera of these names, also one of which everything is set aside. Raises Unknown."""
    names = {(each.site, each.camera) for each in store.marked()}
    fitting = [name for name in names if site in (None, name[0]) and camera in (None, name[1])]
    try:
        head = find_camera(store, site, camera)
    except Unknown:
        if len(fitting) == 1:
            return fitting[0]
        raise
    return head.site, head.camera
