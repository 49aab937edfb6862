"""What several commands share: options for database and window, the store, model cards, tables and instants."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from functools import wraps
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import click

from policies.events import instant, microseconds
from server.catalogue import ModelCard, card_named
from server.domain.clock import SECOND_US, now_us
from server.domain.errors import ConfigurationError
from server.settings import ServerSettings, load_settings
from server.store import Store, open_store

OLDER = 3
"""The exit code when another version of the rules explains every difference."""

F = TypeVar("F", bound=Callable[..., Any])

_AGO = re.compile(r"(\d+(?:\.\d+)?)\s*([smhdw])")
_UNIT_S = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}

OLDEST_US = microseconds(datetime(2000, 1, 1, tzinfo=UTC))
NEWEST_US = microseconds(datetime(2200, 1, 1, tzinfo=UTC))


class Instant(click.ParamType[int]):
    """`90s`, `30m`, `1h`, `2d`, `1w` ago, or an ISO 8601 date or instant (UTC unless it says); microseconds."""

    name = "WHEN"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        ago = _AGO.fullmatch(value.strip())
        at_us = now_us() - round(float(ago[1]) * _UNIT_S[ago[2]] * SECOND_US) if ago else self._read(value, param, ctx)
        if not OLDEST_US <= at_us < NEWEST_US:
            self.fail(f"{value!r} lies outside the years 2000 to 2199", param, ctx)
        return at_us

    def _read(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> int:
        try:
            at = datetime.fromisoformat(value)
        except ValueError:
            self.fail(f"{value!r} is neither like 90s, 30m, 1h, 2d nor like 2026-11-22T07:00:00Z", param, ctx)
        return microseconds(at if at.tzinfo else at.replace(tzinfo=UTC))


class Window(NamedTuple):
    """What --since, --until, --site and --camera select; instants in us, None: no limit."""

    since_us: int | None
    until_us: int | None
    site: str | None
    camera: str | None


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
        command(settings=settings, **options)

    return with_settings


def window_options(command: Callable[..., None]) -> Callable[..., None]:
    """Adds --since, --until, --site and --camera. The command gets a `window` instead, which is not empty."""

    @click.option("--since", "since_us", type=Instant(), help="From this instant on: 1h (ago), or ISO 8601.")
    @click.option("--until", "until_us", type=Instant(), help="Only before this instant.")
    @click.option("--site", help="Only of this site.")
    @click.option("--camera", help="Only of this camera.")
    @wraps(command)
    def with_window(
        *, since_us: int | None, until_us: int | None, site: str | None, camera: str | None, **options: Any
    ) -> None:
        check_window(since_us, until_us)
        command(window=Window(since_us, until_us, site, camera), **options)

    return with_window


def check_window(since_us: int | None, until_us: int | None) -> None:
    """Raises UsageError for a stretch that ends before it begins."""
    if since_us is not None and until_us is not None and until_us <= since_us:
        raise click.UsageError("--until must lie after --since")


def current_store(settings: ServerSettings) -> Store:
    """The store of the settings. Raises ConfigurationError when its schema is not this version's."""
    store = open_store(settings.database_url)
    revision = store.revision()
    if not revision.is_current:
        state = "has no tables" if revision.present is None else f"has schema {revision.present}, not {revision.wanted}"
        raise ConfigurationError(
            f"the database {store.name} {state}: name the server's with --data-dir or --config; "
            "`sectorwatch db upgrade` brings this one up to date"
        )
    return store


def cards_of(settings: ServerSettings, names: Iterable[str]) -> list[ModelCard]:
    """The cards of these models, from the catalogue or from the settings' `models_dir`. Raises for an unknown name."""
    return [card_named(name, [settings.models_dir] if settings.models_dir else []) for name in names]


def aligned(rows: Sequence[Sequence[str]], texts: int | None = None) -> Iterator[str]:
    """The rows of a table as lines. The first `texts` columns (None: all) are aligned left, the others right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    count = len(widths) if texts is None else texts
    for row in rows:
        cells = [f"{cell:{'<' if i < count else '>'}{widths[i]}}" for i, cell in enumerate(row)]
        yield "  ".join(cells).rstrip()


def echo_lines(lines: Iterable[str]) -> None:
    """Print each line as soon as it is there."""
    for line in lines:
        click.echo(line)


def utc(at_us: int, timespec: str = "milliseconds") -> str:
    """An instant (us) as RFC 3339 in UTC."""
    return instant(at_us).isoformat(timespec=timespec).replace("+00:00", "Z")
