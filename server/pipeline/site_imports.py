"""Site policies from files into the database, and back. All of them, or none.

A text that was in force before, and was replaced since, is left out unless `again`: whoever imports the same files each
time that something starts, undoes no change that people made meanwhile.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from policies.site.site_policy import SitePolicy, all_faults, parse_site_policy
from server.domain.errors import ConfigurationError, Conflict, Unknown
from server.domain.files.atomic_files import filling
from server.domain.files.text_files import SETTINGS_BYTES, UnreadableText, read_text, shown
from server.domain.policy_versions import PolicyVersion
from server.pipeline.site_files import SUFFIX, look_at
from server.pipeline.site_policies import ONE_FILE, named_fault
from server.pipeline.site_versions import Changing, Kept

_FOLDER_MODE = 0o755

What = Literal["new", "changed", "unchanged", "left"]


@dataclass(frozen=True, slots=True)
class PolicyFile:
    """A file that can be used, with the policy that it describes."""

    path: Path
    text: str
    policy: SitePolicy


@dataclass(frozen=True, slots=True)
class Imported:
    """What became of a file: its policy is in force as `version`, in place of `before`; it is what was in force already
    (`unchanged`); or it is `left`, since it was `before` once and `version` took its place.
    """

    site: str
    what: What
    version: PolicyVersion
    before: PolicyVersion | None = None


def read_policies(place: Path) -> tuple[list[PolicyFile], list[str]]:
    """The policies in a file, or in the files of a folder that a server would read; and the faults of all of them.

    Raises ConfigurationError for a folder that cannot be read.
    """
    try:
        files = [file for file, _ in look_at(place).files] if place.is_dir() else [place]
    except OSError as error:
        raise ConfigurationError(f"{shown(place)}: {error.strerror}") from None
    found: dict[str, PolicyFile] = {}
    faults: list[str] = []
    for file in files:
        try:
            text = read_text(file, SETTINGS_BYTES)
        except UnreadableText as error:
            faults.append(f"{shown(file)}: {error}")
            continue
        of_file = [f"{shown(file.parent / named_fault(file, what))}" for what in all_faults(text)]
        if of_file:
            faults += of_file
            continue
        policy = parse_site_policy(text)
        if policy.site in found:
            other = shown(found[policy.site].path.name)
            faults.append(f"{shown(file)}: site `{policy.site}` is also in {other}: {ONE_FILE}")
        found.setdefault(policy.site, PolicyFile(file, text, policy))
    return list(found.values()), faults


def import_policies(kept: Kept, files: Sequence[PolicyFile], author: str, *, again: bool = False) -> list[Imported]:
    """Put the policies in force in the database, in one transaction; what became of each."""
    with kept.changing() as changing:
        return [_imported(changing, file, author, again) for file in files]


def _imported(changing: Changing, file: PolicyFile, author: str, again: bool) -> Imported:
    site = file.policy.site
    now = changing.judging(site)
    if now is not None and now.text == file.text:
        return Imported(site, "unchanged", now)
    earlier = changing.with_text(site, file.text)
    if now is not None and earlier is not None and earlier.in_force_at_us is not None and not again:
        return Imported(site, "left", now, earlier)
    version = changing.add(
        PolicyVersion(
            number=0,
            site=site,
            text=file.text,
            digest=file.policy.digest,
            before_digest=None if now is None else now.digest,
            before_text=None if now is None else now.text,
            author=author,
            why=f"imported from {shown(file.path.name)}",
            made_at_us=0,
        )
    )
    changing.put_in_force(version, author)
    changing.let_judge(version)
    return Imported(site, "new" if now is None else "changed", version, now)


def export_policies(versions: Sequence[PolicyVersion], folder: Path) -> list[Path]:
    """Write the text of each version into a file of its site's name, in a new or empty folder: the files.

    Raises Conflict for a folder with something in it, and ConfigurationError for one that cannot be written.
    """
    names = [f"{version.site}{SUFFIX}" for version in versions]
    try:
        with filling(folder, _FOLDER_MODE) as aside:
            for name, version in zip(names, versions, strict=True):
                (aside / name).write_text(version.text, encoding="utf-8")
    except OSError as error:
        if error.errno == errno.ENOTEMPTY:
            raise Conflict(f"something is in {shown(folder)}: name a new or an empty folder") from None
        raise ConfigurationError(f"{shown(folder)} cannot be written: {error.strerror}") from None
    return [folder / name for name in names]


def import_step(folder: Path) -> str:
    """What to do where no site is in the database, and `folder` is the one of the settings."""
    with suppress(OSError):
        if look_at(folder).files:
            return f"put the files of {shown(folder)} into the database: `sectorwatch policy import {shown(folder)}`"
    return "put a site's policy into the database: `sectorwatch policy import FILE`"


def remove_policy(kept: Kept, site: str, author: str) -> PolicyVersion:
    """Take a site's policy out of force, with none in its place; the version that was. Raises Unknown."""
    with kept.changing() as changing:
        version = changing.judging(site)
        if version is None:
            raise Unknown(f"no policy of `{site}` is in the database")
        changing.remove(version, author)
    return version
