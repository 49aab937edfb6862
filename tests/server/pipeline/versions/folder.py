"""Site policies of one site, in a folder or in the database, and the versions of it."""

from __future__ import annotations

from pathlib import Path

from policies.site.site_policy import parse_site_policy
from server.analysis.policy_diff import applied
from server.pipeline.folder_texts import FolderTexts
from server.pipeline.site_imports import PolicyFile, import_policies
from server.pipeline.site_policies import Sites
from server.pipeline.site_versions import SiteVersions
from server.pipeline.stored_sites import StoredSites
from server.pipeline.stored_texts import StoredTexts
from server.store import Store

TEXT = """# The yard behind the shop.
site = "yard"

[cameras.gate.sectors.table]   # where people sit
polygon = [[0, 0], [0.5, 0], [0.5, 1], [0, 1]]
"""
CHANGED = applied(TEXT, {("cameras", "gate", "sectors", "table", "enlarge"): True})
OTHER = applied(TEXT, {("presence", "clear_s"): 5})


def in_folder(folder: Path, store: Store) -> SiteVersions:
    """The versions of the policies in a folder."""
    sites = Sites(folder)
    return SiteVersions(sites, FolderTexts(sites, folder, store.policy_versions), store.policy_versions)


class Folder:
    """A folder of site policies with one file, and the versions of it in a store."""

    def __init__(self, folder: Path, store: Store) -> None:
        self.folder = folder
        self.file = folder / "yard.toml"
        self.store = store
        folder.mkdir()
        self.file.write_text(TEXT)
        self.sites: Sites | StoredSites = Sites(folder)
        self.versions = in_folder(folder, store)

    @property
    def text(self) -> str:
        """The text in force."""
        return self.file.read_text()

    def edit(self, text: str) -> None:
        """Somebody else puts a text in force."""
        self.file.write_text(text)

    def elsewhere(self, store: Store) -> SiteVersions:
        """The versions as another process has them."""
        return in_folder(self.folder, store)

    def propose(self, text: str = CHANGED, why: str = "") -> int:
        return self.versions.propose("yard", text, "ann", why).number

    def standings(self) -> list[tuple[int, str]]:
        file = self.versions.file("yard")
        return [(each.number, file.standing(each)) for each in self.versions.versions("yard")]

    def audit(self) -> list[tuple[str, str, str | None, str | None]]:
        return [(line.author, line.what, line.site, line.subject) for line in reversed(self.store.audit.page())]


class Database(Folder):
    """The same, with the policies in the database, and without a file. Version 1 is the one that was imported first."""

    def __init__(self, folder: Path, store: Store) -> None:
        self.folder = folder
        self.store = store
        self.sites = StoredSites(store.policy_versions)
        self.versions = self.elsewhere(store)
        self.edit(TEXT)

    @property
    def text(self) -> str:
        return self.sites.edition("yard").text

    def edit(self, text: str) -> None:
        file = PolicyFile(Path("yard.toml"), text, parse_site_policy(text))
        import_policies(self.store.policy_versions, [file], "bob", again=True)

    def elsewhere(self, store: Store) -> SiteVersions:
        kept = store.policy_versions
        return SiteVersions(StoredSites(kept), StoredTexts(kept), kept)

    def standings(self) -> list[tuple[int, str]]:
        return super().standings()[:-1]

    def audit(self) -> list[tuple[str, str, str | None, str | None]]:
        return super().audit()[2:]


KINDS = {"folder": Folder, "database": Database}
