"""`sectorwatch tls init`: a certificate that the server signs itself, and what agents need to know it."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path

import click

from server.commands.options import config_option
from server.domain.errors import ConfigurationError
from server.hosting.certificate import fingerprint, valid_until
from server.hosting.self_signed import DAYS, Pair, make, names_here
from server.settings import ServerSettings, load_settings
from server.web.auth import is_loopback


@click.group()
def command() -> None:
    """Make a certificate for HTTPS."""


@command.command()
@config_option
@click.option("--data-dir", type=click.Path(path_type=Path), help="Folder of the server's data.")
@click.option("--name", "names", multiple=True, metavar="NAME", help="A further name or address of this machine.")
@click.option("--days", type=click.IntRange(1, 36500), default=DAYS, show_default=True, help="How long it is valid.")
@click.option(
    "--force", is_flag=True, help="Replace a certificate that is there. Agents then need the new fingerprint."
)
def init(config: Path | None, data_dir: Path | None, names: tuple[str, ...], days: int, force: bool) -> None:
    """Make a key and a self-signed certificate, and print its fingerprint and the two lines of the agents.

    The files are those of tls_cert and tls_key or, where these are unset, tls.crt and tls.key in data_dir, which the
    server uses from its next start on. Agents know the certificate by its fingerprint.
    """
    settings = load_settings(config, data_dir=data_dir)
    pair = Pair(*settings.tls_files)
    there = [str(file) for file in pair if file.exists()]
    if there and not force:
        raise ConfigurationError(
            f"there is {' and '.join(there)} already: agents may know it; --force replaces it, `sectorwatch doctor` "
            "prints its fingerprint"
        )
    all_names = tuple(dict.fromkeys([*names, *names_here()]))
    make(pair, all_names, days)
    click.echo(
        f"{pair.certificate}: valid until {valid_until(pair.certificate):%Y-%m-%d}, for {', '.join(all_names)}",
        err=True,
    )
    click.echo(f"{pair.key}: its key, which only this user can read", err=True)
    click.echo("The server speaks HTTPS from its next start on. Its agents need, in agent.toml:\n", err=True)
    click.echo("[server]")
    click.echo(f'url = "{_url(settings, all_names)}"')
    click.echo(f'fingerprint = "{fingerprint(pair.certificate)}"')


def _url(settings: ServerSettings, names: tuple[str, ...]) -> str:
    """The address that an agent most probably reaches: the first that is not loopback's, an IP before a name."""
    others = [name for name in names if not is_loopback(name)]
    host = next(filter(_is_ip, others), next(iter(others), "127.0.0.1"))
    return f"https://[{host}]:{settings.port}" if ":" in host else f"https://{host}:{settings.port}"


def _is_ip(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True
