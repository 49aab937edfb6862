"""A server process in small: sends a whole walk through the pipeline and delivers it; may be told when to die.

`python -m tests.server.walker DATABASE_URL FOLDER [WRITES]` prints each burst's id once it is committed. With
WRITES it kills itself, with SIGKILL, in the middle of its turn at that write statement (commits count too).
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

from sqlalchemy import event

from server.delivery.dispatcher import Dispatcher
from server.delivery.log_channel import LogChannel
from server.store import Store, open_store
from tests.server.scenes import START_US, Yard, across
from tests.stand_ins import ManualClock

_WRITES = ("INSERT", "UPDATE", "DELETE")


def die_at(store: Store, write: int) -> None:
    """Kill this process right before the n-th write statement from now, counted from 1."""
    left = write

    def count(*given: Any) -> None:
        nonlocal left
        is_commit = len(given) == 1
        if is_commit or str(given[2]).startswith(_WRITES):
            left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    event.listen(store._engine, "before_cursor_execute", count)
    event.listen(store._engine, "commit", count)


def main(url: str, folder: Path, write: int | None) -> None:
    clock = ManualClock(START_US + 3_600_000_000)
    store = open_store(url, clock)
    yard = Yard(folder / "sites", store, clock)
    if write is not None:
        die_at(store, write)
    with (folder / "events.log").open("a", encoding="utf-8") as stream:
        dispatcher = Dispatcher(store, [LogChannel("json", stream)])
        for one in yard.walked(across, 26):
            yard.pipeline.process(one)
            print(one.burst_id, flush=True)  # noqa: T201  the parent reads it
            dispatcher.drain_once()
            clock.advance(60)  # a lease that a dead process held has ended
        dispatcher.drain_once()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else None)
