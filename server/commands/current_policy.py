"""The current site policy, from which a command starts."""

from __future__ import annotations

from pathlib import Path

import click

from server.commands.folding import read_policy
from server.domain.errors import ConfigurationError, Unknown
from server.domain.files.text_files import shown
from server.pipeline.site_files import PROPOSED
from server.pipeline.site_policies import Sites
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
    sites = Sites(settings.sites_dir, store.past.last_text)
    standing = sites.standing(site) if settings.sites_dir.is_dir() else None
    if standing is not None and standing.policy is not None:
        if standing.in_force == "last_good":
            _say(f"from the last good version, which is in force, since {'; '.join(standing.faults)}")
        else:
            _say(f"from the policy in force, {shown(standing.file)}")
        return sites.edition(site).text, standing.file
    if standing is not None and standing.faults:
        faults = "; ".join(standing.faults)
        raise ConfigurationError(f"no file is a policy for `{site}`, but {faults}. Mend it, or give --policy FILE")
    last = store.past.last_text(site)
    if last is None:
        raise Unknown(f"no policy of `{site}` is stored, and no file in {settings.sites_dir} describes it")
    _say(
        f"from the policy that judged `{site}` last, which is not in force: no file in {settings.sites_dir} describes "
        "it. --sites, --config or --data-dir names the server's folder"
    )
    return last, None


def _say(what: str) -> None:
    click.echo(f"Starts {what}.", err=True)
