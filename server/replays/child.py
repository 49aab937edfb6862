"""A child process that replays, started when there is work for it."""

from __future__ import annotations

from contextlib import suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess

from server.replays.worker import work

GRACE_S = 5.0
"""So long a process may take to end."""


class Child:
    """A process on the database at a URL, and the pipe to it. One thread uses it."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._pipe: Connection | None = None
        self.process: BaseProcess | None = None

    def pipe(self) -> Connection:
        """The pipe to the process, which is started where there is none alive."""
        if self._pipe is not None and self.process is not None and self.process.is_alive():
            return self._pipe
        self.end()
        # Spawned, not forked: a fork would share this process's database connections and models.
        context = get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=work, args=(self._url, theirs), name="sectorwatch-replay", daemon=True)
        process.start()
        theirs.close()
        self._pipe, self.process = ours, process
        return ours

    def end(self) -> None:
        """End the process, if there is one."""
        pipe, process, self._pipe, self.process = self._pipe, self.process, None, None
        if pipe is not None:
            with suppress(OSError):
                pipe.close()
        if process is not None:
            process.kill()
            process.join(GRACE_S)
