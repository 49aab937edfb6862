"""`sectorwatch policy`: versions of a site's policy, proposed, put in force, taken back; imports into the database."""

from __future__ import annotations

from pathlib import Path

import click

from server.commands.current_policy import keep_proposal
from server.commands.options import aligned, current_store, echo_lines, local_of, store_options
from server.domain.errors import ConfigurationError, Unknown
from server.domain.files.text_files import UnreadableText, read_text, shown
from server.domain.people import COMMAND_LINE
from server.domain.policy_versions import PolicyVersion
from server.domain.times.local_time import LocalTime
from server.pipeline.chosen_sites import sites_of, versions_of
from server.pipeline.site_imports import Imported, export_policies, import_policies, read_policies, remove_policy
from server.pipeline.site_versions import SiteFile, SiteVersions
from server.settings import ServerSettings
from server.store import Store


@click.group()
def command() -> None:
    """Propose a changed site policy, put it in force, take it back. A change judges the next burst.

    With `sites = "database"` in the settings, policies are in the database: import them, export them, remove one.
    """


@command.command("versions")
@click.argument("site")
@store_options
def versions_(site: str, settings: ServerSettings) -> None:
    """Show the versions of SITE, newest first: number, what became of it, when, by whom, digest, why."""
    store, versions = _versions(settings)
    found = versions.versions(site)
    file = versions.file(site)
    if not found:
        how = "`sectorwatch policy import FILE` puts one into the database"
        if file.path is not None:
            how = f"{file.place} is edited by hand"
        click.echo(f"No version of `{site}` was proposed; {how}.", err=True)
        return
    local = local_of(settings, store, site)
    rows = [_row(version, file, local) for version in found]
    echo_lines(aligned([("NUMBER", "IS", "SINCE", "BY", "DIGEST", "WHY"), *rows]))
    if file.path is not None and all(version.text != file.text for version in found):
        click.echo(f"{file.place} is none of them: somebody edited it by hand.", err=True)


@command.command()
@click.argument("site")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--why", default="", help="The reason, in your words.")
@store_options
def propose(site: str, file: Path, why: str, settings: ServerSettings) -> None:
    """Keep FILE as a proposed version of the policy of SITE, and show what it changes. Nothing is in force by that."""
    try:
        text = read_text(file)
    except UnreadableText as error:
        raise click.UsageError(f"{shown(file)}: {error}") from None
    keep_proposal(current_store(settings), settings, site, text, why)


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
    """Put version NUMBER in force: into its site's file, or for all servers on the database.

    Refused where the text in force has changed since it was proposed.
    """
    _, versions = _versions(settings)
    version = versions.put_in_force(number, COMMAND_LINE)
    where = "in force" if settings.sites == "database" else f"in {versions.file(version.site).place}"
    click.echo(f"Version {number} is {where}. To undo that: {_call('take-back', version)}", err=True)


@command.command("take-back")
@click.argument("number", type=int)
@store_options
def take_back(number: int, settings: ServerSettings) -> None:
    """Put in force what was there before version NUMBER. Refused where the text in force has changed since."""
    _, versions = _versions(settings)
    version = versions.take_back(number, COMMAND_LINE)
    what = f"The policy of `{version.site}`"
    if settings.sites == "folder":
        what = versions.file(version.site).place
    click.echo(f"{what} is as it was before version {number}.", err=True)


@command.command("import")
@click.argument("place", metavar="FOLDER_OR_FILE", type=click.Path(exists=True, path_type=Path))
@click.option("--replace", "again", is_flag=True, help="Also a text that was in force before and was replaced since.")
@store_options
def import_(place: Path, again: bool, settings: ServerSettings) -> None:
    """Put the site policies of files in force in the database, for all servers on it.

    All are checked first; if one cannot be used, nothing is changed, and the exit code is 78. Says what became of each.
    Sites of which there is no file stay as they are.
    """
    _require_database(settings)
    files, faults = read_policies(place)
    if faults:
        echo_lines(faults, err=True)
        raise ConfigurationError("nothing is imported: mend the files named above")
    if not files:
        raise click.UsageError(f"there is no site policy in {shown(place)}")
    done = import_policies(current_store(settings).policy_versions, files, COMMAND_LINE, again=again)
    echo_lines(f"{each.site}: {_told(each)}" for each in done)


@command.command()
@click.argument("folder", type=click.Path(path_type=Path))
@store_options
def export(folder: Path, settings: ServerSettings) -> None:
    """Write the site policies in force in the database into a new FOLDER, one file per site."""
    _require_database(settings)
    versions = current_store(settings).policy_versions.every_judging()
    if not versions:
        raise Unknown("no site policy is in the database")
    echo_lines(shown(file) for file in export_policies(versions, folder))


@command.command()
@click.argument("site")
@store_options
def remove(site: str, settings: ServerSettings) -> None:
    """Take the policy of SITE out of the database: bursts of it are refused from then on. Its versions stay."""
    _require_database(settings)
    version = remove_policy(current_store(settings).policy_versions, site, COMMAND_LINE)
    again = f"`sectorwatch policy show {version.number}` prints it"
    click.echo(f"`{site}` has no policy any more; it was version {version.number} ({again}).", err=True)


def _require_database(settings: ServerSettings) -> None:
    """Raises ConfigurationError where sites are in a folder, whose files are what is in force."""
    if settings.sites == "folder":
        todo = 'set sites = "database" in the settings, and name them with --config'
        raise ConfigurationError(
            f"the site policies in force are the files in {settings.sites_dir}; to have them in the database, {todo}"
        )


def _told(imported: Imported) -> str:
    version, before = imported.version, imported.before
    number = f"version {version.number}"
    if imported.what == "unchanged":
        return f"unchanged, {number} is in force"
    if imported.what == "left" and before is not None:
        since = f"this text was version {before.number}, and {number} (by {version.in_force_by}) took its place"
        return f"left as it is: {since}; --replace puts it in force again"
    by = f", in place of version {before.number} (by {before.in_force_by})" if before is not None else ""
    return f"{number} is in force{by}"


def _versions(settings: ServerSettings) -> tuple[Store, SiteVersions]:
    store = current_store(settings)
    return store, versions_of(settings, store, sites_of(settings, store))


def _row(version: PolicyVersion, file: SiteFile, local: LocalTime) -> tuple[str, ...]:
    at_us, by = version.newest_step
    return str(version.number), file.standing(version), local.dated(at_us), by, version.digest[:8], version.why or ""


def _call(what: str, version: PolicyVersion) -> str:
    return f"sectorwatch policy {what} {version.number}"
