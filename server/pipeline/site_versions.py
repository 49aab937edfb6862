"""Versions of a site's policy: proposed, put in force by writing the site's file, taken back by writing that of before.

The site's file is the truth about what is in force: the server judges by it, and whoever edits it by hand wins. The
database keeps the text of each version, and what became of it. Where a process ends between the two, or somebody copies
a version's text into the file, the database follows the file (`settle`).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Protocol

from policies.site.site_policy import SitePolicy, all_faults, parse_site_policy
from server.domain.errors import ConfigurationError, Conflict, SectorwatchError, Unknown, Unprocessable
from server.domain.files.atomic_files import ForeignOwner, replacing
from server.domain.files.text_files import SETTINGS_BYTES, UnreadableText, decoded, encoded, read_content, shown
from server.domain.policy_versions import BY_FILE, PolicyVersion
from server.pipeline.site_files import SUFFIX
from server.pipeline.site_policies import Sites

LONGEST_WHY = 500
MOST_SHOWN = 50
_FILE_MODE = 0o644

Step = Literal["put in force", "take back"]


class Changing(Protocol):
    """Changes that are committed together, or not at all; nobody else changes a version meanwhile."""

    def of_site(self, site: str, limit: int) -> Sequence[PolicyVersion]: ...
    def version(self, number: int) -> PolicyVersion: ...
    def put_in_force(self, version: PolicyVersion, author: str) -> None: ...
    def take_back(self, version: PolicyVersion, author: str) -> None: ...


class Kept(Protocol):
    """Where the versions are kept: `store.policy_versions`."""

    def add(self, proposed: PolicyVersion) -> PolicyVersion: ...
    def version(self, number: int) -> PolicyVersion: ...
    def of_site(self, site: str, limit: int) -> Sequence[PolicyVersion]: ...
    def changing(self) -> AbstractContextManager[Changing]: ...


@dataclass(frozen=True, slots=True)
class SiteFile:
    """A site's file as it is now. `text` is None where there is none yet: `path` is then where it would be.

    `content` are the file's bytes: those of the text, with its byte order mark and line ends.
    """

    path: Path
    text: str | None
    content: bytes = b""

    @property
    def fingerprint(self) -> str:
        """What changes with every change of the file, comments included; empty where there is none."""
        return "" if self.text is None else hashlib.sha256(self.text.encode()).hexdigest()


class SiteVersions:
    """The versions of the policies in a folder. Constructing reads nothing. Safe to use from several processes."""

    def __init__(self, sites: Sites, folder: Path, kept: Kept) -> None:
        self._sites = sites
        self._folder = folder
        self._kept = kept
        self._settled: dict[str, tuple[Path | None, int, int, int] | None] = {}

    def file(self, site: str) -> SiteFile:
        """The site's file. Raises ConfigurationError where it cannot be read, and Conflict where its place is taken."""
        known = self._sites.file(site)
        path = known or self._folder / f"{site}{SUFFIX}"
        if known is None and not path.exists():
            return SiteFile(path, None)
        try:
            content = read_content(path, SETTINGS_BYTES)
            text = decoded(content)
        except UnreadableText as error:
            raise ConfigurationError(f"{shown(path)}: {error}; mend the file") from None
        if known is None and f'"{site}"' not in text and f"'{site}'" not in text:
            raise Conflict(f"{shown(path)} is no policy for `{site}`: give it another name")
        return SiteFile(path, text, content)

    def propose(self, site: str, text: str, author: str, why: str = "", seen: str | None = None) -> PolicyVersion:
        """Keep a changed text of the site's file; nothing is in force by that.

        `seen` is the fingerprint of the file from which the text was made: Conflict is raised where the file is another
        one by now. Raises Unprocessable, with every fault and its line, for a text that is no policy of the site.
        """
        text = text.replace("\r\n", "\n")
        policy = _checked(site, text)
        file = self.file(site)
        if seen is not None and seen != file.fingerprint:
            raise Conflict(_changed(file, "you began", "load the page again and make your change there"))
        self.settle(site)
        if text == file.text:
            raise Unprocessable(f"the text is that of {shown(file.path.name)}: nothing is changed")
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
        """The version of a number, as the site's file shows it. Raises Unknown."""
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
        """The versions of a site, newest first, at most MOST_SHOWN, as the site's file shows them.

        Nothing is written. What the file shows and the database does not yet has the file's time.
        """
        kept = self._kept.of_site(site, MOST_SHOWN)
        try:
            file = self.file(site)
            changed_at_us = file.path.stat().st_mtime_ns // 1000
        except (SectorwatchError, OSError):  # a file that cannot be read says nothing
            return kept
        return _followed(kept, file.text, changed_at_us)[0]

    def put_in_force(self, number: int, author: str) -> PolicyVersion:
        """Write the version's text into the site's file, whose byte order mark and line ends stay. It judges the next
        burst.

        Raises Conflict where the file has changed since the proposal was made, or the version was in force already;
        ConfigurationError where the file cannot be written. Then nothing is changed.
        """

        def allowed(version: PolicyVersion, file: SiteFile) -> str:
            if version.in_force_at_us is not None:
                raise Conflict(_over(version, file))
            if file.text != version.before_text:
                again = f"propose the change again from the file as it is (`sectorwatch policy propose {version.site}`)"
                raise Conflict(_changed(file, f"version {number} was proposed", again))
            return version.text

        return self._rewritten(number, allowed, lambda changing, version: changing.put_in_force(version, author))

    def take_back(self, number: int, author: str) -> PolicyVersion:
        """Write the text from which the version was made into the site's file again. It judges the next burst.

        Raises Conflict where the version is not in force, or the file has changed since; ConfigurationError where the
        file cannot be written. Then nothing is changed.
        """

        def allowed(version: PolicyVersion, file: SiteFile) -> str:
            if version.standing(file.text) != "in force":
                raise Conflict(_not_in_force(version, file))
            if version.before_text is None:
                raise Conflict(
                    f"`{version.site}` had no file before version {number}, so there is nothing to go back to: "
                    f"propose another version, or remove {shown(file.path)}"
                )
            return version.before_text

        return self._rewritten(number, allowed, lambda changing, version: changing.take_back(version, author))

    def _rewritten(
        self,
        number: int,
        allowed: Callable[[PolicyVersion, SiteFile], str],
        mark: Callable[[Changing, PolicyVersion], None],
    ) -> PolicyVersion:
        """Write the file and mark the version, both or neither: the file last, just before the commit."""
        written: SiteFile | None = None
        self.settle(self._kept.version(number).site)
        try:
            with self._kept.changing() as changing:
                version = changing.version(number)
                file = self.file(version.site)
                text = allowed(version, file)
                mark(changing, version)
                after = changing.version(number)
                _write(file.path, encoded(text, file.content), number)
                written = file
            return after
        except SectorwatchError:  # of the commit, where the file is written
            if written is not None:
                _put_back(written, number)
            raise

    def settle_changed(self) -> None:
        """Settle each site whose file is another one than the last time; the first time, all of them."""
        for site in self._sites.sites():
            file = self._sites.file(site)
            try:
                found = None if file is None else file.stat()
            except OSError:
                continue
            look = None if found is None else (file, found.st_ino, found.st_size, found.st_mtime_ns)
            if look != self._settled.get(site):
                self.settle(site)
                self._settled[site] = look

    def settle(self, site: str) -> None:
        """Have the database say what the site's file says."""
        try:
            text = self.file(site).text
        except SectorwatchError:  # a file that cannot be read says nothing
            return
        if not _followed(self._kept.of_site(site, MOST_SHOWN), text, 0)[1]:
            return
        with self._kept.changing() as changing:
            _, steps = _followed(changing.of_site(site, MOST_SHOWN), text, 0)
            if self.file(site).text != text:
                return
            for version, what in steps:
                step = changing.put_in_force if what == "put in force" else changing.take_back
                step(version, BY_FILE)

    def _digest(self, site: str) -> str | None:
        """The digest of the policy in force; None where the site has none."""
        with suppress(SectorwatchError):
            return self._sites.policy(site).digest
        return None


def _checked(site: str, text: str) -> SitePolicy:
    if len(text.encode()) > SETTINGS_BYTES:
        raise Unprocessable(f"the text is larger than {SETTINGS_BYTES >> 20} MiB, so it is not a file of settings")
    if faults := all_faults(text):
        raise Unprocessable("; ".join(faults))
    policy = parse_site_policy(text)
    if policy.site != site:
        raise Unprocessable(f'the text is a policy for site `{policy.site}`, not `{site}`: leave site = "{site}" in it')
    return policy


def _followed(
    versions: Sequence[PolicyVersion], text: str | None, at_us: int
) -> tuple[list[PolicyVersion], list[tuple[PolicyVersion, Step]]]:
    """The versions, newest first, as the file's text shows them, and the steps from what the database says to that."""
    shown_so, steps = list(versions), list[tuple[PolicyVersion, Step]]()
    if text is None:
        return shown_so, steps
    while True:
        in_force = [each for each in shown_so if each.in_force_at_us is not None and each.taken_back_at_us is None]
        marked = max(in_force, key=lambda each: (each.in_force_at_us, each.text == text, each.number), default=None)
        if marked is not None and marked.text == text:
            return shown_so, steps
        same = [each for each in shown_so if each.text == text]
        written = next((each for each in same if each.in_force_at_us is None), None)
        if written is None and marked is not None and marked.before_text == text:
            steps.append((marked, "take back"))
            shown_so[shown_so.index(marked)] = replace(marked, taken_back_at_us=at_us, taken_back_by=BY_FILE)
            continue
        if (written := written or next(iter(same), None)) is not None:
            steps.append((written, "put in force"))
            after = replace(written, in_force_at_us=at_us, in_force_by=BY_FILE, taken_back_at_us=None)
            shown_so[shown_so.index(written)] = after
        return shown_so, steps


def _write(place: Path, content: bytes, number: int) -> None:
    """Write a file, through a link to where it is; owner and mode stay. Raises ConfigurationError."""
    path = place.resolve()
    try:
        mode, owner = _mode_and_owner(path)
        with replacing(path, mode, owner) as aside:
            aside.write_bytes(content)
    except OSError as error:
        raise ConfigurationError(_unwritable(place, error.strerror or str(error), number)) from None
    except ForeignOwner:
        who = shown(_user(path))
        todo = f"run the command as its owner, or give it to the server's user (`chown`): it belongs to {who}"
        raise ConfigurationError(_unwritable(place, todo, number)) from None


def _mode_and_owner(path: Path) -> tuple[int, tuple[int, int] | None]:
    """Those of the file. A new file that root makes gets the owner of its folder, so that the server can change it."""
    if path.exists():
        found = path.stat()
        return found.st_mode & 0o777, (found.st_uid, found.st_gid)
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        folder = path.parent.stat()
        return _FILE_MODE, (folder.st_uid, folder.st_gid)
    return _FILE_MODE, None


def _user(path: Path) -> str:
    """The names of the file's user and group, or their numbers."""
    try:
        return f"{path.owner()}:{path.group()}"
    except (KeyError, OSError, NotImplementedError):
        found = path.stat()
        return f"{found.st_uid}:{found.st_gid}"


def _unwritable(place: Path, why: str, number: int) -> str:
    return (
        f"{shown(place)} cannot be written ({why}), so nothing is changed. deploy/README.md says, under `Versions of "
        "site policies`, what lets the server write it (`ReadWritePaths=`, its owner). Or put the text there yourself: "
        f"`sectorwatch policy show {number}` prints version {number}, and the server reads the file again"
    )


def _put_back(file: SiteFile, number: int) -> None:
    if file.text is None:
        file.path.unlink(missing_ok=True)
    else:
        _write(file.path, file.content, number)


def _changed(file: SiteFile, since: str, todo: str) -> str:
    return f"{shown(file.path.name)} {'is gone' if file.text is None else 'has changed'} since {since}: {todo}"


def _over(version: PolicyVersion, file: SiteFile) -> str:
    standing = version.standing(file.text)
    if standing == "in force":
        return f"version {version.number} is in force already"
    return (
        f"version {version.number} was in force and is {standing}: propose its text again to have it back "
        f"(`sectorwatch policy show {version.number}` prints it)"
    )


def _not_in_force(version: PolicyVersion, file: SiteFile) -> str:
    standing = version.standing(file.text)
    if standing == "proposed":
        return f"version {version.number} is only proposed: there is nothing to take back"
    if standing == "taken back":
        return f"version {version.number} is taken back already"
    return (
        f"{shown(file.path.name)} has changed since version {version.number} was put in force, so taking it back would "
        "undo that change too: edit the file, or propose another version"
    )
