"""The site policy of today, which a command starts from, and the file beside it in which a change is proposed."""

from __future__ import annotations

from pathlib import Path

import click

from server.commands.folding import read_policy
from server.domain.errors import ConfigurationError, Unknown
from server.pipeline.site_policies import Sites
from server.settings import ServerSettings
from server.store import Store

PROPOSED = ".proposed"
"""Ends the name of a proposal: no file of that name is read as a site policy."""


def current_policy(store: Store, settings: ServerSettings, site: str, file: Path | None) -> tuple[str, Path | None]:
    """The text to start from (of `file`, the live file, or else the last in force), and the file it is in, if any.

    Raises ConfigurationError where a file that may be the live one cannot be used.
    """
    if file is not None:
        policy, text = read_policy(file)
        if policy.site != site:
            raise click.UsageError(f"{file} is a policy for another site than `{site}`")
        return text, file
    if settings.sites_dir.is_dir():
        sites = Sites(settings.sites_dir)
        live = sites.file(site)
        if live is not None:
            return sites.edition(site).text, live
        told = "; ".join(f"{broken}: {fault}" for broken, fault in sites.faults().items())
        if told:
            raise ConfigurationError(
                f"no file is a policy for `{site}`, but {told}. Mend it, or name one with --policy"
            )
    last = store.past.last_text(site)
    if last is None:
        raise Unknown(f"no policy of `{site}` is stored")
    return last, None
