"""Programs that tests of the files in `deploy/` start: on PATH, or where `deploy/test` unpacks them.

`python -m tests.programs` ends with 1, and a line that says what to do, where one is missing. With `packages` it prints
the Debian packages of those that are missing.
"""

from __future__ import annotations

import os
import shutil
import sys

from server.catalogue import cache_dir

PACKAGES = {"nginx": "nginx", "caddy": "caddy", "promtool": "prometheus"}
"""Program -> the Debian package that has it."""


def program(name: str) -> str | None:
    """The path of the program, if it is there."""
    unpacked = cache_dir() / "programs" / "usr"
    folders = [os.environ.get("PATH", os.defpath), "/usr/sbin", str(unpacked / "sbin"), str(unpacked / "bin")]
    return shutil.which(name, path=os.pathsep.join(folders))


def missing_packages() -> list[str]:
    """The Debian packages of what is missing."""
    return [package for name, package in PACKAGES.items() if program(name) is None]


def missing() -> str | None:
    """What is missing, and how to get it, in one line; None where nothing is."""
    packages = missing_packages()
    return (
        f"no {', no '.join(packages)}: run deploy/test, which fetches them, or apt-get install them"
        if packages
        else None
    )


if __name__ == "__main__":
    if sys.argv[1:] == ["packages"]:
        sys.stdout.write("\n".join(missing_packages()) + "\n")
    else:
        sys.exit(missing())
