"""The current site policy, from which a command starts, and the changed one that it proposes."""

from __future__ import annotations

from pathlib import Path

import click

from server.analysis.policy_diff import difference
from server.analysis.renames import renames
from server.commands.folding import read_policy
from server.commands.options import echo_lines
from server.domain.errors import ConfigurationError, Unknown
from server.domain.files.atomic_files import replacing
from server.domain.files.text_files import shown
from server.domain.people import COMMAND_LINE
from server.pipeline.chosen_sites import sites_of, versions_of
from server.settings import ServerSettings
from server.store import Store


def current_policy(store: Store, settings: ServerSettings, site: str, file: Path | None) -> tuple[str, Path | None]:
    """The text of `file`, else of the policy in force, else of the last stored one; and its file, if there is one.

    Prints which it is to standard error. Raises ConfigurationError if a file that may be the live one cannot be used
    and no last good version is known, and Unknown if there is no policy.
    """
    if file is not None:
        policy, text = read_policy(file)
        if policy.site != site:
            raise click.UsageError(f"{file} is a policy for another site than `{site}`")
        _say(f"from {file}")
        return text, file
    sites = sites_of(settings, store)
    is_there = settings.sites == "database" or settings.sites_dir.is_dir()
    standing = sites.standing(site) if is_there else None
    if standing is not None and standing.policy is not None:
        if standing.in_force == "last_good":
            _say(f"from the last good version, which is in force, since {'; '.join(standing.faults)}")
        else:
            _say(f"from the policy in force, {shown(standing.file) if standing.file else standing.name}")
        return sites.edition(site).text, standing.file
    if standing is not None and standing.faults:
        faults = "; ".join(standing.faults)
        if settings.sites == "database":
            raise ConfigurationError(f"{faults}. Or give --policy FILE")
        raise ConfigurationError(f"no file is a policy for `{site}`, but {faults}. Mend it, or give --policy FILE")
    last = store.past.last_text(site)
    if last is None:
        raise Unknown(f"no policy of `{site}` is stored, and {_missing(settings)}")
    todo = "--config or --data-dir names the server's settings"
    if settings.sites == "folder":
        todo = "--sites, --config or --data-dir names the server's folder"
    _say(f"from the policy that judged `{site}` last, which is not in force: {_missing(settings)}. {todo}")
    return last, None


def keep_proposal(store: Store, settings: ServerSettings, site: str, text: str, why: str) -> None:
    """Keep a text as a proposed version of a site's policy, and print what it changes and how to put it in force.

    Raises Unprocessable for a text that is no policy of the site, and for a reason that is too long.
    """
    versions = versions_of(settings, store, sites_of(settings, store))
    version = versions.propose(site, text, COMMAND_LINE, why)
    before, name = version.before_text or "", versions.file(site).name
    echo_lines(difference(before, version.text, name, f"version {version.number}"))
    echo_lines(each.words for each in renames(before, version.text))
    todo = f"sectorwatch policy put-in-force {version.number}"
    click.echo(f"Version {version.number} is proposed. To put it in force: {todo}", err=True)


def write_policy(file: Path, text: str) -> None:
    """Write a policy into a file, whole or not at all. Raises ConfigurationError."""
    try:
        with replacing(file) as aside:
            aside.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"{file} cannot be written: {error.strerror}") from None


def _missing(settings: ServerSettings) -> str:
    if settings.sites == "database":
        return "none is in the database: `sectorwatch policy import FILE` puts it there"
    return f"no file in {settings.sites_dir} describes it"


def _say(what: str) -> None:
    click.echo(f"Starts {what}.", err=True)
