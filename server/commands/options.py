"""What several commands share: options for database and window, the store, model cards, tables and instants."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import click

from policies.events import instant, microseconds
from server.domain.errors import ConfigurationError, SectorwatchError
from server.domain.fleet import Standing
from server.domain.times.clock import now_us
from server.domain.times.local_time import FORMS, LocalTime, When, read_when, site_time
from server.frames import open_place
from server.pipeline.chosen_sites import texts_of
from server.settings import ServerSettings, load_settings
from server.store import Store, open_store

if TYPE_CHECKING:
    from server.catalogue import ModelCard

EXIT_OLDER = 3
"""The exit code when another version of the rules explains every difference."""

EXIT_NOT_KEPT = 4
"""The exit code of `verify` when all other checks hold, and something that one takes is no longer kept."""

F = TypeVar("F", bound=Callable[..., Any])

OLDEST_US = microseconds(datetime(2000, 1, 1, tzinfo=UTC))
NEWEST_US = microseconds(datetime(2200, 1, 1, tzinfo=UTC))


class Instant(click.ParamType[When]):
    """A time in one of FORMS. One that names no zone is in the site's local time, which the command knows."""

    name = "WHEN"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> When:
        if isinstance(value, When):
            return value
        try:
            when = read_when(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)
        if not OLDEST_US <= when.us(LocalTime(UTC), now_us()) < NEWEST_US:
            self.fail(f"{value!r} lies outside the years 2000 to 2199", param, ctx)
        return when


class Window(NamedTuple):
    """What --since, --until, --site and --camera select; instants in us, None: no limit."""

    since_us: int | None
    until_us: int | None
    site: str | None
    camera: str | None


class Asked(NamedTuple):
    """--since, --until, --site and --camera as they were typed."""

    since: When | None
    until: When | None
    site: str | None
    camera: str | None

    def window(self, local: LocalTime) -> Window:
        """With the instants that the times mean in a site's local time. Raises UsageError for an empty stretch."""
        return Window(*stretch(local, self.since, self.until), self.site, self.camera)


def stretch(local: LocalTime, since: When | None, until: When | None) -> tuple[int | None, int | None]:
    """The instants (us) of a begin and an end. An end that is a clock without a day is the first one after the begin.

    Raises UsageError for a stretch that ends before it begins.
    """
    now = now_us()
    since_us = None if since is None else since.us(local, now)
    until_us = None if until is None else until.us(local, now, since_us)
    if since_us is not None and until_us is not None and until_us <= since_us:
        raise click.UsageError("--until must lie after --since")
    return since_us, until_us


def config_option(command: F) -> F:
    """Adds --config."""
    return click.option("--config", type=click.Path(path_type=Path), help="Settings file (TOML) of the server.")(
        command
    )


def store_options(command: Callable[..., None]) -> Callable[..., None]:
    """Adds --config, --database, --sites and --data-dir. The command gets `settings` instead.

    What no option, file or variable gives is as at the last start of the server with that data folder.
    """

    @config_option
    @click.option("--database", metavar="URL", help="Database, instead of the one in the settings.")
    @click.option("--sites", type=click.Path(path_type=Path), help="Folder of site policies.")
    @click.option("--data-dir", type=click.Path(path_type=Path), help="Folder of the server's data.")
    @wraps(command)
    def with_settings(
        *, config: Path | None, database: str | None, sites: Path | None, data_dir: Path | None, **options: Any
    ) -> None:
        settings = load_settings(config, database_url=database, sites_dir=sites, data_dir=data_dir)
        refuse_folder(settings, sites)
        command(settings=settings, **options)

    return with_settings


def refuse_folder(settings: ServerSettings, sites: Path | None) -> None:
    """Raises UsageError for --sites where sites are in the database."""
    if sites is not None and settings.sites == "database":
        raise click.UsageError('--sites names a folder, and the settings say sites = "database"')


def window_options(command: Callable[..., None]) -> Callable[..., None]:
    """Adds --since, --until, --site and --camera. The command gets `asked` instead."""

    @click.option("--since", type=Instant(), help=f"From this time on: {FORMS}. Without a zone: the site's time.")
    @click.option("--until", type=Instant(), help="Only before this time; 18:00 is the first one after --since.")
    @click.option("--site", help="Only of this site.")
    @click.option("--camera", help="Only of this camera.")
    @wraps(command)
    def with_window(
        *, since: When | None, until: When | None, site: str | None, camera: str | None, **options: Any
    ) -> None:
        command(asked=Asked(since, until, site, camera), **options)

    return with_window


def store_of(settings: ServerSettings) -> Store:
    """The store of the settings, with the place of its pictures."""
    return open_store(settings.database_url, place=open_place(settings.frames_url))


def current_store(settings: ServerSettings) -> Store:
    """As `store_of`. Raises ConfigurationError when its schema is not this version's."""
    store = store_of(settings)
    revision = store.revision()
    if not revision.is_current:
        state = "has no tables" if revision.present is None else f"has schema {revision.present}, not {revision.wanted}"
        raise ConfigurationError(
            f"the database {store.name} {state}: `sectorwatch db upgrade` brings it up to date, or name the server's "
            "own with --data-dir or --config"
        )
    return store


def local_of(settings: ServerSettings, store: Store, site: str | None = None) -> LocalTime:
    """As `site_time`, by the site policies in force."""
    return site_time(store, site, texts_of(settings, store))


def standing_of(settings: ServerSettings) -> Standing | None:
    """The servers on the database and what they are to serve; None where it does not exist yet, or does not answer."""
    try:
        with closing(open_store(settings.database_url)) as store:
            return store.fleet.standing() if store.revision().is_current else None
    except SectorwatchError:
        return None


def cards_of(settings: ServerSettings, names: Iterable[str]) -> list[ModelCard]:
    """The cards of these models, from the catalogue or from the settings' `models_dir`. Raises for an unknown name."""
    from server.catalogue import card_named  # with it comes requests, and most commands need neither

    return [card_named(name, [settings.models_dir] if settings.models_dir else []) for name in names]


def aligned(rows: Sequence[Sequence[str]], texts: int | None = None) -> Iterator[str]:
    """The rows of a table as lines. The first `texts` columns (None: all) are aligned left, the others right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    count = len(widths) if texts is None else texts
    for row in rows:
        cells = [f"{cell:{'<' if i < count else '>'}{widths[i]}}" for i, cell in enumerate(row)]
        yield "  ".join(cells).rstrip()


def echo_lines(lines: Iterable[str], *, err: bool = False) -> None:
    """Print each line as soon as it is there."""
    for line in lines:
        click.echo(line, err=err)


def utc(at_us: int, timespec: str = "milliseconds") -> str:
    """An instant (us) as RFC 3339 in UTC."""
    return instant(at_us).isoformat(timespec=timespec).replace("+00:00", "Z")
