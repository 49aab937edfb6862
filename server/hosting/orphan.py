"""A worker whose master was killed: it gives its ports up at once, so that the next server can start.

Gunicorn's workers look for their master about once a second, and then keep the port until the last request is
answered, which may take a minute. Here the master holds one end of a pipe. The system closes it whatever the master
dies of, and a thread of the worker waits for that and for nothing else.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable

log = logging.getLogger(__name__)


class Lifeline:
    """A pipe from the master to its workers: made in the master, before it forks."""

    def __init__(self) -> None:
        self._worker_end, self._master_end = os.pipe()

    def watch(self, on_orphaned: Callable[[], None]) -> None:
        """Call `on_orphaned`, in a thread, once the master is dead. For the worker, after the fork."""
        os.close(self._master_end)
        threading.Thread(target=self._wait, args=(on_orphaned,), name="sectorwatch-lifeline", daemon=True).start()

    def _wait(self, on_orphaned: Callable[[], None]) -> None:
        os.read(self._worker_end, 1)  # nobody writes: it ends with the master
        log.warning("master gone: this worker gives up its ports, answers what it has accepted, and ends")
        on_orphaned()
