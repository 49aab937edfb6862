"""Checks of the site policies."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress

from policies.fusion.model_check import misfits
from policies.observation import EnsembleInfo
from server.commands.doctor.finding import Finding
from server.commands.doctor.models import known_cards
from server.domain.errors import SectorwatchError
from server.domain.files.text_files import shown
from server.pipeline.remarks import enlarged_in_words
from server.pipeline.site_policies import Sites
from server.settings import ServerSettings
from server.store import open_store


def sites(settings: ServerSettings) -> Iterator[Finding]:
    """Checks that there are site policies, and that each is valid."""
    next_step = f"put a TOML file per site into {settings.sites_dir}"
    if not settings.sites_dir.is_dir():
        yield Finding("warn", "sites", f"there is no folder {settings.sites_dir}", next_step)
        return
    with known_sites(settings) as known:
        in_folder = known.sites()
        stored = known.stored - set(in_folder) if known.faults() else set()
        recalled = [site for site in sorted(stored) if known.standing(site).policy]
        for file, fault in known.faults().items():
            yield Finding("fail", "sites", f"{shown(file)}: {fault}", "mend the file")
        for file, why in known.passed_over().items():
            yield Finding("warn", "sites", f"{shown(file)} is passed over: {why}", "move it out of the folder")
    for site in recalled:
        yield Finding("warn", "sites", f"{site}: its last good policy is in force", "mend its file")
    if in_folder:
        yield Finding("ok", "sites", f"{', '.join(in_folder)} (in {settings.sites_dir})")
    elif not recalled:
        yield Finding("warn", "sites", "no site policy can be used: the server answers every burst with 503", next_step)


def policies(settings: ServerSettings) -> Iterator[Finding]:
    """Checks that the models can do what the site policies in force ask of them."""
    ensemble_info = EnsembleInfo("", tuple(card.model_info for card in known_cards(settings)))
    with known_sites(settings) as known:
        for site in known.sites() if ensemble_info.models else ():
            for what in misfits(known.policy(site), ensemble_info):
                yield Finding("warn", "policies", f"{site}: {what}", "change the policy, or `models`")
            for name, camera in known.policy(site).cameras.items():
                if words := enlarged_in_words(camera, ensemble_info):
                    yield Finding("ok", "policies", f"{site}/{name}: {words}")


class _KnownSites(Sites):
    """The site policies in force, and the sites of which the database holds bursts."""

    stored: frozenset[str] = frozenset()


@contextmanager
def known_sites(settings: ServerSettings) -> Iterator[_KnownSites]:
    """The site policies as the server sees them; without the past where the database cannot be read."""
    try:
        store = open_store(settings.database_url)
    except SectorwatchError:
        yield _KnownSites(settings.sites_dir)
        return
    with closing(store):
        known = _KnownSites(settings.sites_dir)
        with suppress(SectorwatchError):
            if store.revision().is_current:
                known = _KnownSites(settings.sites_dir, store.past.last_text)
                known.stored = frozenset(head.site for head in store.cameras())
        yield known
