"""The folder of site policies: one TOML file per site, read again when it changes.

A changed file is in force for the next burst. A file that cannot be used is logged once per change, and its last good
version stays in force. So do all versions while the folder cannot be read. After a restart, the version that judged
the site's last burst stands in for an unusable file.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from policies.site.site_policy import InvalidPolicy, SitePolicy, parse_site_policy
from server.domain.errors import ConfigurationError, RetryLater
from server.domain.text_files import read_text

log = logging.getLogger(__name__)

_LOOK_AGAIN_S = 30
_Look = tuple[tuple[Path, int, int, int], ...]


@dataclass(frozen=True, slots=True)
class Edition:
    """One version of a site policy, and the text it was written in."""

    policy: SitePolicy
    text: str


class Sites:
    """The site policies in force. Constructing reads nothing. Safe to use from several threads.

    `last_text` gives the text of the policy that judged a site last. It is used for a site without a usable file, while
    some file in the folder cannot be used.
    """

    def __init__(self, folder: Path, last_text: Callable[[str], str | None] = lambda _site: None) -> None:
        self._folder = folder
        self._last_text = last_text
        self._recalled: dict[str, Edition] = {}
        self._lock = threading.Lock()
        self._look: _Look | None = None
        self._by_file: dict[Path, Edition] = {}
        self._by_site: dict[str, Edition] = {}
        self._faults: dict[Path, str] = {}

    def policy(self, site: str) -> SitePolicy:
        """The policy in force for `site`; raises as `edition` does."""
        return self.edition(site).policy

    def edition(self, site: str) -> Edition:
        """The policy in force for `site`, with its text.

        Raises RetryLater for a site without a file, since an agent may start before its site's file is there. Raises
        ConfigurationError while a file that may describe the site cannot be used.
        """
        with self._lock:
            self._refresh()
            if (edition := self._by_site.get(site)) is not None:
                return edition
            faults = "; ".join(f"{file.name}: {what}" for file, what in self._faults.items())
        if faults:
            if (recalled := self._recall(site)) is not None:
                return recalled
            raise ConfigurationError(f"no usable policy for site `{site}`, but {faults}")
        raise RetryLater(
            f'unknown site `{site}`: put a file with site = "{site}" into the server\'s folder of site policies',
            retry_after_s=_LOOK_AGAIN_S,
        )

    def file(self, site: str) -> Path | None:
        """The file whose policy is in force for `site`; None when there is none."""
        with self._lock:
            self._refresh()
            return next((file for file, edition in self._by_file.items() if edition.policy.site == site), None)

    def sites(self) -> tuple[str, ...]:
        """Names of all sites with a policy in force, sorted."""
        with self._lock:
            self._refresh()
            return tuple(sorted(self._by_site))

    def faults(self) -> dict[Path, str]:
        """The fault of each file, or of the folder itself; empty when every file is in force."""
        with self._lock:
            self._refresh()
            return dict(self._faults)

    def _recall(self, site: str) -> Edition | None:
        """Called outside the lock, so that other sites do not wait for a database that does not answer."""
        known = self._recalled
        if site not in known and (text := self._last_text(site)) is not None:
            try:
                edition = Edition(parse_site_policy(text), text)
            except InvalidPolicy:  # written for another version of the rules
                return None
            log.warning("site policy recalled", extra={"site": site, "policy": edition.policy.digest})
            known[site] = edition
        return known.get(site)

    def _refresh(self) -> None:
        try:
            look = tuple(_looked_at(file) for file in sorted(self._folder.iterdir()) if file.suffix == ".toml")
        except OSError as error:
            todo = "it has to be a folder that the server may read, with one TOML file per site"
            self._look = None
            self._put(self._by_file, {self._folder: f"{error.strerror}: {todo}"})
            return
        if look != self._look:
            self._look = look
            self._put(*self._read([file for file, *_ in look]))

    def _read(self, files: Sequence[Path]) -> tuple[dict[Path, Edition], dict[Path, str]]:
        """The version in force of each file, and the fault of each unusable one."""
        kept: dict[Path, Edition] = {}
        owner: dict[str, Path] = {}
        faults: dict[Path, str] = {}
        for file in files:
            try:
                text = read_text(file)
                edition = Edition(parse_site_policy(text), text)
                if edition.policy.site in owner:
                    raise InvalidPolicy(f"site `{edition.policy.site}` is also in {owner[edition.policy.site].name}")
            except (InvalidPolicy, UnicodeDecodeError, OSError) as error:
                faults[file] = str(error)
                last = self._by_file.get(file)
                if last is None or last.policy.site in owner:
                    continue
                edition = last
            owner[edition.policy.site] = file
            kept[file] = edition
        return kept, faults

    def _put(self, by_file: dict[Path, Edition], faults: dict[Path, str]) -> None:
        """Put these in force, and log what changes."""
        by_site = {edition.policy.site: edition for edition in by_file.values()}
        for file, fault in faults.items():
            if self._faults.get(file) != fault:
                in_force = "the last good version" if file in {self._folder, *by_file} and by_file else "nothing"
                fields = {
                    "file": str(file),
                    "fault": fault,
                    "in_force": in_force,
                    "todo": "mend the file, and the server reads it again",
                }
                log.error("site policy refused", extra=fields)
        for site, edition in by_site.items():
            before = self._by_site.get(site)
            if before is None or before.policy.digest != edition.policy.digest:
                log.info("site policy in force", extra={"site": site, "policy": edition.policy.digest})
        for file in self._faults.keys() - faults.keys():
            log.info("site policy no longer refused", extra={"file": str(file)})
        for site in sorted(self._by_site.keys() - by_site.keys()):
            log.warning("site policy gone", extra={"site": site})
        self._by_file, self._by_site, self._faults = by_file, by_site, faults
        self._recalled = {site: edition for site, edition in self._recalled.items() if faults and site not in by_site}


def _looked_at(file: Path) -> tuple[Path, int, int, int]:
    """A file with its size and the times of its last change of content and rights (ns); zeros for a dangling link."""
    try:
        status = file.stat()
    except FileNotFoundError:
        return file, 0, 0, 0
    return file, status.st_size, status.st_mtime_ns, status.st_ctime_ns
