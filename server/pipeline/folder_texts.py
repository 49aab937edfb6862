"""The texts in force, where sites are in a folder: the sites' files.

The site's file is the truth about what is in force: the server judges by it, and whoever edits it by hand wins. Where a
process ends between file and database, or somebody copies a version's text into the file, the database follows the file
(`settle`).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from server.domain.errors import ConfigurationError, Conflict, SectorwatchError
from server.domain.files.atomic_files import ForeignOwner, replacing
from server.domain.files.text_files import SETTINGS_BYTES, UnreadableText, decoded, encoded, read_content, shown
from server.domain.policy_versions import BY_FILE, PolicyVersion
from server.pipeline.site_files import SUFFIX
from server.pipeline.site_policies import Sites
from server.pipeline.site_versions import MOST_SHOWN, Changing, Kept, SiteFile

_FILE_MODE = 0o644

Step = Literal["put in force", "take back"]


class FolderTexts:
    """The files of a folder. Constructing reads nothing. Safe to use from several processes."""

    def __init__(self, sites: Sites, folder: Path, kept: Kept) -> None:
        self._sites = sites
        self._folder = folder
        self._kept = kept
        self._settled: dict[str, tuple[Path | None, int, int, int] | None] = {}

    def file(self, site: str, _within: Changing | None = None) -> SiteFile:
        """The site's file. Raises ConfigurationError where it cannot be read, and Conflict where its place is taken."""
        known = self._sites.file(site)
        path = known or self._folder / f"{site}{SUFFIX}"
        if known is None and not path.exists():
            return SiteFile(site, None, path)
        try:
            content = read_content(path, SETTINGS_BYTES)
            text = decoded(content)
        except UnreadableText as error:
            raise ConfigurationError(f"{shown(path)}: {error}; mend the file") from None
        if known is None and f'"{site}"' not in text and f"'{site}'" not in text:
            raise Conflict(f"{shown(path)} is no policy for `{site}`: give it another name")
        return SiteFile(site, text, path, content)

    def followed(self, site: str, versions: Sequence[PolicyVersion]) -> Sequence[PolicyVersion]:
        """The versions as the site's file shows them. What it shows and the database does not yet has the file's time.

        Nothing is written.
        """
        try:
            file = self.file(site)
            changed_at_us = _path(file).stat().st_mtime_ns // 1000
        except (SectorwatchError, OSError):  # a file that cannot be read says nothing
            return versions
        return _followed(versions, file.text, changed_at_us)[0]

    def put(self, _changing: Changing, before: SiteFile, version: PolicyVersion, text: str, _author: str) -> None:
        """Write the text of the version, or the one of before it, into the file, whose mark and line ends stay.

        Raises ConfigurationError where the file cannot be written.
        """
        _write(_path(before), encoded(text, before.content), version.number)

    def put_back(self, before: SiteFile, version: PolicyVersion) -> None:
        """Write the file as it was, after `put`."""
        if before.text is None:
            _path(before).unlink(missing_ok=True)
        else:
            _write(_path(before), before.content, version.number)

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


def _path(file: SiteFile) -> Path:
    assert file.path is not None, "a site in a folder has a place there"
    return file.path


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
