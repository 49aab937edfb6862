"""Checks of the site policies."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from typing import NamedTuple

from policies.fusion.model_check import misfits
from policies.observation import EnsembleInfo
from server.commands.doctor.finding import Finding
from server.commands.doctor.models import known_cards
from server.domain.errors import SectorwatchError
from server.domain.files.text_files import shown
from server.pipeline.chosen_sites import sites_of
from server.pipeline.remarks import enlarged_in_words
from server.pipeline.site_imports import import_step
from server.pipeline.site_policies import SitePolicies, Sites
from server.pipeline.stored_sites import StoredSites
from server.settings import ServerSettings
from server.store import open_store

_NONE = "no site policy can be used: the server answers every burst with 503"


class KnownSites(NamedTuple):
    """The site policies in force, and the sites of which the database holds bursts."""

    policies: SitePolicies
    stored: frozenset[str] = frozenset()


def sites(settings: ServerSettings) -> Iterator[Finding]:
    """Checks that there are site policies, and that each is valid."""
    with known_sites(settings) as known:
        if isinstance(known.policies, Sites):
            yield from _in_folder(settings, known.policies, known.stored)
        elif isinstance(known.policies, StoredSites):
            yield from _in_database(settings, known.policies)


def _in_folder(settings: ServerSettings, known: Sites, stored: frozenset[str]) -> Iterator[Finding]:
    next_step = f"put a TOML file per site into {settings.sites_dir}"
    if not settings.sites_dir.is_dir():
        yield Finding("warn", "sites", f"there is no folder {settings.sites_dir}", next_step)
        return
    in_folder, faults = known.sites(), known.faults()
    recalled = [site for site in sorted(stored.difference(in_folder)) if faults and known.standing(site).policy]
    for file, fault in faults.items():
        yield Finding("fail", "sites", f"{shown(file)}: {fault}", "mend the file")
    for file, why in known.passed_over().items():
        yield Finding("warn", "sites", f"{shown(file)} is passed over: {why}", "move it out of the folder")
    for site in recalled:
        yield Finding("warn", "sites", f"{site}: its last good policy is in force", "mend its file")
    if in_folder:
        yield Finding("ok", "sites", f"{', '.join(in_folder)} (in {settings.sites_dir})")
    elif not recalled:
        yield Finding("warn", "sites", _NONE, next_step)


def _in_database(settings: ServerSettings, known: StoredSites) -> Iterator[Finding]:
    for site, fault in known.faults().items():
        yield Finding(
            "fail", "sites", f"{site}: {fault}", "upgrade this server; until then it answers the site's bursts with 503"
        )
    if in_force := known.sites():
        yield Finding("ok", "sites", f"{', '.join(in_force)} (in the database)")
    else:
        yield Finding("warn", "sites", _NONE, import_step(settings.sites_dir))


def policies(settings: ServerSettings) -> Iterator[Finding]:
    """Checks that the models can do what the site policies in force ask of them."""
    ensemble_info = EnsembleInfo("", tuple(card.model_info for card in known_cards(settings)))
    with known_sites(settings) as known:
        for site in known.policies.sites() if ensemble_info.models else ():
            policy = known.policies.policy(site)
            for what in misfits(policy, ensemble_info):
                yield Finding("warn", "policies", f"{site}: {what}", "change the policy, or `models`")
            for name, camera in policy.cameras.items():
                if words := enlarged_in_words(camera, ensemble_info):
                    yield Finding("ok", "policies", f"{site}/{name}: {words}")


@contextmanager
def known_sites(settings: ServerSettings) -> Iterator[KnownSites]:
    """The site policies as the server sees them; those of the folder alone where the database cannot be read."""
    unread: SitePolicies = StoredSites(_Unread()) if settings.sites == "database" else Sites(settings.sites_dir)
    try:
        store = open_store(settings.database_url)
    except SectorwatchError:
        yield KnownSites(unread)
        return
    with closing(store):
        known = KnownSites(unread)
        with suppress(SectorwatchError):
            if store.revision().is_current:
                known = KnownSites(sites_of(settings, store), frozenset(head.site for head in store.cameras()))
        yield known


class _Unread:
    """A database that cannot be read: the finding `database` says why."""

    def judging(self, _site: str) -> None: ...
    def number_judging(self, _site: str) -> None: ...
    def numbers_judging(self) -> Mapping[str, int]:
        return {}
