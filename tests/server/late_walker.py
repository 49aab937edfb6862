"""A server process in small that folds in late bursts; may be told when to die.

`python -m tests.server.late_walker DATABASE_URL FOLDER [WRITES]` sends a walk of which two bursts come last, and folds
them in beside turns, in small slices. With WRITES it kills itself, with SIGKILL, right before that write of the refold.
"""

from __future__ import annotations

import sys
from pathlib import Path

from server.delivery.dispatcher import Dispatcher
from server.delivery.log_channel import LogChannel
from server.domain.burst import Burst
from server.pipeline import advancing
from server.store import open_store
from server.store.refolding import refold
from tests.server.scenes import START_US, Yard, across
from tests.server.walker import die_at
from tests.stand_ins import ManualClock


def in_their_order(bursts: list[Burst]) -> list[Burst]:
    """The order in which they come: the fourth and the seventh last."""
    return [*bursts[:3], *bursts[4:6], *bursts[7:], bursts[6], bursts[3]]


def main(url: str, folder: Path, write: int | None) -> None:
    advancing._MOST_WORK, refold._SLICE = 0, 5
    clock = ManualClock(START_US + 3_600_000_000)
    store = open_store(url, clock)
    yard = Yard(folder / "sites", store, clock)
    for one in in_their_order(yard.walked(across, 26)):
        yard.pipeline.process(one)
    if write is not None:
        die_at(store, write)
    store.refolds.run()
    with (folder / "events.log").open("a", encoding="utf-8") as stream:
        Dispatcher(store, [LogChannel("json", stream)]).drain_once()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else None)
