"""`sectorwatch tokens`: who may send and who may read."""

from __future__ import annotations

from pathlib import Path

import click

from policies.events import instant
from server.commands.options import found_store, store_options
from server.domain.burst import NAME
from server.domain.records import Token
from server.store import Store
from server.web.auth import ANY_SITE, new_token

_LONGEST_NAME = 100


@click.group()
def command() -> None:
    """Make, list and revoke tokens. A change is in force at once, without a restart."""


@command.command()
@click.option("--site", default=ANY_SITE, help="Site it is for. Without it (readers only): every site.")
@click.option("--camera", help="Camera it is for: it sends that camera's bursts. Without it: a reader's token.")
@click.option("--name", help="What to call it in lists.")
@store_options
def add(
    site: str,
    camera: str | None,
    name: str | None,
    config: Path | None,
    database: str | None,
    data_dir: Path | None,
) -> None:
    """Make a token and print it. It is shown this once: the server keeps only a hash."""
    if camera is not None and site == ANY_SITE:
        raise click.UsageError("--camera needs --site: a camera belongs to one site")
    for option, said in (("--site", site), ("--camera", camera)):
        if said not in (None, ANY_SITE) and not NAME.fullmatch(said):
            raise click.UsageError(f"{option} must be 1 to 63 lower-case letters, digits, - or _, not {said[:80]!r}")
    if name is not None and not (name.isprintable() and len(name) <= _LONGEST_NAME):
        raise click.UsageError(f"--name must be of one line, of at most {_LONGEST_NAME} signs that can be printed")
    store = _store(config, database, data_dir)
    first = not store.list_tokens()
    made = new_token()
    store.add_token(made.id, name or _default_name(site, camera), site, camera, made.hash)
    click.echo(made.token)
    click.echo(f"Token {made.id} {_purpose(site, camera)}. Keep it now: it cannot be shown again.", err=True)
    if first:
        click.echo(
            "This is the first token: from now on the server asks everyone for one, and after its next start it "
            "listens on the address its settings name.",
            err=True,
        )


@command.command("list")
@store_options
def list_(config: Path | None, database: str | None, data_dir: Path | None) -> None:
    """Show all tokens: id, site, camera, when made, whether still valid, name."""
    tokens = _store(config, database, data_dir).list_tokens()
    if not tokens:
        click.echo("No tokens. The server listens on loopback only.", err=True)
        return
    rows = [("ID", "SITE", "CAMERA", "MADE", "STATE", "NAME"), *map(_row, tokens)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


@command.command()
@click.argument("token_id", metavar="ID")
@store_options
def revoke(token_id: str, config: Path | None, database: str | None, data_dir: Path | None) -> None:
    """End the validity of the token ID, at once and for good."""
    _store(config, database, data_dir).revoke_token(token_id)
    click.echo(f"Token {token_id} is no longer valid.", err=True)


def _store(config: Path | None, database: str | None, data_dir: Path | None) -> Store:
    """The store, brought up to date: tokens may be made before the server first runs."""
    store = found_store(config, database, data_dir)
    store.upgrade()
    return store


def _row(token: Token) -> tuple[str, ...]:
    made = instant(token.created_at_us).strftime("%Y-%m-%d %H:%M")
    camera = token.camera or "(reader)"
    return token.id, token.site, camera, made, "valid" if token.is_valid else "revoked", token.name


def _default_name(site: str, camera: str | None) -> str:
    return f"{site}/{camera}" if camera else f"reader of {'all sites' if site == ANY_SITE else site}"


def _purpose(site: str, camera: str | None) -> str:
    if camera:
        return f"lets camera `{camera}` of site `{site}` send its bursts"
    return f"reads {'every site' if site == ANY_SITE else f'site `{site}`'}"
