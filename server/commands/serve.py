"""`sectorwatch serve`: check everything that can be checked, say what will be served, and become the server.

Whatever an operator can get wrong is found here, before Gunicorn starts, and told in one line: a setting, a
site policy, missing weights, a database that does not open, a port that is taken.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import click
import msgspec

from server.catalogue import ModelCard, cache_dir, card_named, locate, read_lock
from server.domain.errors import ConfigurationError, RetryLater, SectorwatchError
from server.domain.precision import check_execution
from server.hosting.gunicorn_app import host
from server.pipeline.site_policies import Sites
from server.serving.machine import this_machine
from server.serving.memory_budget import memory_warning
from server.serving.selection import chosen_models
from server.settings import ServerSettings, described, load_settings
from server.store import open_store
from server.web.auth import Authenticator, is_loopback

_BACKLOG = 128


def _settings_help() -> str:
    lines = [f"  {s.name} [{s.default}]\n      {s.help}" for s in described()]
    return "\b\nSettings, in the file (TOML) or as SECTORWATCH_<NAME> in the environment:\n" + "\n".join(lines)


@click.command(epilog=_settings_help())
@click.option("--config", type=click.Path(path_type=Path), help="Settings file (TOML); also SECTORWATCH_CONFIG.")
@click.option("--host", "address", help="Address to listen on.")
@click.option("--port", type=int, help="Port to listen on.")
@click.option("--sites", type=click.Path(path_type=Path), help="Folder of site policies.")
@click.option("--data-dir", type=click.Path(path_type=Path), help="Folder of the server's data.")
def command(
    config: Path | None, address: str | None, port: int | None, sites: Path | None, data_dir: Path | None
) -> None:
    """Run the server until SIGTERM, which lets it finish what it has taken in."""
    logging.getLogger().addHandler(logging.NullHandler())  # what goes wrong until Gunicorn runs is told once
    settings = load_settings(config, host=address, port=port, sites_dir=sites, data_dir=data_dir)
    site_names = _checked_sites(settings)
    models = chosen_models(settings)
    check_execution(settings.execution, this_machine().vectors)
    if settings.lock is not None:
        read_lock(settings.lock, models)
    cards = [card_named(name, [settings.models_dir] if settings.models_dir else []) for name in models]
    _check_weights(settings, cards)
    if warning := memory_warning(settings, cards, this_machine()):
        click.echo(f"Warning: {warning}.", err=True)
    database, guarded = _prepared_database(settings)
    listener = _listener(settings if guarded else _on_loopback(settings))
    _check_admin_port(settings)
    click.echo(_banner(models, listener, site_names or _no_site(settings), database, guarded=guarded), err=True)
    host(settings, listener)


def _checked_sites(settings: ServerSettings) -> tuple[str, ...]:
    if settings.sites_dir.is_relative_to(settings.data_dir):  # ours, so a first start need not be prepared
        try:
            settings.sites_dir.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigurationError(f"cannot make the folder {settings.sites_dir}: {error.strerror}") from None
    sites = Sites(settings.sites_dir)
    faults = [f"site policy {file}: {what}" for file, what in sites.faults().items()]
    recalled = _recalled(settings) if faults else ()
    if len(recalled) < len(faults):
        raise ConfigurationError("; ".join(faults))
    for fault in faults:
        click.echo(f"{fault}; mend it: it is read again", err=True)
    return *sites.sites(), *(f"{site} (its last good policy)" for site in recalled)


def _recalled(settings: ServerSettings) -> tuple[str, ...]:
    """Sites that go on by their last good policy: a machine that starts by itself must not leave them unwatched."""
    with closing(open_store(settings.database_url)) as store:
        if not store.revision().is_current:
            return ()
        sites = Sites(settings.sites_dir, store.past.last_text)
        known = {head.site for head in store.cameras()}.difference(sites.sites())
        return tuple(site for site in sorted(known) if _is_known(sites, site))


def _is_known(sites: Sites, site: str) -> bool:
    try:
        return bool(sites.edition(site))
    except SectorwatchError:
        return False


def _check_weights(settings: ServerSettings, cards: Sequence[ModelCard]) -> None:
    """Raises ConfigurationError for missing weights. Their digests are checked when they are loaded."""
    cache = cache_dir()
    missing = [card.name for card in cards if card.sha256 is not None and locate(card, cache) is None]
    if missing:
        raise ConfigurationError(f"no weights yet for {', '.join(missing)}: run `sectorwatch models pull`")


def _prepared_database(settings: ServerSettings) -> tuple[str, bool]:
    """Create or upgrade the tables; the database's name, and whether tokens guard the server.

    Leaves no connection behind that would be forked.
    """
    store = open_store(settings.database_url)
    try:
        store.upgrade()
        return store.name, Authenticator(store).is_guarded()
    except RetryLater as error:  # it may only be slower to start than we are, and then starting again helps
        raise RetryLater(f"database {store.name}: {error.detail}") from error
    except SectorwatchError as error:
        raise ConfigurationError(f"database {store.name}: {error.detail}") from error
    finally:
        store.close()


def _on_loopback(settings: ServerSettings) -> ServerSettings:
    if is_loopback(settings.host):
        return settings
    click.echo(f"No token exists yet: listening on 127.0.0.1 instead of {settings.host}.", err=True)
    return msgspec.structs.replace(settings, host="127.0.0.1")


def _listener(settings: ServerSettings) -> socket.socket:
    """The listening socket, taken here so that a port in use is an error of one line, and early."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        return socket.create_server((settings.host, settings.port), family=family, backlog=_BACKLOG)
    except OSError as error:
        raise ConfigurationError(
            f"cannot listen on {settings.host} port {settings.port}: {error.strerror}; "
            "is another server running? choose another with --port"
        ) from None


def _check_admin_port(settings: ServerSettings) -> None:
    """That it can be had: the worker takes it, after the fork."""
    host, port = settings.admin_host, settings.admin_port
    try:
        if port:
            socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET).close()
    except OSError as error:
        raise ConfigurationError(f"cannot listen on {host} port {port} (`admin_port`): {error.strerror}") from None


def _no_site(settings: ServerSettings) -> tuple[str]:
    return (f"none yet: put a TOML file per site into {settings.sites_dir}",)


def _banner(
    models: Sequence[str], listener: socket.socket, sites: Sequence[str], database: str, *, guarded: bool
) -> str:
    address, port = listener.getsockname()[:2]
    url = f"http://[{address}]:{port}" if ":" in address else f"http://{address}:{port}"
    open_to = "tokens required" if guarded else "this machine only, until `sectorwatch tokens add` makes a token"
    return "\n".join(
        [
            f"Sectorwatch listens on {url} ({open_to})",
            f"  models    {', '.join(models)} (loading; /readyz says when)",
            f"  sites     {', '.join(sites)}",
            f"  database  {database}",
        ]
    )
