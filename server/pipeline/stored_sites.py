"""The site policies in force, where they are in the database: one version per site, the same for all servers.

A text is checked before it is put in force. One that this server cannot use all the same is of another release: a site
is never judged by an older version than the one in force.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from policies.site.site_policy import InvalidPolicy, SitePolicy
from server import __version__
from server.domain.errors import DatabaseUnavailable, RetryLater
from server.domain.fleet import DATABASE, SitesSource
from server.domain.policy_versions import PolicyVersion
from server.pipeline.site_files import Edition, read_text_of_site
from server.pipeline.site_policies import Standing

log = logging.getLogger(__name__)

_LOOK_AGAIN_S = 30
_UPGRADED_S = 60
"""Another server on the database may take the burst before; else an operator has to act."""


class Judging(Protocol):
    """Which versions judge: see `server.store.people.versions`."""

    def judging(self, site: str) -> PolicyVersion | None: ...
    def number_judging(self, site: str) -> int | None: ...
    def numbers_judging(self) -> Mapping[str, int]: ...


@dataclass(frozen=True, slots=True)
class _Read:
    """A version as it was read: its edition, or why this server cannot use it."""

    number: int
    edition: Edition | None
    fault: str = ""


class StoredSites:
    """The site policies in force of a database. Constructing reads nothing. Safe to use from several threads.

    Each question but `policy` asks the database which version is in force. While it does not answer, what was read last
    counts for pages; a burst is not stored then.
    """

    def __init__(self, kept: Judging) -> None:
        self._kept = kept
        self._lock = threading.Lock()
        self._read: dict[str, _Read] = {}

    def policy(self, site: str) -> SitePolicy:
        """The policy of `site` as it was read last, which is cheap: a server reads all every ten seconds.

        Raises as `edition` does.
        """
        return _usable(site, self._read.get(site) or self._in_force(site)).policy

    def edition(self, site: str) -> Edition:
        """The policy in force for `site`, with its text and the number of its version.

        Raises RetryLater for a site without a policy, for a policy that this server cannot use (one of another release
        can), and where the database does not answer.
        """
        return _usable(site, self._in_force(site))

    def standing(self, site: str) -> Standing:
        """What is in force for `site`. Raises RetryLater where the database does not answer."""
        read = self._in_force(site)
        if read is None:
            return Standing(None, None, "none", ())
        if read.edition is None:
            return Standing(None, None, "none", (read.fault,), read.number)
        return Standing(read.edition.policy, None, "file", (), read.number)

    def sites(self) -> tuple[str, ...]:
        """Names of all sites with a policy in force that this server can use, sorted."""
        return tuple(site for site, read in sorted(self._all().items()) if read.edition is not None)

    def faults(self) -> dict[str, str]:
        """Why a policy in force cannot be used, by site; empty when every one can be."""
        return {site: read.fault for site, read in sorted(self._all().items()) if read.edition is None}

    def source(self) -> SitesSource:
        """The database, whose policies are the same for all servers on it."""
        return SitesSource(DATABASE, "")

    def _in_force(self, site: str) -> _Read | None:
        try:
            number = self._kept.number_judging(site)
        except DatabaseUnavailable:
            if (read := self._read.get(site)) is None:
                raise
            return read
        return self._known(site, number)

    def _all(self) -> Mapping[str, _Read]:
        try:
            numbers = self._kept.numbers_judging()
        except DatabaseUnavailable:
            with self._lock:
                return dict(self._read)
        with self._lock:
            gone = self._read.keys() - numbers.keys()
        for site in gone:
            self._put(site, None)
        found = {site: self._known(site, number) for site, number in numbers.items()}
        return {site: read for site, read in found.items() if read is not None}

    def _known(self, site: str, number: int | None) -> _Read | None:
        """What is in force, read if it is another version than the last time."""
        read = self._read.get(site)
        if (read and read.number) != number:
            version = self._kept.judging(site)
            read = None if version is None else _parsed(version)
            self._put(site, read)
        return read

    def _put(self, site: str, read: _Read | None) -> None:
        """Keep what was read, and log what changes."""
        with self._lock:
            before = self._read.get(site)
            if read is not None:
                self._read[site] = read
            else:
                self._read.pop(site, None)
        if (before and before.number) == (read and read.number):
            return
        if read is None:
            log.warning("site policy gone", extra={"site": site})
        elif read.edition is None:
            log.error("site policy refused", extra={"site": site, "fault": read.fault, "in_force": "nothing"})
        else:
            fields = {"site": site, "policy": read.edition.policy.digest, "version": read.number}
            log.info("site policy in force", extra=fields)


def _usable(site: str, read: _Read | None) -> Edition:
    if read is None:
        todo = "`sectorwatch policy import FILE` puts its policy into the database"
        raise RetryLater(f"unknown site `{site}`: {todo}", retry_after_s=_LOOK_AGAIN_S)
    if read.edition is None:
        raise RetryLater(f"this server cannot judge site `{site}`: {read.fault}", retry_after_s=_UPGRADED_S)
    return read.edition


def _parsed(version: PolicyVersion) -> _Read:
    try:
        return _Read(version.number, read_text_of_site(version.text, version.number))
    except InvalidPolicy as error:
        todo = (
            f"another release has put it in force: upgrade this server (it is {__version__}), or put a version in "
            "force that it can use"
        )
        return _Read(version.number, None, f"version {version.number} in the database: {error}; {todo}")
