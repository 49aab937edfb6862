"""Many cameras at once in a pool of processes, with the results in the order of the tasks, as one process gives them.

The processes are spawned, not forked: a fork would share database connections. Each holds one end of a pipe whose other
end this process has. It ends with that pipe, so no process goes on after Ctrl-C, after an error, or after its parent
was killed.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from functools import partial
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.sharedctypes import Synchronized
from typing import TypeVar

from server.domain.errors import SectorwatchError

In = TypeVar("In")
Out = TypeVar("Out")
T = TypeVar("T")

AHEAD = 2
"""So many tasks of each process are begun before the first result is taken: later results wait in memory."""
SHOWN_AFTER_S, SHOWN_EVERY_S = 5.0, 15.0
COUNT_EVERY = 500
"""Frames that a process folds between two notes of its progress."""

_KILLED = (
    "a process that folds the past was ended from outside, perhaps because memory ran out; nothing was changed: "
    "run the command again with fewer --processes"
)

_count: Callable[[int], object] = int
"""Takes how many more frames this process has folded. Set while there is a command that shows it."""


class _Progress:
    """Says now and then how far the work is, once it takes long."""

    def __init__(self, tasks: int, show: Callable[[str], None]) -> None:
        self._tasks = tasks
        self._show = show
        self._begun_s = time.monotonic()
        self._due_s = self._begun_s + SHOWN_AFTER_S
        self.done = self.frames = 0

    def tell(self) -> None:
        """Say it if it is due."""
        now_s = time.monotonic()
        if now_s < self._due_s:
            return
        self._due_s = now_s + SHOWN_EVERY_S
        rate = self.frames / (now_s - self._begun_s)
        self._show(f"{self.done} of {self._tasks} parts done; {self.frames:,} frames folded, {rate:,.0f} a second ...")

    def add(self, frames: int) -> None:
        """So many more frames are folded."""
        self.frames += frames
        self.tell()


def counted(frames: Iterable[T]) -> Iterator[T]:
    """The frames. They count for the progress of the command that folds them."""
    count = 0
    for frame in frames:
        yield frame
        count += 1
        if count == COUNT_EVERY:
            _count(count)
            count = 0


def in_order(
    work: Callable[[In], Out], tasks: Sequence[In], processes: int, show: Callable[[str], None]
) -> Iterator[Out]:
    """`work` of each task, in order, in at most `processes` processes at once; in this one where one is enough.

    `show` takes lines about the progress. Raises what `work` does, and SectorwatchError where a process was killed.
    """
    at_once = min(len(tasks), processes)
    progress = _Progress(len(tasks), show)
    if at_once < 2:
        yield from _here(work, tasks, progress)
        return
    context = get_context("spawn")
    tally = context.Value("Q", 0)
    theirs, ours = context.Pipe(duplex=False)
    pool = ProcessPoolExecutor(at_once, mp_context=context, initializer=_begin, initargs=(theirs, tally))
    try:
        begun: deque[Future[Out]] = deque()
        waiting = deque(tasks)
        while waiting or begun:
            while waiting and len(begun) < AHEAD * at_once:
                begun.append(pool.submit(work, waiting.popleft()))
            while not wait(list(begun)[:1], timeout=1.0).done:
                progress.frames = tally.value
                progress.tell()
            yield begun.popleft().result()
            progress.done += 1
    except BrokenProcessPool:
        raise SectorwatchError(_KILLED) from None
    finally:
        ours.close()  # ends whatever is still at work
        pool.shutdown(cancel_futures=True)
        theirs.close()


def _here(work: Callable[[In], Out], tasks: Sequence[In], progress: _Progress) -> Iterator[Out]:
    global _count
    for task in tasks:
        before, _count = _count, progress.add
        try:
            result = work(task)
        finally:
            _count = before
        yield result
        progress.done += 1


def _begin(life: Connection, tally: Synchronized[int]) -> None:
    """The start of a process of the pool. Ctrl-C is for the command, which then ends the pipe."""
    global _count
    _count = partial(_add, tally)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(life,), daemon=True).start()


def _add(tally: Synchronized[int], frames: int) -> None:
    with tally.get_lock():
        tally.value += frames


def _end_with(life: Connection) -> None:
    with suppress(EOFError, OSError):
        life.recv_bytes()
    os._exit(1)
