"""`sectorwatch db`: the care of the database."""

from __future__ import annotations

from contextlib import closing, suppress
from pathlib import Path

import click

from server.commands.options import current_store, echo_lines, store_of, store_options, utc
from server.domain.errors import ConfigurationError, SectorwatchError
from server.domain.secrets_in_text import without_secrets
from server.settings import ServerSettings
from server.store import Store, data_dictionary, open_store


@click.group()
def command() -> None:
    """Care for the database."""


@command.command()
@store_options
def upgrade(settings: ServerSettings) -> None:
    """Create the tables, or upgrade them to this version's schema. Safe at any time, also for several at once."""
    store = open_store(settings.database_url)
    before = store.revision().present or "none"
    after = store.upgrade()
    click.echo(f"{store.name}: schema {after.wanted} (was {before})")


@command.command()
@click.option("--columns", is_flag=True, help="Print the data dictionary: every column and its meaning.")
@store_options
def info(columns: bool, settings: ServerSettings) -> None:
    """Show which database is used, its schema, how much it holds, and where each camera stands."""
    if columns:
        echo_lines(data_dictionary())
        return
    store = open_store(settings.database_url)
    revision = store.revision()
    click.echo(f"database  {store.name}")
    wanted = "" if revision.is_current else f", wanted {revision.wanted}"
    click.echo(f"schema    {revision.present or 'none'}{wanted}")
    if revision.is_current:
        echo_lines(f"{table:<14} {rows:>10}" for table, rows in store.counts().items())
        echo_lines(f"{head.site}/{head.camera} advanced to {utc(head.last_at_us)}" for head in store.cameras())


@command.command()
@store_options
def compact(settings: ServerSettings) -> None:
    """Write the SQLite file anew without free pages, in the space of a second copy. Uploads wait meanwhile.

    From then on the file shrinks by itself when bursts go. PostgreSQL reuses space by itself (autovacuum).
    """
    store = current_store(settings)
    before = store.retention.space()
    store.retention.compact()
    after = store.retention.space()
    freed = before.reusable_bytes - after.reusable_bytes
    click.echo(f"{store.name}: {after.used_bytes / 1e6:.1f} MB; {freed / 1e6:.1f} MB were given back")


@command.command()
@store_options
def check(settings: ServerSettings) -> None:
    """Check the whole SQLite file, indexes too, however long it takes. Exit code 1: it is damaged.

    Servers may write meanwhile. `sectorwatch doctor` does the same in bounded time.
    """
    store = open_store(settings.database_url)
    integrity = store.integrity() if store.revision().present is not None else None
    if integrity is None:
        raise ConfigurationError(f"{store.name}: there is no SQLite database to check; PostgreSQL has pg_amcheck")
    echo_lines(integrity.faults)
    if integrity.faults:
        raise SystemExit(1)
    click.echo(f"{store.name}: {integrity.checked}: ok")


@command.command()
@click.argument("file", type=click.Path(path_type=Path))
@store_options
def backup(file: Path, settings: ServerSettings) -> None:
    """Copy the whole SQLite database to FILE while the server runs (a plain `cp` misses what is only in its log).

    The database is checked first; a damaged one is not copied. `sectorwatch db restore` puts a copy in its place. For
    PostgreSQL use pg_dump. Pictures are not in it: copy their place (`frames_url`) as well, if you need them.
    """
    store = open_store(settings.database_url)
    checked = store.backup(file)
    click.echo(f"{file}: {file.stat().st_size / 1e6:.1f} MB of {store.name} ({checked}: ok)")
    if store.revision().is_current and store.frames.totals():
        click.echo(f"The pictures in {without_secrets(settings.frames_url)} are not in it.")


@command.command()
@click.argument("file", type=click.Path(path_type=Path))
@store_options
def restore(file: Path, settings: ServerSettings) -> None:
    """Put the backup FILE in the place of the SQLite database. Stop the server first.

    FILE is checked before anything changes; it may be of an older version. The database of before is kept beside the
    new one, with its -wal and -shm. Agents send again what they still hold: nothing is counted twice. Pictures stay in
    their place; the server deletes those that FILE does not know, from an hour after its start on. Where
    another database keeps them, they are only read.
    """
    store = open_store(settings.database_url)
    kept = store.restore(file)
    click.echo(f"{store.name} is now what {file} holds. `sectorwatch serve` upgrades it where needed.")
    if kept is not None:
        click.echo(f"The database of before is {kept}. Remove it when nothing of it is needed.")
    with closing(store_of(settings)) as restored, suppress(OSError):
        if restored.revision().is_current:
            _warn_of_pictures(restored)


def _warn_of_pictures(store: Store) -> None:
    """Say whose the pictures are, where this database is a copy of another that keeps them."""
    try:
        store.frames.check_owner()
    except SectorwatchError as error:
        click.echo(f"Note: {error.detail}")


@command.command()
@click.argument("file", type=click.Path(path_type=Path))
@store_options
def recover(file: Path, settings: ServerSettings) -> None:
    """Write what can be read of a damaged SQLite database into the new file FILE. Stop the server first.

    `sectorwatch db restore FILE` then puts it in the place of the damaged one. What cannot be read is lost, unless a
    backup holds it. The damaged database stays as it is.
    """
    store = open_store(settings.database_url)
    found = store.salvage(file)
    for table, saved in found.items():
        of = (
            f"{saved.rows} of {saved.of}" if saved.of is not None else f"{saved.rows}; how many there were is not known"
        )
        click.echo(f"{table:<16} {of}")
    click.echo(f"{file} holds these rows. Next: sectorwatch db restore {file}")
