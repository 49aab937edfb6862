"""Code of the user that is given as a file: it is examined in a folder of its own, and copied beside the card."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from server.domain.errors import ConfigurationError


@dataclass(frozen=True)
class CodeFiles:
    """Where callables come from. `named` is each as a card names it, `files` those that come from a file of the user.

    `card` is a path for a card beside which the files lie now; `folder` is where they belong.
    """

    named: Mapping[str, str]
    files: Mapping[str, Path]
    card: Path
    folder: Path

    @property
    def described(self) -> str:
        """How the files of the user can run code."""
        key, file = next(iter(self.files.items()))
        return f"comes with the code of its {key} ({file})"

    def copy(self) -> None:
        """Copy the files to where they belong. Raises ConfigurationError where that is not possible."""
        for key, file in self.files.items():
            place = self.folder / _module_file(self.named[key])
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
                if place.resolve() != file.resolve():
                    shutil.copyfile(file, place)
            except OSError as error:
                raise ConfigurationError(
                    f"{file} cannot be copied to {place}: {error.strerror}; --out names another folder"
                ) from error


@contextmanager
def code_files(stated: Mapping[str, str], card: Path) -> Iterator[CodeFiles]:
    """The callables in `stated`, by key, each `package.module:callable`, `file.py:callable` or empty, for the card at
    that path.

    Raises ConfigurationError for a file that is not there or whose name is no module's, and for one that would take the
    place of another.
    """
    named, files = dict(stated), dict[str, Path]()
    for key, text in stated.items():
        path, colon, function = text.rpartition(":")
        if not path.endswith(".py"):
            continue
        file = Path(path)
        if not file.is_file():
            raise ConfigurationError(f"there is no file {file} for --{key} {text}")
        if not (colon and re.fullmatch(r"[A-Za-z_]\w*", file.stem) and re.fullmatch(r"[A-Za-z_]\w*", function)):
            raise ConfigurationError(
                f"--{key} {text}: a file of code is given as file.py:callable, its name of letters, digits and _ only"
            )
        try:
            file.read_bytes()
        except OSError as error:
            raise ConfigurationError(f"--{key} {text}: {file} cannot be read: {error.strerror}") from error
        named[key], files[key] = f"{file.stem}:{function}", file
    _check_places(named, files, card.parent)
    if not files:
        yield CodeFiles(named, files, card, card.parent)
        return
    with tempfile.TemporaryDirectory(prefix="sectorwatch-code-") as aside:
        folder = Path(aside, card.parent.name)
        folder.mkdir()
        for key, file in files.items():
            shutil.copyfile(file, folder / _module_file(named[key]))
        yield CodeFiles(named, files, folder / card.name, card.parent)


def _module_file(named: str) -> str:
    return f"{named.partition(':')[0]}.py"


def _check_places(named: Mapping[str, str], files: Mapping[str, Path], folder: Path) -> None:
    taken: dict[Path, bytes] = {}
    for key, file in files.items():
        place = folder / _module_file(named[key])
        content = file.read_bytes()
        other = taken.setdefault(place, content)
        if other != content or (place.is_file() and place.read_bytes() != content):
            raise ConfigurationError(f"{place} would come from {file}, and another file has that place: rename {file}")
