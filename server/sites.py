"""The folder of site policies: one TOML file per site, read anew when it changes, the last good one kept.

A file edited while the server runs is in force for the next burst. A file that cannot be used is said so in
the log, once per change, and the version before it stays in force.
"""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass
from pathlib import Path

from policies.site_policy import InvalidPolicy, SitePolicy, parse_site_policy
from server.errors import Broken, Later

log = logging.getLogger(__name__)

_LOOK_AGAIN_S = 30
_Look = tuple[tuple[str, int, int, int], ...]


@dataclass(frozen=True, slots=True)
class Edition:
    """One version of a site policy, and the text it was written in."""

    policy: SitePolicy
    text: str


class Sites:
    """The site policies in force. Constructing reads nothing; safe to ask from several threads."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._look: _Look | None = None
        self._by_file: dict[str, Edition] = {}
        self._by_site: dict[str, Edition] = {}
        self._faults: dict[str, str] = {}

    def policy(self, site: str) -> SitePolicy:
        """The policy in force for `site`; raises as `edition` does."""
        return self.edition(site).policy

    def edition(self, site: str) -> Edition:
        """The policy in force for `site`, with its text.

        Raises Later for a site that no file describes (yet: an agent may begin before its site's file is there),
        and Broken while some file that might describe it cannot be read.
        """
        with self._lock:
            self._refresh()
            found = self._by_site.get(site)
            if found is not None:
                return found
            faults = "; ".join(f"{name}: {what}" for name, what in self._faults.items())
        if faults:
            raise Broken(f"no usable policy for site `{site}`, but {faults}")
        raise Later(
            f'unknown site `{site}`: put a file with site = "{site}" into the server\'s folder of site policies',
            retry_after_s=_LOOK_AGAIN_S,
        )

    def file(self, site: str) -> Path | None:
        """The file whose policy is in force for `site`; None when there is none."""
        with self._lock:
            self._refresh()
            return next((self._folder / n for n, e in self._by_file.items() if e.policy.site == site), None)

    def sites(self) -> tuple[str, ...]:
        """Names of all sites with a policy in force, sorted."""
        with self._lock:
            self._refresh()
            return tuple(sorted(self._by_site))

    def reload(self) -> dict[str, str]:
        """Read every file now. Gives file name -> what is wrong with it, empty when all are in force."""
        with self._lock:
            self._look = None
            self._refresh()
            return dict(self._faults)

    def _refresh(self) -> None:
        look = self._looked()
        if look == self._look:
            return
        self._look = look
        kept: dict[str, Edition] = {}
        owner: dict[str, str] = {}
        faults: dict[str, str] = {}
        for name, *_ in look:
            try:
                edition = self._read(name)
                if edition.policy.site in owner:
                    raise InvalidPolicy(f"site `{edition.policy.site}` is also in {owner[edition.policy.site]}")
            except (InvalidPolicy, UnicodeDecodeError, OSError) as error:
                faults[name] = str(error)
                last = self._by_file.get(name)
                if last is None or last.policy.site in owner:
                    continue
                edition = last
            owner[edition.policy.site] = name
            kept[name] = edition
        by_site = {edition.policy.site: edition for edition in kept.values()}
        self._report(by_site, faults)
        self._by_file, self._by_site, self._faults = kept, by_site, faults

    def _looked(self) -> _Look:
        if not self._folder.is_dir():
            raise Broken(f"there is no folder of site policies at {self._folder}: make it, with one TOML file per site")
        try:
            return tuple(map(_looked_at, sorted(self._folder.glob("*.toml"))))
        except OSError as error:
            raise Broken(f"the folder of site policies cannot be read: {error}") from error

    def _read(self, name: str) -> Edition:
        text = (self._folder / name).read_text(encoding="utf-8")
        return Edition(parse_site_policy(text), text)

    def _report(self, by_site: dict[str, Edition], faults: dict[str, str]) -> None:
        for name, fault in faults.items():
            if self._faults.get(name) != fault:
                in_force = "the last good version" if name in self._by_file else "nothing"
                log.error("site policy refused", extra={"file": name, "fault": fault, "in_force": in_force})
        for site, edition in by_site.items():
            before = self._by_site.get(site)
            if before is None or before.policy.digest != edition.policy.digest:
                log.info("site policy in force", extra={"site": site, "policy": edition.policy.digest})
        for site in sorted(self._by_site.keys() - by_site.keys()):
            log.warning("site policy gone", extra={"site": site})


def _looked_at(file: Path) -> tuple[str, int, int, int]:
    """Name, size, and when its text and when its rights changed (ns), or zeros for a link to nothing: reading tells."""
    try:
        found = file.stat()
    except FileNotFoundError:
        return file.name, 0, 0, 0
    return file.name, found.st_size, found.st_mtime_ns, found.st_ctime_ns
