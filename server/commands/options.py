"""What the commands that read the store have in common: which database, and which stretch of time."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import click

from policies.events import microseconds
from server.domain.clock import SECOND_US, now_us
from server.domain.errors import ConfigurationError
from server.settings import ServerSettings, load_settings
from server.store import Store, open_store

OLDER = 3
"""The exit code where nothing is wrong but that the rules have changed since."""

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
            self.fail(f"{value!r} lies outside the years 2000 to 2199, of which nothing can be stored", param, ctx)
        return at_us

    def _read(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> int:
        try:
            at = datetime.fromisoformat(value)
        except ValueError:
            self.fail(f"{value!r} is neither like 90s, 30m, 1h, 2d nor like 2026-11-22T07:00:00Z", param, ctx)
        return microseconds(at if at.tzinfo else at.replace(tzinfo=UTC))


def store_options(command: F) -> F:
    """Adds --config, --database and --data-dir; hand them to `opened_store`."""
    for option in (
        click.option("--data-dir", type=click.Path(path_type=Path), help="Folder of the server's data."),
        click.option("--database", metavar="URL", help="Database, instead of the one the settings name."),
        click.option("--config", type=click.Path(path_type=Path), help="Settings file (TOML) of the server."),
    ):
        command = option(command)
    return command


def window_options(command: F) -> F:
    """Adds --since, --until, --site and --camera."""
    for option in (
        click.option("--camera", help="Only of this camera."),
        click.option("--site", help="Only of this site."),
        click.option("--until", "until_us", type=Instant(), help="Only before this instant."),
        click.option("--since", "since_us", type=Instant(), help="From this instant on: 1h (ago), or ISO 8601."),
    ):
        command = option(command)
    return command


def check_window(since_us: int | None, until_us: int | None) -> None:
    """Raises UsageError for a stretch that ends before it begins: it would be empty without a word."""
    if since_us is not None and until_us is not None and until_us <= since_us:
        raise click.UsageError("--until must lie after --since")


def found_settings(config: Path | None, database: str | None, data_dir: Path | None) -> ServerSettings:
    """The settings with what the options say of the store."""
    return load_settings(config, database_url=database, data_dir=data_dir)


def found_store(config: Path | None, database: str | None, data_dir: Path | None) -> Store:
    """The store that the options and the settings name, whatever its schema."""
    return open_store(found_settings(config, database, data_dir).database_url)


def opened_store(config: Path | None, database: str | None, data_dir: Path | None) -> Store:
    """As `found_store`, ready to be read. Raises ConfigurationError when its schema is not this version's."""
    store = found_store(config, database, data_dir)
    there = store.revision()
    if not there.is_current:
        state = "has no tables" if there.present is None else f"has schema {there.present}, not {there.wanted}"
        raise ConfigurationError(f"the database {store.name} {state}: `sectorwatch db upgrade` brings it up to date")
    return store
