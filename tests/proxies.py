"""nginx and Caddy, for the tests of their files in `deploy/`: on PATH, or where `deploy/test` unpacks them.

`python -m tests.proxies` ends with 1, and a line that says what to do, where one is missing.
"""

from __future__ import annotations

import os
import shutil
import sys

from server.catalogue import cache_dir

NAMES = ("nginx", "caddy")


def program(name: str) -> str | None:
    """The path of the program, if it is there."""
    unpacked = cache_dir() / "proxies" / "usr"
    folders = [os.environ.get("PATH", os.defpath), "/usr/sbin", str(unpacked / "sbin"), str(unpacked / "bin")]
    return shutil.which(name, path=os.pathsep.join(folders))


def missing() -> str | None:
    """What is missing, and how to get it, in one line; None where nothing is."""
    names = [name for name in NAMES if program(name) is None]
    return f"no {', no '.join(names)}: run deploy/test, which fetches them, or apt-get install them" if names else None


if __name__ == "__main__":
    sys.exit(missing())
