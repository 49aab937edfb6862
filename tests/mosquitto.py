"""Mosquitto, for the tests of the channel to a broker: on PATH, or where `deploy/test` unpacks it.

`python -m tests.mosquitto` ends with 1, and a line that says what to do, where it is missing.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from server.catalogue import cache_dir


def _unpacked() -> Path:
    return cache_dir() / "mosquitto"


def program() -> str | None:
    """The path of the broker, if it is there."""
    folders = [os.environ.get("PATH", os.defpath), "/usr/sbin", str(_unpacked() / "usr" / "sbin")]
    return shutil.which("mosquitto", path=os.pathsep.join(folders))


def environment() -> dict[str, str]:
    """The environment that it needs where it is not installed."""
    libraries = [str(folder) for folder in (_unpacked() / "usr" / "lib").glob("*-linux-gnu")]
    return os.environ | ({"LD_LIBRARY_PATH": os.pathsep.join(libraries)} if libraries else {})


def missing() -> str | None:
    """What is missing, and how to get it, in one line; None where it is there."""
    there = "run deploy/test, which fetches it, or apt-get install it"
    return f"no mosquitto: {there}" if program() is None else None


if __name__ == "__main__":
    sys.exit(missing())
