"""The current site policy, from which a command starts, and the file in which it proposes a change."""

from __future__ import annotations

from pathlib import Path

import click

from server.commands.folding import read_policy
from server.domain.errors import ConfigurationError, Unknown
from server.pipeline.site_policies import Sites
from server.settings import ServerSettings
from server.store import Store

PROPOSED = ".proposed"
"""The ending of a proposal's file name. The server does not read such a file as a site policy."""


def current_policy(store: Store, settings: ServerSettings, site: str, file: Path | None) -> tuple[str, Path | None]:
    """The text of `file`, else of the site's live file, else of the last stored policy; and the file, if there is one.

    Raises ConfigurationError if a file that may be the live one cannot be used, and Unknown if there is no policy.
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
        faults = "; ".join(f"{broken}: {fault}" for broken, fault in sites.faults().items())
        if faults:
            raise ConfigurationError(f"no file is a policy for `{site}`, but {faults}. Mend it, or give --policy FILE")
    last = store.past.last_text(site)
    if last is None:
        raise Unknown(f"no policy of `{site}` is stored")
    return last, None
