"""`sectorwatch export --format camtrap-dp`: the options of a package, and its writing into a folder."""

from __future__ import annotations

import getpass
from collections.abc import Callable, Iterator, Sequence
from errno import ENOTEMPTY
from functools import wraps
from itertools import chain
from pathlib import Path
from typing import Any, Final, NamedTuple

import click

from policies.events import microseconds
from server import __version__
from server.analysis.exports.camtrap import OBSERVATION_TYPES, write_package
from server.analysis.exports.camtrap import Asked as AskedPackage
from server.analysis.exports.camtrap.kinds import ObservationType
from server.analysis.exports.notes import kept_notes, watched_notes
from server.commands.events import in_time
from server.commands.options import Window, utc
from server.domain.errors import ConfigurationError
from server.domain.files.atomic_files import filling
from server.domain.records import CameraHead, LoggedEvent
from server.domain.times.clock import now_us
from server.store import Store

CAMTRAP: Final = "camtrap-dp"


class PackageOptions(NamedTuple):
    """What nobody but the maker of a package knows."""

    latitude: float | None
    longitude: float | None
    contributor: str | None
    types: dict[str, ObservationType]
    address: str | None

    @property
    def is_given(self) -> bool:
        return any(each is not None and each != {} for each in self)


def camtrap_options(command: Callable[..., None]) -> Callable[..., None]:
    """Adds the options of a package. The command gets `package` instead."""

    @click.option("--latitude", type=click.FloatRange(-90, 90), help="camtrap-dp: the place, instead of the policy's.")
    @click.option("--longitude", type=click.FloatRange(-180, 180), help="camtrap-dp: the place (degrees, WGS84).")
    @click.option("--contributor", help="camtrap-dp: who answers for it (default: the user of this shell).")
    @click.option(
        "--type", "types", multiple=True, metavar="TARGET=TYPE", help="camtrap-dp: of which type a target is."
    )
    @click.option(
        "--server-url", "address", metavar="URL", help="camtrap-dp: name pictures by the server, and copy none."
    )
    @wraps(command)
    def with_package(
        *,
        latitude: float | None,
        longitude: float | None,
        contributor: str | None,
        types: Sequence[str],
        address: str | None,
        **options: Any,
    ) -> None:
        if (latitude is None) != (longitude is None):
            raise click.UsageError("--latitude and --longitude go together")
        package = PackageOptions(latitude, longitude, contributor, dict(map(_type, types)), address)
        command(package=package, **options)

    return with_package


def _type(words: str) -> tuple[str, ObservationType]:
    target, _, type_ = words.partition("=")
    if not target or type_ not in OBSERVATION_TYPES:
        raise click.UsageError(f"--type {words}: write TARGET=TYPE, with a type of {', '.join(OBSERVATION_TYPES)}")
    return target, type_


def write_camtrap(
    store: Store, folder: Path, subject: str, cameras: Sequence[CameraHead], window: Window, options: PackageOptions
) -> None:
    """Write a package into a new or empty folder, whole or not at all, and say what it has."""
    until_us = window.until_us
    asked = AskedPackage(
        level="event" if subject == "events" else "media",
        cameras=cameras,
        since_us=window.since_us,
        until_us=until_us,
        contributor=options.contributor or _user(),
        created_us=now_us(),
        made_by=__version__,
        place=None if options.latitude is None or options.longitude is None else (options.latitude, options.longitude),
        types=options.types,
        address=None if options.address is None else options.address.rstrip("/"),
        notes={f"{head.site}/{head.camera}": list(_notes(store, head, window)) for head in cameras},
    )
    try:
        with filling(folder) as aside:
            events = chain(_going_on(store, cameras, window), _events(store, window))
            written = write_package(store, aside, asked, events)
    except OSError as error:
        if error.errno == ENOTEMPTY:
            raise ConfigurationError(f"{folder} is not empty: name a new folder") from None
        raise ConfigurationError(f"cannot write {error.filename or folder}: {error.strerror}") from None
    counts = f"{written.deployments} deployments, {written.media} media, {written.observations} observations"
    click.echo(f"{folder}: {counts}")
    if written.lost:
        click.echo(f"Note: {written.lost} pictures are lost, and left out.", err=True)
    if not written.media and subject == "observations":
        click.echo("Note: no picture of that time is kept (keep_frames), so there is no observation of one.", err=True)


def _notes(store: Store, head: CameraHead, window: Window) -> Iterator[str]:
    since_us, until_us, _, _ = window
    yield from kept_notes(store, [head], since_us, until_us, utc, events_only=False)
    first = [burst.first_at_us for burst in store.past.after(head.site, head.camera, since_us or 0, 1)]
    from_us = since_us if since_us is not None else min(first, default=head.last_at_us)
    yield from watched_notes(store, [head], from_us, head.last_at_us + 1 if until_us is None else until_us)


def _events(store: Store, window: Window) -> Iterator[LoggedEvent]:
    return in_time(store, window, None, withdrawn=False)


def _going_on(store: Store, cameras: Sequence[CameraHead], window: Window) -> Iterator[LoggedEvent]:
    """The begins of presences that went on when the stretch begins."""
    if window.since_us is None:
        return
    wanted = {
        (site, stay.camera, stay.sector, stay.target, stay.from_us)
        for site in dict.fromkeys(head.site for head in cameras)
        for stay in store.stays(site, window.since_us, window.since_us + 1)
        if window.camera in (None, stay.camera) and stay.from_us < window.since_us
    }
    for logged in store.begun_at({from_us for *_, from_us in wanted}):
        event = logged.event
        key = (event.site, event.camera, event.sector, event.label, microseconds(event.started_at))
        if event.kind == "presence_started" and key in wanted:
            yield logged


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError) as error:  # a user id without an account, as in a container
        raise click.UsageError("this shell's user has no name: give one with --contributor") from error
