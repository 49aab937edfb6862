"""The site policies in force, where they are in a folder: one TOML file per site, read again when it changes.

A changed file is in force for the next burst. A file that cannot be used is logged once per change, and its last good
version stays in force. So do all versions while the folder cannot be read. After a restart, the version that judged
the site's last burst stands in for an unusable file. Of two files for one site, the one that was in force last stays.
"""

from __future__ import annotations

import hashlib
import logging
import threading
from collections.abc import Callable, Mapping, Set, Sized
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from policies.site.site_policy import InvalidPolicy, SitePolicy, parse_site_policy
from server.domain.errors import ConfigurationError, RetryLater, SectorwatchError
from server.domain.files.text_files import shown
from server.domain.fleet import SitesSource
from server.pipeline.site_files import (
    Edition,
    Fault,
    Look,
    look_at,
    order_of,
    read_edition,
    read_text_of_site,
    status_of,
)

log = logging.getLogger(__name__)

_LOOK_AGAIN_S = 30
MEND = "mend the file, and the server reads it again"
ONE_FILE = "keep one file per site"

InForce = Literal["file", "last_good", "none"]


@dataclass(frozen=True, slots=True)
class Standing:
    """What is in force for a site, and why that is not its newest file.

    `file` is the site's file, as far as one is known. `in_force` says whether that file as it is now counts, or its
    last good version. Each fault names its file and line. `version` is the number of the policy in the database; None
    where sites are in a folder.
    """

    policy: SitePolicy | None
    file: Path | None
    in_force: InForce
    faults: tuple[str, ...]
    version: int | None = None

    @property
    def name(self) -> str | None:
        """What to call the site's policy: its file's name, or its version in the database."""
        if self.version is not None:
            return f"version {self.version} in the database"
        return None if self.file is None else shown(self.file.name)


class SitePolicies(Protocol):
    """The site policies in force: `Sites` of a folder, or `server.pipeline.stored_sites` of the database.

    `edition` and `policy` raise RetryLater for an unknown site. For one whose policy cannot be used they raise
    ConfigurationError if it is in a file, and RetryLater if it is in the database, where another server can use it.
    `faults` are those of what cannot be used now; to ask for them also reads what has changed. `source` tells servers
    that judge by the same policies from others; it asks no database.
    """

    def policy(self, site: str) -> SitePolicy: ...
    def edition(self, site: str) -> Edition: ...
    def standing(self, site: str) -> Standing: ...
    def sites(self) -> tuple[str, ...]: ...
    def faults(self) -> Sized: ...
    def source(self) -> SitesSource: ...


class Sites:
    """The site policies in force of a folder. Constructing reads nothing. Safe to use from several threads.

    `last_text` gives the text of the policy that judged a site last. It is used for a site without a usable file, while
    some file in the folder cannot be used, and to choose between two files for one site after a restart.
    """

    def __init__(self, folder: Path, last_text: Callable[[str], str | None] = lambda _site: None) -> None:
        self._folder = folder
        self._last_text = last_text
        self._recalled: dict[str, Edition] = {}
        self._lock = threading.Lock()
        self._look: Look | None = None
        self._statuses: dict[Path, tuple[int, ...]] = {}
        self._by_file: dict[Path, Edition] = {}
        self._file_of: dict[str, Path] = {}
        self._faults: dict[Path, Fault] = {}
        self._passed_over: dict[Path, str] = {}

    def policy(self, site: str) -> SitePolicy:
        """The policy in force for `site`; raises as `edition` does."""
        return self.edition(site).policy

    def edition(self, site: str) -> Edition:
        """The policy in force for `site`, with its text.

        Raises RetryLater for a site without a file, since an agent may start before its site's file is there. Raises
        ConfigurationError while a file that may describe the site cannot be used.
        """
        with self._lock:
            if self._refresh_of(site):
                return self._by_file[self._file_of[site]]
        edition, faults = self._in_force(site)
        if edition is not None:
            return edition
        if faults:
            named = "; ".join(named_fault(file, fault.what) for file, fault in faults.items())
            raise ConfigurationError(f"no usable policy for site `{site}`, but {named}", begun=False)
        raise RetryLater(
            f'unknown site `{site}`: put a file with site = "{site}" into the server\'s folder of site policies',
            retry_after_s=_LOOK_AGAIN_S,
        )

    def standing(self, site: str) -> Standing:
        """What is in force for `site`. Raises only what `last_text` raises."""
        edition, faults = self._in_force(site)
        file = self.file(site)
        in_force: InForce = "last_good" if file is None or file in faults else "file"
        of_site = [each for each, fault in faults.items() if fault.site == site] or list(faults.keys() - {self._folder})
        return Standing(
            None if edition is None else edition.policy,
            file or (of_site[0] if len(of_site) == 1 else None),
            "none" if edition is None else in_force,
            tuple(named_fault(each, fault.what) for each, fault in faults.items()),
        )

    def file(self, site: str) -> Path | None:
        """The file whose policy is in force for `site`; None when there is none."""
        with self._lock:
            self._refresh_of(site)
            return self._file_of.get(site)

    def sites(self) -> tuple[str, ...]:
        """Names of all sites with a policy in force, sorted."""
        with self._lock:
            self._refresh()
            return tuple(sorted(self._file_of))

    def faults(self) -> dict[Path, str]:
        """The fault of each file, or of the folder itself; empty when every file is in force."""
        with self._lock:
            self._refresh()
            return {file: fault.what for file, fault in self._faults.items()}

    def source(self) -> SitesSource:
        """The folder, with the digest of all policies in force: the same for folders with the same rules."""
        with self._lock:
            self._refresh()
            editions = {edition.policy.site: edition for edition in self._by_file.values()} | self._recalled
        digests = "".join(f"{site} {edition.policy.digest}\n" for site, edition in sorted(editions.items()))
        return SitesSource(str(self._folder.absolute()), hashlib.sha256(digests.encode()).hexdigest())

    def passed_over(self) -> dict[Path, str]:
        """The files and folders whose names look like a policy's and that are nobody's, each with the reason."""
        with self._lock:
            self._refresh()
            return dict(self._passed_over)

    def _in_force(self, site: str) -> tuple[Edition | None, dict[Path, Fault]]:
        """The edition in force, recalled if need be, and the faults that concern the site."""
        with self._lock:
            self._refresh()
            faults = self._faults_for(site)
            if (file := self._file_of.get(site)) is not None:
                return self._by_file[file], faults
        return (self._recall(site) if faults else None), faults

    def _faults_for(self, site: str) -> dict[Path, Fault]:
        """The faults that concern the site. One whose file names no site concerns every site without a file."""
        wanted = (site,) if site in self._file_of else (site, None)
        return {
            file: fault
            for file, fault in self._faults.items()
            if fault.site in wanted or file == self._file_of.get(site)
        }

    def _recall(self, site: str) -> Edition | None:
        """Called outside the lock, so that other sites do not wait for a database that does not answer."""
        known = self._recalled
        if site not in known and (text := self._last_text(site)) is not None:
            try:
                edition = read_text_of_site(text)
            except InvalidPolicy:  # written for another version of the rules
                return None
            log.warning("site policy recalled", extra={"site": site, "policy": edition.policy.digest})
            known[site] = edition
        return known.get(site)

    def _refresh_of(self, site: str) -> bool:
        """Read what has changed, as far as it concerns `site`; whether it has a policy in force.

        While the file in force is as it was, no other file changes that: a burst does not look at all of the folder.
        """
        file = self._file_of.get(site)
        if file is None or self._statuses.get(file) != status_of(file):
            self._refresh()
        return site in self._file_of

    def _refresh(self) -> None:
        try:
            look = look_at(self._folder)
        except OSError as error:
            todo = "it has to be a folder that the server may read, with one TOML file per site"
            self._look, self._statuses = None, {}
            self._put(self._by_file, {self._folder: Fault(f"{error.strerror}: {todo}")}, self._passed_over)
            return
        if look != self._look:
            before, self._look, self._statuses = self._statuses, look, dict(look.files)
            same = {file for file, status in look.files if status == before.get(file)}
            self._put(*self._read([file for file, _ in look.files], same), look.passed_over)

    def _read(self, files: list[Path], same: Set[Path]) -> tuple[dict[Path, Edition], dict[Path, Fault]]:
        """The version in force of each file, and the fault of each unusable one. Those that are the `same` as before
        are not read again while they are in force.
        """
        faults: dict[Path, Fault] = {}
        claims: dict[str, dict[Path, Edition]] = {}
        for file in files:
            found = self._by_file[file] if self._is_read(file, same) else read_edition(file)
            if isinstance(found, Fault):
                faults[file] = found
            edition = self._by_file.get(file) if isinstance(found, Fault) else found
            if edition is not None:
                claims.setdefault(edition.policy.site, {})[file] = edition
        kept: dict[Path, Edition] = {}
        for site, candidates in claims.items():
            first = self._first(site, candidates)
            kept[first] = candidates[first]
            for other in candidates.keys() - {first}:
                what = f"site `{site}` is also in {shown(first.name)}, which stays in force: {ONE_FILE}"
                faults[other] = Fault(what, site)
                before = self._by_file.get(other)
                if before is not None and before.policy.site not in claims:
                    kept[other] = before
        return kept, dict(sorted(faults.items()))

    def _is_read(self, file: Path, same: Set[Path]) -> bool:
        return file in same and file in self._by_file and file not in self._faults

    def _first(self, site: str, candidates: Mapping[Path, Edition]) -> Path:
        """The file that counts for a site: the one in force, else the one that judged its last burst."""
        held = self._file_of.get(site)
        if held is not None and held in candidates:
            return held
        last = self._last_digest(site) if len(candidates) > 1 else None
        judged = [file for file, edition in candidates.items() if edition.policy.digest == last]
        return min(judged or candidates, key=order_of)

    def _last_digest(self, site: str) -> str | None:
        """The digest of the policy that judged the site last, as far as the database knows it now."""
        try:
            text = self._last_text(site)
            return None if text is None else parse_site_policy(text).digest
        except (InvalidPolicy, SectorwatchError):
            return None

    def _put(self, by_file: dict[Path, Edition], faults: dict[Path, Fault], passed_over: dict[Path, str]) -> None:
        """Put these in force, and log what changes."""
        file_of = {edition.policy.site: file for file, edition in by_file.items()}
        self._log_files(by_file, file_of, faults, passed_over)
        for site, file in file_of.items():
            before = self._file_of.get(site)
            if before is None or self._by_file[before].policy.digest != by_file[file].policy.digest:
                log.info("site policy in force", extra={"site": site, "policy": by_file[file].policy.digest})
        for site in sorted(self._file_of.keys() - file_of.keys()):
            log.warning("site policy gone", extra={"site": site})
        self._by_file, self._file_of, self._faults, self._passed_over = by_file, file_of, faults, passed_over
        self._recalled = {site: edition for site, edition in self._recalled.items() if faults and site not in file_of}

    def _log_files(
        self,
        by_file: Mapping[Path, Edition],
        file_of: Mapping[str, Path],
        faults: Mapping[Path, Fault],
        passed_over: Mapping[Path, str],
    ) -> None:
        """Log what is new about files that cannot be used, are passed over, or can be used again."""
        for file, fault in faults.items():
            if self._faults.get(file) == fault:
                continue
            is_last_good = file in {self._folder, *by_file} and by_file
            other = file_of.get(fault.site or "")
            in_force = "the last good version" if is_last_good else shown(other.name) if other else "nothing"
            todo = ONE_FILE if fault.what.endswith(ONE_FILE) else MEND
            fields = {"file": shown(file), "fault": fault.what, "in_force": in_force, "todo": todo}
            log.error("site policy refused", extra=fields)
        for file, why in passed_over.items():
            if file not in self._passed_over:
                log.warning("site policy passed over", extra={"file": shown(file), "why": why})
        for file in self._faults.keys() - faults.keys():
            log.info("site policy no longer refused", extra={"file": shown(file)})


def named_fault(file: Path, what: str) -> str:
    """A fault with its file's name: `yard.toml, line 3: ...`."""
    return f"{shown(file.name)}{', ' if what.startswith('line ') else ': '}{what}"
