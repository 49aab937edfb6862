"""Debian's Chromium, which drives the tests of the pages: on PATH, or named in `SECTORWATCH_TEST_CHROMIUM`.

`python -m tests.browser.chromium` ends with 1, and a line that says what to do, where it or Playwright is missing.
Playwright's own download is never used.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Browser

VARIABLE = "SECTORWATCH_TEST_CHROMIUM"
_NAMES = ("chromium", "chromium-browser")
_PACKAGES = ("playwright", "axe_playwright_python")
_ANSWERS_WITHIN_S = 60


def program() -> str | None:
    """The path of a Chromium that starts; None where there is none. What the variable names is the only candidate."""
    given = os.environ.get(VARIABLE)
    found = (shutil.which(name) for name in ((given,) if given else _NAMES))
    return next((path for path in found if path is not None and _starts(path)), None)


def missing() -> str | None:
    """What the tests in a browser lack, and how to get it, in one line; None where nothing is missing."""
    if absent := [name.replace("_", "-") for name in _PACKAGES if importlib.util.find_spec(name) is None]:
        return f"{' and '.join(absent)} not installed: run deploy/test, or pip install -e '.[dev]'"
    if program() is not None:
        return None
    if given := os.environ.get(VARIABLE):
        return f"{given}, which {VARIABLE} names, is no Chromium that starts: name another, or unset {VARIABLE}"
    return (
        "no Chromium that starts: run deploy/test as root, which installs it, or `sudo apt-get install chromium`, or "
        f"name its program in {VARIABLE}"
    )


@contextmanager
def launched() -> Iterator[Browser]:
    """A Chromium without a window."""
    from playwright.sync_api import sync_playwright  # `missing` says so where there is none

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program(), args=_arguments())
        yield browser
        browser.close()


def _arguments() -> list[str]:
    """What Chromium is started with beside Playwright's own arguments."""
    never_out = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"
    # Chromium's sandbox refuses to run as root, as which the gate runs in a container. The pages are our own.
    return [never_out, *(["--no-sandbox"] if os.geteuid() == 0 else [])]


def _starts(path: str) -> bool:
    """Whether it says its version: a package of Ubuntu's puts a script of this name that only names a snap."""
    try:
        return subprocess.run([path, "--version"], capture_output=True, timeout=_ANSWERS_WITHIN_S).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


if __name__ == "__main__":
    sys.exit(missing())
