"""`sectorwatch db`: the care of the database."""

from __future__ import annotations

from pathlib import Path

import click

from policies.events import instant
from server.commands.options import found_store, store_options
from server.store import data_dictionary


@click.group()
def command() -> None:
    """Care for the database."""


@command.command()
@store_options
def upgrade(config: Path | None, database: str | None, data_dir: Path | None) -> None:
    """Create the tables, or bring them to this version's schema. Safe to do at any time, by several at once."""
    store = found_store(config, database, data_dir)
    before = _present(store.revision().present)
    after = store.upgrade()
    click.echo(f"{store.name}: schema {after.wanted} (was {before})")


@command.command()
@click.option("--columns", is_flag=True, help="Print the data dictionary: every column and its meaning.")
@store_options
def info(columns: bool, config: Path | None, database: str | None, data_dir: Path | None) -> None:
    """Show which database is used, its schema, how much it holds, and where each camera stands."""
    if columns:
        for line in data_dictionary():
            click.echo(line)
        return
    store = found_store(config, database, data_dir)
    there = store.revision()
    click.echo(f"database  {store.name}")
    click.echo(f"schema    {_present(there.present)}" + ("" if there.is_current else f", wanted {there.wanted}"))
    if not there.is_current:
        return
    for table, rows in store.counts().items():
        click.echo(f"{table:<14} {rows:>10}")
    for head in store.cameras():
        at = instant(head.last_at_us).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        click.echo(f"{head.site}/{head.camera} advanced to {at}")


@command.command()
@click.argument("file", type=click.Path(path_type=Path))
@store_options
def backup(file: Path, config: Path | None, database: str | None, data_dir: Path | None) -> None:
    """Copy the SQLite database to FILE, whole, while the server runs (a plain `cp` misses what its log still holds).

    To go back to it: stop the server, remove the database's file and those beside it that end in -wal and -shm, put the
    copy in its place. For PostgreSQL use pg_dump.
    """
    store = found_store(config, database, data_dir)
    store.backup(file)
    click.echo(f"{file}: {file.stat().st_size / 1e6:.1f} MB of {store.name}")


def _present(revision: str | None) -> str:
    return revision or "none"
