"""Chromium, a console with a filled database, and pages of it that fail their test on any fault.

Browser and server live as long as the tests of this folder, in each test process: Playwright keeps an event loop
running meanwhile, which other tests may not expect.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from policies.events import Event
from tests.browser import chromium as debian
from tests.browser.browsing import SIZES, WITHIN_MS, Browsing, Size
from tests.browser.console import served
from tests.browser.filling import fill
from tests.browser.pictures import events_of


@pytest.fixture(scope="package")
def chromium() -> Iterator[Browser]:
    """One Chromium without a window."""
    if missing := debian.missing():
        pytest.fail(missing)
    expect.set_options(timeout=WITHIN_MS)
    with debian.launched() as browser:
        yield browser


@pytest.fixture(scope="session")
def filled(tmp_path_factory: pytest.TempPathFactory, footage_frames: list[bytes]) -> Path:
    """A filled data folder, to be copied. The processes of one run make it once."""
    is_shared = "PYTEST_XDIST_WORKER" in os.environ
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if is_shared else base) / "filled-console"
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            unfinished = folder.with_suffix(".unfinished")
            fill(unfinished, footage_frames)
            unfinished.rename(folder)
    return folder


@pytest.fixture(scope="package")
def console_server(filled: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a running server with a copy of the filled folder, which the tests of one process share."""
    folder = tmp_path_factory.mktemp("console") / "data"
    shutil.copytree(filled, folder)
    with served(folder) as address:
        yield address


@pytest.fixture(scope="session")
def events(filled: Path) -> list[Event]:
    """The events of the yard as the filled folder has them, in order of time."""
    return events_of(filled)


@pytest.fixture(scope="package")
def sessions(console_server: str) -> dict[str, Any]:
    """The cookies of users who have signed in to that server."""
    return {}


@pytest.fixture
def browsing(chromium: Browser, console_server: str, sessions: dict[str, Any]) -> Iterator[Browsing]:
    """Opens pages of the console. At its end the test fails on everything that went wrong in them."""
    browsing = Browsing(chromium, console_server, sessions)
    yield browsing
    browsing.close()
    assert browsing.watch.faults == []


@pytest.fixture(params=SIZES)
def size(request: pytest.FixtureRequest) -> Size:
    """Of a phone, and of a desk: what holds at one must hold at the other."""
    chosen: Size = request.param
    return chosen


@pytest.fixture
def page(browsing: Browsing, size: Size) -> Page:
    """An empty page of an operator who has signed in, at each size."""
    return browsing.page(size)
