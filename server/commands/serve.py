"""`sectorwatch serve`: check settings, sites, weights, database and ports, print a summary, and run the server.

Each fault is reported in a single line before Gunicorn starts.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from socket import socket
from typing import Any

import click

from server.app.surroundings import surroundings_alone
from server.catalogue import ModelCard, cache_dir, can_pull, locate, lowered, read_lock, remedy
from server.commands.options import config_option, refuse_folder, standing_of, store_of
from server.delivery.factory import make_channels
from server.domain.errors import ConfigurationError, RetryLater, SectorwatchError
from server.domain.files.private_files import make_private_folder, readable_by_others
from server.domain.files.text_files import shown
from server.domain.precision import check_execution
from server.domain.remembered import recall, remember
from server.hosting.certificate import IN_CLEAR, USE_TLS, context_of
from server.hosting.gunicorn_app import host
from server.hosting.listening import listener
from server.hosting.self_signed import Pair
from server.pipeline.site_imports import import_step
from server.pipeline.site_policies import MEND, ONE_FILE, Sites
from server.pipeline.stored_sites import StoredSites
from server.ray_serving import require_ray
from server.serving.loading import usable_cards
from server.serving.machine import this_machine
from server.serving.memory_budget import memory_warning
from server.serving.selection import chosen_models
from server.settings import ServerSettings, config_file, described, given_settings, load_settings
from server.store import open_store
from server.web.auth import Authenticator, is_loopback


def _settings_help() -> str:
    lines = [f"  {s.name} [{s.default}]\n      {s.help}" for s in described()]
    return "\b\nSettings, in the file (TOML) or as SECTORWATCH_<NAME> in the environment:\n" + "\n".join(lines)


@click.command(epilog=_settings_help())
@config_option
@click.option("--host", "address", help="Address to listen on.")
@click.option("--port", type=int, help="Port to listen on.")
@click.option("--sites", type=click.Path(path_type=Path), help="Folder of site policies.")
@click.option("--data-dir", type=click.Path(path_type=Path), help="Folder of the server's data.")
@click.option("--database", "database_url", metavar="URL", help="Database.")
@click.option("--tls-cert", type=click.Path(path_type=Path), help="Certificate for HTTPS (PEM).")
@click.option("--tls-key", type=click.Path(path_type=Path), help="Key of the certificate (PEM).")
def command(
    config: Path | None,
    address: str | None,
    port: int | None,
    sites: Path | None,
    data_dir: Path | None,
    database_url: str | None,
    tls_cert: Path | None,
    tls_key: Path | None,
) -> None:
    """Run the server until SIGTERM; it then finishes the requests that it has accepted.

    The settings are kept in the data folder, for the other commands.
    """
    logging.getLogger().addHandler(logging.NullHandler())  # faults before Gunicorn starts are printed only once
    overrides = {"host": address, "port": port, "sites_dir": sites, "data_dir": data_dir, "database_url": database_url}
    overrides |= {"tls_cert": tls_cert, "tls_key": tls_key}
    given = given_settings(config, **overrides)
    settings = load_settings(config, remembered=False, **overrides)
    refuse_folder(settings, sites)
    _warn_of_other_sites(settings, given)
    _close_data_folder(settings)
    _make_sites_folder(settings)
    models = _checked_models(settings)
    if settings.is_https:
        context_of(Pair(*settings.tls_files))
    _check_channels(settings)
    database, guarded = _prepared_database(settings)
    site_names = _checked_sites(settings)
    address = settings.host
    if not guarded and not is_loopback(address):
        click.echo(f"No token exists yet: listening on 127.0.0.1 instead of {address}.", err=True)
        address = "127.0.0.1"
    elif guarded and not settings.is_https and not is_loopback(address):
        click.echo(f"Warning: {IN_CLEAR}: {USE_TLS}", err=True)
    listening = listener(address, settings.port, "port")
    if settings.admin_port:  # the worker opens it after the fork; here it is only tried
        listener(settings.admin_host, settings.admin_port, "admin_port").close()
    site_names = site_names or (f"none yet: {_first_step(settings)}",)
    scheme = "https" if settings.is_https else "http"
    click.echo(_summary(models, scheme, listening, site_names, database, guarded=guarded), err=True)
    _remember(settings, given, config)
    host(settings, listening)


def _checked_models(settings: ServerSettings) -> tuple[str, ...]:
    """The models to load. Prints what is wrong, and raises ConfigurationError if they cannot be served.

    Beside other servers that is a warning: this one is not ready then, and takes part in the next swap.
    """
    standing = standing_of(settings)
    models = chosen_models(settings, standing)
    try:
        return _usable_models(settings, models)
    except ConfigurationError as error:
        others = () if standing is None else standing.others(settings.replica)
        if not others:
            raise
        names = ", ".join(each.name for each in others)
        click.echo(f"Warning: this server will not be ready beside {names}: {error.detail}", err=True)
        return models


def _usable_models(settings: ServerSettings, models: tuple[str, ...]) -> tuple[str, ...]:
    """The models whose card can be used. Raises ConfigurationError if none is left, or they cannot be served."""
    if settings.lock is not None:
        read_lock(settings.lock, models)
    cards, broken = usable_cards(settings, models)
    for fault in broken:
        click.echo(f"Warning: {fault.name} is not served: {fault.detail}", err=True)
    if settings.ensemble == "ray":  # its nodes check the models
        require_ray()
    else:
        check_execution(settings.execution, this_machine().vectors, lowered(cards))  # the worker reads the golden set
        _check_weights(settings, cards)
    if warning := memory_warning(settings, cards, this_machine()):
        click.echo(f"Warning: {warning}.", err=True)
    return tuple(card.name for card in cards)


def _warn_of_other_sites(settings: ServerSettings, given: Mapping[str, Any]) -> None:
    """Say so where the last start watched the sites of another folder, and nobody names a folder now."""
    before = recall(settings.data_dir).settings.get("sites_dir")
    if settings.sites == "folder" and before and "sites_dir" not in given and before != str(settings.sites_dir):
        click.echo(
            f"Warning: the last start read the site policies in {before}, this one those in {settings.sites_dir}; "
            f"for the former: --sites {before}, or sites_dir in the settings file",
            err=True,
        )


def _close_data_folder(settings: ServerSettings) -> None:
    """Make the data folder for this user alone; one that others could read is closed to them, and it is said."""
    folder = settings.data_dir
    try:
        was_open = make_private_folder(folder)
    except OSError as error:
        if folder.is_dir():  # else the next use of it says what is wrong
            click.echo(f"Warning: the data folder {folder} cannot be made private: {error.strerror}", err=True)
        return
    if was_open:
        click.echo(f"Other users could open the data folder {folder}: now only its user can (mode 0700).", err=True)
    elif readable_by_others(folder):
        click.echo(f"Warning: other users can read the data folder {folder}: chmod 700 {folder}", err=True)


def _remember(settings: ServerSettings, given: Mapping[str, Any], config: Path | None) -> None:
    """Keep the settings for the other commands. A folder that cannot be written stops nothing."""
    try:
        remember(settings.data_dir, given, config_file(config))
    except OSError as error:
        click.echo(
            f"Warning: the settings cannot be kept in {settings.data_dir} ({error.strerror}): "
            "give the other commands the same --config, --sites and --database",
            err=True,
        )


def _make_sites_folder(settings: ServerSettings) -> None:
    """Make the folder of site policies where it lies in `data_dir`: a first start needs no preparation."""
    if settings.sites == "database" or not settings.sites_dir.is_relative_to(settings.data_dir):
        return
    try:
        settings.sites_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(f"cannot make the folder {settings.sites_dir}: {error.strerror}") from None


def _first_step(settings: ServerSettings) -> str:
    if settings.sites == "database":
        return import_step(settings.sites_dir)
    return f"put a TOML file per site into {settings.sites_dir}"


def _checked_sites(settings: ServerSettings) -> tuple[str, ...]:
    """The sites that are watched. Prints what is wrong with their policies.

    Raises ConfigurationError if there are faults in the folder and no site at all is left to watch.
    """
    with closing(open_store(settings.database_url)) as store:
        if settings.sites == "database":
            in_database = StoredSites(store.policy_versions)
            for site, fault in in_database.faults().items():
                click.echo(f"Warning: site {site}: {fault}", err=True)
            return in_database.sites()
        sites = Sites(settings.sites_dir, store.past.last_text)
        faults = [f"site policy {shown(file)}: {what}" for file, what in sites.faults().items()]
        stored = {head.site for head in store.cameras()} if faults else set()
        recalled = [site for site in sorted(stored.difference(sites.sites())) if sites.standing(site).policy]
    if faults and not (sites.sites() or recalled):
        raise ConfigurationError("; ".join(faults))
    for fault in faults:
        what_to_do = "" if fault.endswith(ONE_FILE) else f"; {MEND}"
        click.echo(f"Warning: {fault}{what_to_do}", err=True)
    for file, why in sites.passed_over().items():
        click.echo(f"Warning: {shown(file)} is passed over: {why}", err=True)
    return *sites.sites(), *(f"{site} (its last good policy)" for site in recalled)


def _check_weights(settings: ServerSettings, cards: Sequence[ModelCard]) -> None:
    """Raises ConfigurationError for missing weights. Their digests are checked when they are loaded."""
    missing = [card for card in cards if card.sha256 is not None and locate(card, cache_dir()) is None]
    lost = [card for card in missing if not can_pull(card)]
    if lost:
        raise ConfigurationError("; ".join(f"no weights for {card.name}: {remedy(card)}" for card in lost))
    if missing:
        names = [card.name for card in missing]
        raise ConfigurationError(
            f"no weights yet for {', '.join(names)}: run `sectorwatch models pull {' '.join(names)}`"
        )


def _check_channels(settings: ServerSettings) -> None:
    """Make the channels as the worker will. Raises ConfigurationError for a secret or a package that is missing."""
    if settings.channels:
        with closing(store_of(settings)) as store:
            make_channels(settings.channels, surroundings_alone(settings, store))


def _prepared_database(settings: ServerSettings) -> tuple[str, bool]:
    """Create or upgrade the tables; the database's name, and whether tokens guard the server.

    Closes its connections, since Gunicorn forks.
    """
    store = open_store(settings.database_url)
    try:
        if store.revision().is_empty_file:
            click.echo(
                f"Warning: the file of {store.name} was empty, and begins anew; if it held something, stop this server "
                "and put a backup in its place: `sectorwatch db restore FILE`",
                err=True,
            )
        store.upgrade()
        return store.name, Authenticator(store).is_guarded()
    except RetryLater as error:  # the database may start more slowly; systemd then starts the server again
        raise RetryLater(f"database {store.name}: {error.detail}") from error
    except SectorwatchError as error:
        raise ConfigurationError(f"database {store.name}: {error.detail}") from error
    finally:
        store.close()


def _summary(
    models: Sequence[str], scheme: str, listening: socket, sites: Sequence[str], database: str, *, guarded: bool
) -> str:
    address, port = listening.getsockname()[:2]
    url = f"{scheme}://[{address}]:{port}" if ":" in address else f"{scheme}://{address}:{port}"
    open_to = "tokens required" if guarded else "this machine only, until `sectorwatch tokens add` makes a token"
    return "\n".join(
        [
            f"Sectorwatch listens on {url} ({open_to})",
            f"  models    {', '.join(models)} (loading; /readyz shows when they are ready)",
            f"  sites     {', '.join(sites)}",
            f"  database  {database}",
        ]
    )
