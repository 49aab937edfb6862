"""The current site policy, from which a command starts."""

from __future__ import annotations

from pathlib import Path

import click

from server.commands.folding import read_policy
from server.domain.errors import ConfigurationError, Unknown
from server.domain.files.text_files import shown
from server.pipeline.chosen_sites import sites_of
from server.pipeline.site_files import PROPOSED
from server.settings import ServerSettings
from server.store import Store

__all__ = ["PROPOSED", "current_policy"]


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


def _missing(settings: ServerSettings) -> str:
    if settings.sites == "database":
        return "none is in the database: `sectorwatch policy import FILE` puts it there"
    return f"no file in {settings.sites_dir} describes it"


def _say(what: str) -> None:
    click.echo(f"Starts {what}.", err=True)
