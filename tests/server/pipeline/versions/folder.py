"""A folder of site policies with one file, and the versions of it."""

from __future__ import annotations

from pathlib import Path

from server.analysis.policy_diff import applied
from server.pipeline.site_policies import Sites
from server.pipeline.site_versions import SiteVersions
from server.store import Store

TEXT = """# The yard behind the shop.
site = "yard"

[cameras.gate.sectors.table]   # where people sit
polygon = [[0, 0], [0.5, 0], [0.5, 1], [0, 1]]
"""
CHANGED = applied(TEXT, {("cameras", "gate", "sectors", "table", "enlarge"): True})
OTHER = applied(TEXT, {("presence", "clear_s"): 5})


class Folder:
    """A folder of site policies with one file, and the versions of it in a store."""

    def __init__(self, folder: Path, store: Store) -> None:
        self.folder = folder
        self.file = folder / "yard.toml"
        self.store = store
        folder.mkdir()
        self.file.write_text(TEXT)
        self.sites = Sites(folder)
        self.versions = SiteVersions(self.sites, folder, store.policy_versions)

    def propose(self, text: str = CHANGED, why: str = "") -> int:
        return self.versions.propose("yard", text, "ann", why).number

    def standings(self) -> list[tuple[int, str]]:
        text = self.versions.file("yard").text
        return [(each.number, each.standing(text)) for each in self.versions.versions("yard")]

    def audit(self) -> list[tuple[str, str, str | None, str | None]]:
        return [(line.author, line.what, line.site, line.subject) for line in reversed(self.store.audit.page())]
