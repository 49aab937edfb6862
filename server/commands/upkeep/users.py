"""`sectorwatch users`: who may sign in at the console, and what for."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click

from policies.events import instant
from policies.site.toml_errors import NAME
from server.commands.options import aligned, echo_lines, store_of, store_options
from server.domain.errors import Conflict, Unknown
from server.domain.people import EVERY_SITE, LEAST_PASSWORD, ROLES, Role, User, check_name, shown_roles
from server.settings import ServerSettings
from server.store import Store

_NO_ROLE = "none"


@click.group()
def command() -> None:
    """Add and remove users of the console, and say what they may do. A change takes effect at once, without a restart.

    A viewer reads. An operator also annotates events and changes policies.
    """


_password_option = click.option(
    "--password-stdin", is_flag=True, help="Read the password from standard input, its first line."
)
_site_option = click.option("--site", "site", multiple=True, help="Only for this site; repeat it for several.")


@command.command()
@click.argument("name")
@click.option("--role", type=click.Choice(ROLES), default="viewer", show_default=True, help="What the user may do.")
@_site_option
@_password_option
@store_options
def add(name: str, role: Role, site: Sequence[str], password_stdin: bool, settings: ServerSettings) -> None:
    """Add the user NAME. The password is asked for twice."""
    check_name(name)
    roles = dict.fromkeys(_checked(site) or [EVERY_SITE], role)
    store = _store(settings)
    if store.users.user(name) is not None:
        raise Conflict(f"there is a user {name} already: `sectorwatch users password {name}` changes the password")
    is_first = not store.users.has_users()
    store.users.add(name, _password(password_stdin), roles)
    click.echo(f"User {name} may sign in: {shown_roles(roles)}.", err=True)
    if is_first:
        click.echo("This is the first user: from now on the console asks everybody to sign in.", err=True)
    if not store.has_tokens():
        click.echo(
            "No token exists yet, so the server listens on this machine only: `sectorwatch tokens add` makes one.",
            err=True,
        )


@command.command("list")
@store_options
def list_(settings: ServerSettings) -> None:
    """Show all users: name, when added, what they may do."""
    users = _store(settings).users.list_users()
    if not users:
        click.echo("No users: `sectorwatch users add NAME` adds one.", err=True)
        return
    echo_lines(aligned([("NAME", "ADDED", "ROLE"), *map(_row, users)]))


@command.command()
@click.argument("name")
@_password_option
@store_options
def password(name: str, password_stdin: bool, settings: ServerSettings) -> None:
    """Give the user NAME another password. All of the user's sessions end."""
    store = _store(settings)
    _present(store, name)
    store.users.set_password(name, _password(password_stdin))
    click.echo(f"User {name} has another password and is signed out everywhere.", err=True)


@command.command()
@click.argument("name")
@click.argument("role", type=click.Choice([*ROLES, _NO_ROLE]))
@_site_option
@store_options
def role(name: str, role: Role, site: Sequence[str], settings: ServerSettings) -> None:
    """Say what the user NAME may do: `viewer`, `operator` or `none`.

    With --site for these sites, and nothing else changes. Without it for every site, in place of all before.
    """
    store = _store(settings)
    roles = _changed(_present(store, name), role, _checked(site))
    store.users.set_roles(name, roles)
    click.echo(f"User {name}: {shown_roles(roles)}.", err=True)


@command.command()
@click.argument("name")
@store_options
def remove(name: str, settings: ServerSettings) -> None:
    """Remove the user NAME, who is signed out at once. What the user did stays in the audit."""
    _store(settings).users.remove(name)
    click.echo(f"User {name} is removed and signed out.", err=True)


@command.command("sign-out")
@click.argument("name")
@store_options
def sign_out(name: str, settings: ServerSettings) -> None:
    """End all sessions of the user NAME, say when a phone is lost. The password stays."""
    _store(settings).users.sign_out(name)
    click.echo(f"User {name} is signed out everywhere.", err=True)


def _store(settings: ServerSettings) -> Store:
    """The store, brought up to date: users may be added before the server first runs."""
    store = store_of(settings)
    store.upgrade()
    return store


def _present(store: Store, name: str) -> User:
    user = store.users.user(name)
    if user is None:
        raise Unknown(f"there is no user {name[:80]}: `sectorwatch users list` shows all")
    return user


def _checked(sites: Sequence[str]) -> Sequence[str]:
    for site in sites:
        if site != EVERY_SITE and not NAME.fullmatch(site):
            raise click.UsageError(f"--site must be 1 to 63 lower-case letters, digits, - or _, not {site[:80]!r}")
    return sites


def _changed(user: User, role: str, sites: Sequence[str]) -> dict[str, Role]:
    """The roles of a user by site, after the change. Raises Conflict where a role for every site hides it."""
    kept = {site: each for site, each in user.roles.items() if sites and site not in sites}
    everywhere = kept.get(EVERY_SITE)
    if everywhere is not None and (role == _NO_ROLE or (everywhere, role) == ("operator", "viewer")):
        raise Conflict(
            f"{user.name} is {everywhere} of every site, so this would change nothing: `sectorwatch users role "
            f"{user.name} {_NO_ROLE}` takes all away, then give a role site by site"
        )
    given = next((each for each in ROLES if each == role), None)
    return kept | ({} if given is None else dict.fromkeys(sites or [EVERY_SITE], given))


def _password(from_stdin: bool) -> str:
    if from_stdin:
        line = sys.stdin.readline()
        if not line:
            raise click.UsageError("--password-stdin: standard input is empty")
        return line.rstrip("\r\n")
    if not _is_terminal():
        raise click.UsageError("this is no terminal to ask for the password: use --password-stdin")
    asked: str = click.prompt(
        f"Password (at least {LEAST_PASSWORD} characters)", hide_input=True, confirmation_prompt="Once more", err=True
    )
    return asked


def _row(user: User) -> tuple[str, str, str]:
    return user.name, instant(user.created_at_us).strftime("%Y-%m-%d %H:%M"), shown_roles(user.roles)


def _is_terminal() -> bool:
    return sys.stdin.isatty()
