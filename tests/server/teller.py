"""A server whose golden set fails once and passes again; it may be told when to die.

`python -m tests.server.teller FOLDER RUN [write|send NUMBER]` tells it on its log channel, the file `told.log`. It
kills itself, with SIGKILL, right before that write statement after its start (commits count too), or right before it
sends that notice.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path
from typing import TextIO

from server.delivery.log_channel import LogChannel
from server.domain.announcements import Outgoing
from tests.server.swaps import PATIENCE_S, Shelf, serving
from tests.server.walker import die_at
from tests.server.web_client import NOW_US

_LATER_US = 60_000_000
"""After a run that died: the lease it held has ended."""


class Told(LogChannel):
    """The log channel, which knows what it told last, and dies at the send that it is told to die at."""

    def __init__(self, stream: TextIO, dies_at: int) -> None:
        super().__init__("json", stream)
        self._left = dies_at
        self._last = 0
        self._sent = threading.Condition()

    def send(self, outgoing: Outgoing) -> None:
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        super().send(outgoing)
        with self._sent:
            self._last = outgoing.seq
            self._sent.notify_all()

    def wait_for(self, seq: int) -> None:
        with self._sent:
            assert self._sent.wait_for(lambda: self._last >= seq, PATIENCE_S)


def main(folder: Path, run: int, at: str, number: int) -> None:
    shelf = Shelf()
    with (folder / "told.log").open("a", encoding="utf-8") as stream:
        told = Told(stream, number if at == "send" else 0)
        with serving(folder, shelf, channels=[told], now_us=NOW_US + run * _LATER_US) as (_app, runtime):
            if at == "write":
                die_at(runtime.store, number)
            for drifted in ({"a+b#0"}, set[str]()):
                shelf.drifted = drifted
                runtime.service.recheck()
            told.wait_for(runtime.store.last_seq())


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), *(sys.argv[3], int(sys.argv[4])) if sys.argv[3:] else ("", 0))
