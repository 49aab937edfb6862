"""The site policies and their versions, where the settings say they are: in a folder, or in the database."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from server.domain.policy_versions import PolicyVersion
from server.domain.times.local_time import texts_in_folder
from server.pipeline.folder_texts import FolderTexts
from server.pipeline.site_policies import SitePolicies, Sites
from server.pipeline.site_versions import Kept, SiteVersions, Texts
from server.pipeline.stored_sites import Judging, StoredSites
from server.pipeline.stored_texts import StoredTexts
from server.settings import ServerSettings


class _Versions(Judging, Kept, Protocol):
    def every_judging(self) -> Sequence[PolicyVersion]: ...


class _Past(Protocol):
    def last_text(self, site: str) -> str | None: ...


class _Store(Protocol):
    """See `server.store.store`."""

    @property
    def past(self) -> _Past: ...
    @property
    def policy_versions(self) -> _Versions: ...


def sites_of(settings: ServerSettings, store: _Store) -> SitePolicies:
    """The site policies in force. Reads nothing."""
    if settings.sites == "database":
        return StoredSites(store.policy_versions)
    return Sites(settings.sites_dir, store.past.last_text)


def versions_of(settings: ServerSettings, store: _Store, sites: SitePolicies) -> SiteVersions:
    """The versions of the policies of `sites`, which are those of the same settings. Reads nothing."""
    kept = store.policy_versions
    texts: Texts = FolderTexts(sites, settings.sites_dir, kept) if isinstance(sites, Sites) else StoredTexts(kept)
    return SiteVersions(sites, texts, kept)


def texts_of(settings: ServerSettings, store: _Store) -> Mapping[str, str]:
    """The text in force of each site, also of one that cannot be used; what cannot be read is left out."""
    if settings.sites == "database":
        return {version.site: version.text for version in store.policy_versions.every_judging()}
    return texts_in_folder(settings.sites_dir)
