"""`sectorwatch policy`: versions of a site's policy, proposed, put in force and taken back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click

from server.analysis.policy_diff import difference
from server.commands.options import aligned, current_store, echo_lines, store_options
from server.domain.files.text_files import UnreadableText, read_text, shown
from server.domain.people import COMMAND_LINE
from server.domain.policy_versions import PolicyVersion
from server.domain.times.local_time import LocalTime, site_time
from server.pipeline.site_policies import Sites
from server.pipeline.site_versions import SiteVersions
from server.settings import ServerSettings
from server.store import Store


@click.group()
def command() -> None:
    """Propose a changed site policy, put it in force, take it back. A change judges the next burst."""


@command.command("versions")
@click.argument("site")
@store_options
def versions_(site: str, settings: ServerSettings) -> None:
    """Show the versions of SITE, newest first: number, what became of it, when, by whom, digest, why."""
    store, versions = _versions(settings)
    found = versions.versions(site)
    file = versions.file(site)
    if not found:
        click.echo(f"No version of `{site}` was proposed; {shown(file.path)} is edited by hand.", err=True)
        return
    local = site_time(store, site, settings.sites_dir)
    rows = [_row(version, file.text, local) for version in found]
    echo_lines(aligned([("NUMBER", "IS", "SINCE", "BY", "DIGEST", "WHY"), *rows]))
    if all(version.text != file.text for version in found):
        click.echo(f"{shown(file.path)} is none of them: somebody edited it by hand.", err=True)


@command.command()
@click.argument("site")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--why", default="", help="The reason, in your words.")
@store_options
def propose(site: str, file: Path, why: str, settings: ServerSettings) -> None:
    """Keep FILE as a proposed version of the policy of SITE, and show what it changes. Nothing is in force by that."""
    _, versions = _versions(settings)
    try:
        text = read_text(file)
    except UnreadableText as error:
        raise click.UsageError(f"{shown(file)}: {error}") from None
    version = versions.propose(site, text, COMMAND_LINE, why)
    echo_lines(_changes(version, versions.file(site).path.name))
    click.echo(f"Version {version.number} is proposed. To put it in force: {_call('put-in-force', version)}", err=True)


@command.command()
@click.argument("number", type=int)
@store_options
def show(number: int, settings: ServerSettings) -> None:
    """Print the text of version NUMBER."""
    _, versions = _versions(settings)
    click.echo(versions.version(number).text, nl=False)


@command.command("put-in-force")
@click.argument("number", type=int)
@store_options
def put_in_force(number: int, settings: ServerSettings) -> None:
    """Write version NUMBER into its site's file. Refused where the file has changed since it was proposed."""
    _, versions = _versions(settings)
    version = versions.put_in_force(number, COMMAND_LINE)
    path = shown(versions.file(version.site).path)
    click.echo(f"Version {number} is in {path}. To undo that: {_call('take-back', version)}", err=True)


@command.command("take-back")
@click.argument("number", type=int)
@store_options
def take_back(number: int, settings: ServerSettings) -> None:
    """Write into the site's file what was there before version NUMBER. Refused where it has changed since."""
    _, versions = _versions(settings)
    version = versions.take_back(number, COMMAND_LINE)
    click.echo(f"{shown(versions.file(version.site).path)} is as it was before version {number}.", err=True)


def _versions(settings: ServerSettings) -> tuple[Store, SiteVersions]:
    store = current_store(settings)
    sites = Sites(settings.sites_dir, store.past.last_text)
    return store, SiteVersions(sites, settings.sites_dir, store.policy_versions)


def _row(version: PolicyVersion, text: str | None, local: LocalTime) -> tuple[str, ...]:
    at_us, by = version.newest_step
    return str(version.number), version.standing(text), local.dated(at_us), by, version.digest[:8], version.why or ""


def _changes(version: PolicyVersion, name: str) -> Iterator[str]:
    return difference(version.before_text or "", version.text, name, f"version {version.number}")


def _call(what: str, version: PolicyVersion) -> str:
    return f"sectorwatch policy {what} {version.number}"
