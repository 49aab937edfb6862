"""Versions of a site's policy: proposed, put in force, taken back.

The text in force is a file of the folder (`folder_texts`), or a version in the database (`stored_texts`). The database
keeps the text of each version, and what became of it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from policies.site.site_policy import SitePolicy, all_faults, parse_site_policy
from server.domain.errors import Conflict, SectorwatchError, Unknown, Unprocessable
from server.domain.files.text_files import SETTINGS_BYTES, shown
from server.domain.policy_versions import PolicyVersion, Standing
from server.pipeline.site_policies import SitePolicies

LONGEST_WHY = 500
MOST_SHOWN = 50


class Changing(Protocol):
    """Changes that are committed together, or not at all; nobody else changes a version meanwhile."""

    def of_site(self, site: str, limit: int) -> Sequence[PolicyVersion]: ...
    def version(self, number: int) -> PolicyVersion: ...
    def put_in_force(self, version: PolicyVersion, author: str) -> None: ...
    def take_back(self, version: PolicyVersion, author: str) -> None: ...
    def judging(self, site: str) -> PolicyVersion | None: ...
    def with_text(self, site: str, text: str) -> PolicyVersion | None: ...
    def add(self, proposed: PolicyVersion) -> PolicyVersion: ...
    def let_judge(self, version: PolicyVersion) -> None: ...
    def remove(self, version: PolicyVersion, author: str) -> None: ...


class Kept(Protocol):
    """Where the versions are kept: `store.policy_versions`."""

    def add(self, proposed: PolicyVersion) -> PolicyVersion: ...
    def version(self, number: int) -> PolicyVersion: ...
    def of_site(self, site: str, limit: int) -> Sequence[PolicyVersion]: ...
    def judging(self, site: str) -> PolicyVersion | None: ...
    def changing(self) -> AbstractContextManager[Changing]: ...


@dataclass(frozen=True, slots=True)
class SiteFile:
    """A site's text in force as it is now; `text` is None where there is none yet.

    In a folder, `path` is its file, or where it would be, and `content` are the file's bytes: those of the text, with
    its byte order mark and line ends. In the database, `version` is the one that judges.
    """

    site: str
    text: str | None
    path: Path | None = None
    content: bytes = b""
    version: PolicyVersion | None = None

    @property
    def fingerprint(self) -> str:
        """What changes with every change of the text, comments included; empty where there is none."""
        return "" if self.text is None else hashlib.sha256(self.text.encode()).hexdigest()

    def standing(self, version: PolicyVersion) -> Standing:
        """What became of a version of the site. In the database, one of several with the same text is in force."""
        is_another = self.version is not None and self.version.number != version.number
        return version.standing(None if is_another else self.text)

    @property
    def name(self) -> str:
        """What to call it: its file's name, or whose policy it is."""
        return f"the policy of `{self.site}`" if self.path is None else shown(self.path.name)

    @property
    def place(self) -> str:
        """Where it is: as `name`, with the file's folder."""
        return self.name if self.path is None else shown(self.path)


class Texts(Protocol):
    """The texts in force: `FolderTexts` or `StoredTexts`."""

    def file(self, site: str, within: Changing | None = None) -> SiteFile: ...
    def followed(self, site: str, versions: Sequence[PolicyVersion]) -> Sequence[PolicyVersion]: ...
    def put(self, changing: Changing, before: SiteFile, version: PolicyVersion, text: str, author: str) -> None: ...
    def put_back(self, before: SiteFile, version: PolicyVersion) -> None: ...
    def settle(self, site: str) -> None: ...
    def settle_changed(self) -> None: ...


class SiteVersions:
    """The versions of the policies of sites. Constructing reads nothing. Safe to use from several processes."""

    def __init__(self, sites: SitePolicies, texts: Texts, kept: Kept) -> None:
        self._sites = sites
        self._texts = texts
        self._kept = kept

    def file(self, site: str) -> SiteFile:
        """The site's text in force. Raises ConfigurationError where its file cannot be read, and Conflict where the
        place of its file is taken.
        """
        return self._texts.file(site)

    def propose(self, site: str, text: str, author: str, why: str = "", seen: str | None = None) -> PolicyVersion:
        """Keep a changed text of the site's policy; nothing is in force by that.

        `seen` is the fingerprint of the text from which it was made: Conflict is raised where another one is in force
        by now. Raises Unprocessable, with every fault and its line, for a text that is no policy of the site.
        """
        text = text.replace("\r\n", "\n")
        policy = checked(site, text)
        file = self.file(site)
        if seen is not None and seen != file.fingerprint:
            raise Conflict(_changed(file, "you began", "load the page again and make your change there"))
        self.settle(site)
        if text == file.text:
            raise Unprocessable(f"the text is that of {file.name}: nothing is changed")
        why = " ".join(why.split())
        if len(why) > LONGEST_WHY:
            raise Unprocessable(f"the reason has {len(why)} characters; at most {LONGEST_WHY} are kept")
        proposed = PolicyVersion(
            number=0,
            site=site,
            text=text,
            digest=policy.digest,
            before_digest=self._digest(site),
            before_text=file.text,
            author=author,
            why=why or None,
            made_at_us=0,
        )
        return self._kept.add(proposed)

    def version(self, number: int) -> PolicyVersion:
        """The version of a number, as the text in force shows it. Raises Unknown."""
        version = self._kept.version(number)
        return next((each for each in self.versions(version.site) if each.number == number), version)

    def version_of(self, site: str, number: int) -> PolicyVersion:
        """The version of a number of a site. Raises Unknown for one of another site, as for one that is not there."""
        with suppress(Unknown):
            version = self.version(number)
            if version.site == site:
                return version
        raise Unknown(f"there is no version {number} of the policy of `{site}`")

    def versions(self, site: str) -> Sequence[PolicyVersion]:
        """The versions of a site, newest first, at most MOST_SHOWN, as the text in force shows them. Nothing is
        written.
        """
        return self._texts.followed(site, self._kept.of_site(site, MOST_SHOWN))

    def put_in_force(self, number: int, author: str) -> PolicyVersion:
        """Make the version's text the one in force, which judges the next burst.

        Raises Conflict where the text in force has changed since the proposal was made, or the version was in force
        already; ConfigurationError where the file cannot be written. Then nothing is changed.
        """

        def allowed(version: PolicyVersion, file: SiteFile) -> str:
            if version.in_force_at_us is not None:
                raise Conflict(_over(version, file))
            if file.text != version.before_text:
                what = "text" if file.path is None else "file"
                command = f"`sectorwatch policy propose {version.site}`"
                again = f"propose the change again from the {what} as it is ({command})"
                raise Conflict(_changed(file, f"version {number} was proposed", again))
            return version.text

        def mark(changing: Changing, version: PolicyVersion) -> None:
            changing.put_in_force(version, author)

        return self._rewritten(number, author, allowed, mark)

    def take_back(self, number: int, author: str) -> PolicyVersion:
        """Make the text from which the version was made the one in force again, which judges the next burst.

        Raises Conflict where the version is not in force, or the text in force has changed since; ConfigurationError
        where the file cannot be written. Then nothing is changed.
        """

        def allowed(version: PolicyVersion, file: SiteFile) -> str:
            if file.standing(version) != "in force":
                raise Conflict(_not_in_force(version, file))
            if version.before_text is None:
                raise Conflict(_nothing_before(version, file))
            return version.before_text

        def mark(changing: Changing, version: PolicyVersion) -> None:
            changing.take_back(version, author)

        return self._rewritten(number, author, allowed, mark)

    def _rewritten(
        self,
        number: int,
        author: str,
        allowed: Callable[[PolicyVersion, SiteFile], str],
        mark: Callable[[Changing, PolicyVersion], None],
    ) -> PolicyVersion:
        """Put a text in force and mark the version, both or neither: the text last, just before the commit."""
        put: SiteFile | None = None
        version = self._kept.version(number)
        self.settle(version.site)
        try:
            with self._kept.changing() as changing:
                version = changing.version(number)
                file = self._texts.file(version.site, changing)
                text = allowed(version, file)
                mark(changing, version)
                after = changing.version(number)
                self._texts.put(changing, file, version, text, author)
                put = file
            return after
        except SectorwatchError:  # of the commit, where the text is put
            if put is not None:
                self._texts.put_back(put, version)
            raise

    def settle_changed(self) -> None:
        """Settle each site whose file is another one than the last time; the first time, all of them."""
        self._texts.settle_changed()

    def settle(self, site: str) -> None:
        """Have the database say what the site's file says."""
        self._texts.settle(site)

    def _digest(self, site: str) -> str | None:
        """The digest of the policy in force; None where the site has none."""
        with suppress(SectorwatchError):
            return self._sites.edition(site).policy.digest
        return None


def checked(site: str, text: str) -> SitePolicy:
    """The policy in a text. Raises Unprocessable, with every fault and its line, for one that is none of the site."""
    if len(text.encode()) > SETTINGS_BYTES:
        raise Unprocessable(f"the text is larger than {SETTINGS_BYTES >> 20} MiB, so it is not a file of settings")
    if faults := all_faults(text):
        raise Unprocessable("; ".join(faults))
    policy = parse_site_policy(text)
    if policy.site != site:
        raise Unprocessable(f'the text is a policy for site `{policy.site}`, not `{site}`: leave site = "{site}" in it')
    return policy


def _changed(file: SiteFile, since: str, todo: str) -> str:
    now = file.version
    by = f" (version {now.number} is in force, by {now.in_force_by})" if now is not None else ""
    return f"{file.name} {'is gone' if file.text is None else 'has changed'} since {since}{by}: {todo}"


def _nothing_before(version: PolicyVersion, file: SiteFile) -> str:
    what, remove = ("file", f"remove {file.place}")
    if file.path is None:
        what, remove = "policy", f"`sectorwatch policy remove {version.site}`"
    return (
        f"`{version.site}` had no {what} before version {version.number}, so there is nothing to go back to: "
        f"propose another version, or {remove}"
    )


def _over(version: PolicyVersion, file: SiteFile) -> str:
    standing = file.standing(version)
    if standing == "in force":
        return f"version {version.number} is in force already"
    return (
        f"version {version.number} was in force and is {standing}: propose its text again to have it back "
        f"(`sectorwatch policy show {version.number}` prints it)"
    )


def _not_in_force(version: PolicyVersion, file: SiteFile) -> str:
    standing = file.standing(version)
    if standing == "proposed":
        return f"version {version.number} is only proposed: there is nothing to take back"
    if standing == "taken back":
        return f"version {version.number} is taken back already"
    todo = "propose another version" if file.path is None else "edit the file, or propose another version"
    return (
        f"{file.name} has changed since version {version.number} was put in force, so taking it back would "
        f"undo that change too: {todo}"
    )
