"""Real weights and real footage. Nothing is skipped without them: the test fails, and says how to get them."""

from __future__ import annotations

import gc
import logging
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import Phase, settings

from server.catalogue import cache_dir as user_cache_dir
from server.catalogue import card_named, locate
from tests.benchmarks.events.footage import sampled_jpegs

# The gate must give the same answer every time: examples are drawn from the test itself, not from chance.
settings.register_profile(
    "gate", derandomize=True, deadline=None, phases=(Phase.explicit, Phase.generate), report_multiple_bugs=False
)
settings.load_profile("gate")

# A gate that is started in the background ignores Ctrl-C, and so would the programs that tests interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The tests of the whole come first: they take longest, and none of them is left to one process at the end."""
    items.sort(key=lambda item: item.path.parent != Path(__file__).parent)


def pytest_collection_finish() -> None:
    """What was imported and collected stays: whoever collects garbage in a test need not walk through it each time."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    """A command run inside a test configures the process's logging: that ends with the test."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    names = {number: logging.getLevelName(number) for number in (logging.INFO, logging.WARNING, logging.ERROR)}
    yield
    for handler in root.handlers[:]:
        if handler not in handlers:
            root.removeHandler(handler)
    root.setLevel(level)
    for number, name in names.items():
        logging.addLevelName(number, name)


@pytest.fixture(scope="session")
def cache_dir() -> Path:
    """The user's cache of weights and footage, as the commands fill it (`SECTORWATCH_CACHE_DIR` moves it)."""
    return user_cache_dir()


@pytest.fixture(scope="session")
def footage(cache_dir: Path) -> Path:
    """vtest.avi (PETS 2009 S2.L1): 795 frames of 768x576, 10 a second."""
    chosen = os.environ.get("SECTORWATCH_FOOTAGE")
    path = Path(chosen) if chosen else cache_dir / "footage" / "vtest.avi"
    if not path.is_file():
        pytest.fail(
            f"no footage at {path}: run deploy/test, which fetches it, "
            "or name OpenCV's vtest.avi in SECTORWATCH_FOOTAGE"
        )
    return path


@pytest.fixture(scope="session")
def weights(cache_dir: Path) -> Path:
    """Darknet's weights of yolov3-tiny."""
    path = locate(card_named("yolov3-tiny"), cache_dir)
    if path is None:
        pytest.fail("no weights of yolov3-tiny: run `sectorwatch models pull`")
    return path


@pytest.fixture(scope="session")
def footage_frames(footage: Path) -> list[bytes]:
    """Twenty frames spread over the footage, as JPEGs of the quality an agent sends."""
    return sampled_jpegs(footage)
