"""`sectorwatch tokens`: make, list and revoke the tokens of cameras and readers."""

from __future__ import annotations

import click

from policies.events import instant
from policies.site.toml_errors import NAME
from server.commands.options import aligned, echo_lines, store_options
from server.domain.records import Token
from server.settings import ServerSettings
from server.store import Store, open_store
from server.web.auth import ANY_SITE, new_token

_LONGEST_NAME = 100


@click.group()
def command() -> None:
    """Make, list and revoke tokens. A change takes effect at once, without a restart."""


@command.command()
@click.option("--site", default=ANY_SITE, help="Site of the token. Without it (readers only): every site.")
@click.option("--camera", help="Camera that sends bursts with the token. Without it: a reader's token.")
@click.option("--name", help="Name of the token in lists.")
@store_options
def add(
    site: str,
    camera: str | None,
    name: str | None,
    settings: ServerSettings,
) -> None:
    """Make a token and print it. It is shown only once: the server keeps a hash."""
    if camera is not None and site == ANY_SITE:
        raise click.UsageError("--camera needs --site: a camera belongs to one site")
    for option, value in (("--site", site), ("--camera", camera)):
        if value not in (None, ANY_SITE) and not NAME.fullmatch(value):
            raise click.UsageError(f"{option} must be 1 to 63 lower-case letters, digits, - or _, not {value[:80]!r}")
    if name is not None and not (name.isprintable() and len(name) <= _LONGEST_NAME):
        raise click.UsageError(f"--name must be a single line of at most {_LONGEST_NAME} printable characters")
    store = _store(settings)
    first = not store.list_tokens()
    made = new_token()
    store.add_token(made.id, name or _default_name(site, camera), site, camera, made.hash)
    click.echo(made.token)
    click.echo(f"Token {made.id} {_purpose(site, camera)}. Keep it now: it cannot be shown again.", err=True)
    if first:
        click.echo(
            "This is the first token: the server now requires a token of every client, and after its next start it "
            "listens on the address in its settings.",
            err=True,
        )


@command.command("list")
@store_options
def list_(settings: ServerSettings) -> None:
    """Show all tokens: id, site, camera, when made, whether still valid, name."""
    tokens = _store(settings).list_tokens()
    if not tokens:
        click.echo("No tokens. The server listens on loopback only.", err=True)
        return
    echo_lines(aligned([("ID", "SITE", "CAMERA", "MADE", "STATE", "NAME"), *map(_row, tokens)]))


@command.command()
@click.argument("token_id", metavar="ID")
@store_options
def revoke(token_id: str, settings: ServerSettings) -> None:
    """Revoke the token ID at once and for good."""
    _store(settings).revoke_token(token_id)
    click.echo(f"Token {token_id} is no longer valid.", err=True)


def _store(settings: ServerSettings) -> Store:
    """The store, brought up to date: tokens may be made before the server first runs."""
    store = open_store(settings.database_url)
    store.upgrade()
    return store


def _row(token: Token) -> tuple[str, ...]:
    made = instant(token.created_at_us).strftime("%Y-%m-%d %H:%M")
    camera = token.camera or "(reader)"
    return token.id, token.site, camera, made, "valid" if token.is_valid else "revoked", token.name


def _default_name(site: str, camera: str | None) -> str:
    return f"{site}/{camera}" if camera else f"reader of {'all sites' if site == ANY_SITE else site}"


def _purpose(site: str, camera: str | None) -> str:
    reads = f"reads {'every site' if site == ANY_SITE else f'site `{site}`'}"
    return f"lets camera `{camera}` of site `{site}` send its bursts" if camera else reads
