"""`sectorwatch export`: events, observations and occupancy as files for other programs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Literal, NamedTuple, get_args

import click

from server.analysis.exports import FORMS, TABLES, Form, Row, event_row, fault_of, pieces
from server.analysis.exports.notes import kept_notes, watched_notes
from server.analysis.exports.observation_rows import observation_rows
from server.analysis.exports.occupancy_rows import Every, occupancy_rows
from server.commands.cameras import find_cameras
from server.commands.events import in_time
from server.commands.options import Asked, Window, current_store, local_of, store_options, window_options
from server.commands.upkeep.export.package import CAMTRAP, PackageOptions, camtrap_options, write_camtrap
from server.domain.errors import ConfigurationError
from server.domain.files.atomic_files import replacing
from server.domain.records import CameraHead
from server.domain.times.clock import SECOND_US, now_us
from server.domain.times.local_time import LocalTime
from server.settings import ServerSettings
from server.store import Store

_STDOUT = "-"
_LONG_AGO_US = 3600 * SECOND_US


class Wanted(NamedTuple):
    """What to export: a subject, of which cameras and time."""

    subject: str
    cameras: Sequence[CameraHead]
    window: Window
    every: Every
    withdrawn: bool


@click.command()
@click.argument("subject", type=click.Choice(list(TABLES)))
@click.option(
    "--format",
    "form",
    type=click.Choice((*FORMS, CAMTRAP)),
    default="csv",
    show_default=True,
    help="Form of the file; `camtrap-dp` is a folder.",
)
@click.option("--out", default=_STDOUT, show_default=True, metavar="PATH", help="Where to write; `-`: standard output.")
@click.option("--every", type=click.Choice(get_args(Every)), help="Interval of `occupancy` (default: 1min).")
@click.option(
    "--withdrawn/--no-withdrawn",
    default=True,
    help="Also events that a late burst disproved, marked as such (default; Camtrap DP has none).",
)
@camtrap_options
@window_options
@store_options
def command(
    subject: str,
    form: Form | Literal["camtrap-dp"],
    out: str,
    every: Every | None,
    withdrawn: bool,
    package: PackageOptions,
    asked: Asked,
    settings: ServerSettings,
) -> None:
    """Write events, observations or occupancy as files for other programs. Rows go out as they are read.

    \b
    sectorwatch export events --site north-yard --since 7d --out events.csv
    sectorwatch export observations --format parquet --out observations.parquet
    sectorwatch export occupancy --every 5min --format jsonl
    sectorwatch export events --format camtrap-dp --out package

    `events` go by the time of confirmation. `observations` are all labels of all models. `occupancy` says for each
    interval how many seconds each sector was occupied, clear, unobserved, or is no longer kept. The columns are in
    server/analysis/exports/README.md. Instants are UTC.

    What is no longer kept, and how long nobody watched, is said on standard error, and in Parquet's metadata. Parquet
    needs the extra `export`.
    """
    _check(subject, form, out, every, package)
    store = current_store(settings)
    local = local_of(settings, store, asked.site)
    window = asked.window(local)
    wanted = Wanted(subject, find_cameras(store, window.site, window.camera), window, every or "1min", withdrawn)
    notes = list(_notes(store, local, wanted))
    for note in notes:
        click.echo(f"Note: {note}.", err=True)
    if form == CAMTRAP:
        write_camtrap(store, Path(out), subject, wanted.cameras, window, package)
        return
    _write(out, pieces(form, TABLES[subject], _rows(store, wanted), notes))


def _check(
    subject: str, form: Form | Literal["camtrap-dp"], out: str, every: Every | None, package: PackageOptions
) -> None:
    """Raises UsageError for options that do not go together, and ConfigurationError for what is not installed."""
    if every is not None and subject != "occupancy":
        raise click.UsageError("--every goes with `occupancy`")
    if form == CAMTRAP:
        if subject == "occupancy":
            raise click.UsageError("Camtrap DP has no occupancy: export events or observations, or choose another form")
        if out == _STDOUT:
            raise click.UsageError("Camtrap DP is a folder: name one with --out")
        return
    if package.is_given:
        raise click.UsageError("--latitude, --longitude, --contributor, --type and --server-url go with camtrap-dp")
    if fault := fault_of(form):
        raise ConfigurationError(fault)
    if form == "parquet" and out == _STDOUT:
        raise click.UsageError("Parquet is no text for standard output: name a file with --out")


def _rows(store: Store, wanted: Wanted) -> Iterator[Row]:
    since_us, until_us, _, _ = wanted.window
    if wanted.subject == "events":
        return map(event_row, in_time(store, wanted.window, None, withdrawn=wanted.withdrawn))
    if wanted.subject == "observations":
        return observation_rows(store, wanted.cameras, since_us, until_us)
    if until_us is None:  # all cameras to one end: one that is silent is unobserved while others are watched
        until_us = _newest_us(wanted.cameras) + 1
    return occupancy_rows(store, wanted.cameras, since_us, until_us, wanted.every, now_us())


def _newest_us(cameras: Sequence[CameraHead]) -> int:
    return max(head.last_at_us for head in cameras)


def _notes(store: Store, local: LocalTime, wanted: Wanted) -> Iterator[str]:
    """What the rows do not show."""
    since_us, until_us, _, _ = wanted.window
    is_events = wanted.subject == "events"
    yield from kept_notes(store, wanted.cameras, since_us, until_us, local.dated, events_only=is_events)
    newest_us = _newest_us(wanted.cameras)
    if until_us is None and now_us() - newest_us > _LONG_AGO_US:
        yield f"the newest frame is of {local.dated(newest_us)}: the export ends there"
    if wanted.subject == "occupancy":
        return  # its rows say it
    first = [burst.first_at_us for head in wanted.cameras for burst in store.past.after(head.site, head.camera, 0, 1)]
    from_us = since_us if since_us is not None else min(first, default=newest_us)
    yield from watched_notes(store, wanted.cameras, from_us, newest_us + 1 if until_us is None else until_us)


def _write(out: str, file: Iterator[bytes]) -> None:
    if out == _STDOUT:
        with click.open_file(_STDOUT, "wb") as stream:
            stream.writelines(file)
        return
    path = Path(out)
    is_place = not path.exists() or path.is_file()  # a device or a pipe takes what is written, and stays
    try:
        with (
            replacing(path.resolve(), mode=0o600) if is_place else nullcontext(path) as aside,
            aside.open("wb") as stream,
        ):
            stream.writelines(file)
    except OSError as error:
        raise ConfigurationError(f"cannot write {path}: {error.strerror}") from None
