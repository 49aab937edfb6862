"""The files in the folder of site policies: which of them are policies, and what each says.

People, editors, synchronisers and other systems leave files in any folder. A name that is clearly nobody's policy is
passed over. Every other file whose name ends in `.toml` is read.
"""

from __future__ import annotations

import re
import stat
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from policies.site.equal_parts import with_equal_parts_shared
from policies.site.site_policy import InvalidPolicy, SitePolicy, parse_site_policy
from server.domain.files.text_files import SETTINGS_BYTES, UnreadableText, read_text

SUFFIX = ".toml"

_CONFLICT = re.compile(r"sync-conflict-|conflicted copy|sfconflict|[._]conflict\b|_conf\(|[._]conflict-\d", re.I)
"""In the names that Syncthing, Dropbox, Nextcloud, Seafile and Resilio give to a copy that lost."""
_SITE = re.compile(r"""^\s*["']?site["']?\s*=\s*["']([^"'\n]*)["']""", re.M)


@dataclass(frozen=True, slots=True)
class Edition:
    """One version of a site policy, and the text it was written in. `version` is its number in the database; None: it
    is of a file.
    """

    policy: SitePolicy
    text: str
    version: int | None = None


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a file cannot be used. `site` is the one that it describes, as far as that can be read of it."""

    what: str
    site: str | None = None


class Look(NamedTuple):
    """What is in the folder: the files to read, each with what changes when it is written; and those passed over."""

    files: tuple[tuple[Path, tuple[int, ...]], ...]
    passed_over: dict[Path, str]


def look_at(folder: Path) -> Look:
    """What is in the folder. Reads no file. Raises OSError for a folder that cannot be read."""
    files, passed_over = [], {}
    for file in sorted(folder.iterdir()):
        if SUFFIX not in file.name.lower():
            continue
        status = status_of(file)
        if why := of_nobody(file.name) or _not_a_file(status):
            passed_over[file] = why
        else:
            files.append((file, status))
    return Look(tuple(files), passed_over)


def read_edition(file: Path) -> Edition | Fault:
    """The policy in a file, or why there is none."""
    try:
        text = read_text(file, SETTINGS_BYTES)
    except UnreadableText as error:
        return Fault(str(error))
    try:
        return read_text_of_site(text)
    except InvalidPolicy as error:
        return Fault(str(error), _site_in(text))


def read_text_of_site(text: str, version: int | None = None) -> Edition:
    """The edition that a text is. Raises InvalidPolicy."""
    return Edition(with_equal_parts_shared(parse_site_policy(text)), text, version)


def order_of(file: Path) -> tuple[int, str]:
    """Of two files for a site, the one to prefer when nothing else decides: a copy has the longer name."""
    return len(file.name), file.name


def of_nobody(name: str) -> str | None:
    """Why a file with this name is nobody's policy."""
    if name.startswith("."):
        return "it is hidden (its name begins with a dot)"
    if name[0] in "~#" or name.lower().endswith((f"~{SUFFIX}", f"#{SUFFIX}", "~", "#")):
        return "an editor left it"
    if _CONFLICT.search(name):
        return "a synchroniser made it of two versions"
    return None if name.lower().endswith(SUFFIX) else f"its name does not end in {SUFFIX}"


def _not_a_file(status: tuple[int, ...]) -> str | None:
    if stat.S_ISDIR(status[0]):
        return "it is a folder"
    return "it is not a file" if status[0] and not stat.S_ISREG(status[0]) else None


def status_of(file: Path) -> tuple[int, ...]:
    """Kind and rights, size, and the times of the last change of content and rights (ns); for a dangling link and the
    like only the number of the error."""
    try:
        status = file.stat()
    except OSError as error:
        return 0, error.errno or 0
    return status.st_mode, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _site_in(text: str) -> str | None:
    """The site that an invalid policy describes."""
    try:
        site = tomllib.loads(text).get("site")
    except (ValueError, RecursionError):
        named = _SITE.search(text.partition("\n[")[0])
        site = named and named[1]
    return site if isinstance(site, str) else None
