"""One replay at a time beside serving, as long as somebody asks for it."""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from contextlib import suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import NamedTuple

from server.domain.errors import RetryLater
from server.replays.job import Job, Replayed
from server.replays.worker import work

log = logging.getLogger(__name__)

FORGOTTEN_S = 10.0
"""A job that nobody has asked for in this time is given up."""
REMEMBERED_S = 300.0
REMEMBERED = 16
"""So many results are remembered at most, each so long: late bursts may change the past meanwhile."""
MOST_WAITING = 20
_IDLE_S = 60.0
_TICK_S = 0.1
_GRACE_S = 5.0
_ENDED = "the process that replays ended before it was done (is there too little memory?); the server's log says more"


class _Child(NamedTuple):
    process: BaseProcess
    pipe: Connection


class _Asked:
    """A job that is asked for: by whom, when for the last time, and how far it is."""

    def __init__(self, job: Job, owner: str) -> None:
        self.job = job
        self.owner = owner
        self.at_s = time.monotonic()
        self.is_dropped = False
        self.replayed = Replayed(job, "waiting")

    @property
    def is_wanted(self) -> bool:
        return not self.is_dropped and time.monotonic() - self.at_s < FORGOTTEN_S


class Replays:
    """Replays of the database at a URL. Constructing starts nothing; the first job starts a thread and a child process.

    `ask` begins a job and shows how far it is: ask again until `Replayed.is_over`. The same job is not done twice while
    its result is remembered. A job of an owner (a user's page) takes the place of that owner's earlier one. A job that
    nobody has asked for in FORGOTTEN_S is given up. Safe to use from several threads.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._changed = threading.Condition()
        self._waiting: list[_Asked] = []
        self._working: _Asked | None = None
        self._over: OrderedDict[str, tuple[float, Replayed]] = OrderedDict()
        self._thread: threading.Thread | None = None
        self._child: _Child | None = None
        self._is_closed = False

    def ask(self, job: Job, owner: str, wait_s: float = 0.8) -> Replayed:
        """The job as far as it is done, after at most `wait_s`; at once when it is over.

        Raises RetryLater while too many others wait, and once the server stops.
        """
        until_s = time.monotonic() + wait_s
        with self._changed:
            if (known := self._remembered(job)) is not None:
                return known
            asked = self._begin(job, owner)
            while not asked.replayed.is_over and (left_s := until_s - time.monotonic()) > 0 and not asked.is_dropped:
                self._changed.wait(left_s)
            asked.at_s = time.monotonic()
            return asked.replayed

    def close(self) -> None:
        """Give up what is in work, and end the child process. Nothing can be asked afterwards."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join(_GRACE_S)

    def _remembered(self, job: Job) -> Replayed | None:
        at_s, replayed = self._over.get(job.id, (0.0, None))
        return replayed if time.monotonic() - at_s < REMEMBERED_S else None

    def _begin(self, job: Job, owner: str) -> _Asked:
        """The job among those in work and waiting; it is put there where it is missing."""
        if self._is_closed:
            raise RetryLater("this server is stopping", retry_after_s=10)
        in_hand = [*self._waiting, *([self._working] if self._working else [])]
        for asked in in_hand:
            asked.is_dropped = asked.is_dropped or (asked.owner == owner and asked.job.id != job.id)
        self._waiting = [asked for asked in self._waiting if asked.is_wanted]
        for asked in in_hand:
            if asked.job.id == job.id and not asked.is_dropped:
                asked.at_s = time.monotonic()
                return asked
        if len(self._waiting) >= MOST_WAITING:
            raise RetryLater(f"{MOST_WAITING} other replays wait already; try again in a while", retry_after_s=10)
        asked = _Asked(job, owner)
        self._waiting.append(asked)
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="sectorwatch-replays", daemon=True)
            self._thread.start()
        self._changed.notify_all()
        return asked

    def _run(self) -> None:
        while (asked := self._next()) is not None:
            try:
                self._replay(asked)
            except (EOFError, OSError) as error:
                log.error("replay not done", extra={"site": asked.job.site, "cause": str(error) or "its process ended"})
                self._end_child()
                self._show(asked, Replayed(asked.job, "failed", why=_ENDED))
        self._end_child()

    def _next(self) -> _Asked | None:
        """The next job that somebody waits for; None once this is closed."""
        with self._changed:
            self._working = None
            while not self._is_closed:
                while self._waiting:
                    asked = self._waiting.pop(0)
                    if asked.is_wanted:
                        self._working = asked
                        return asked
                if not self._changed.wait(_IDLE_S):
                    self._end_child()
        return None

    def _replay(self, asked: _Asked) -> None:
        """Have the child do a job, and keep what it sends, until it is over or not wanted any more."""
        pipe = self._started().pipe
        pipe.send(asked.job)
        begun_s = time.monotonic()
        while not self._is_closed:
            if pipe.poll(_TICK_S):
                replayed: Replayed = pipe.recv()
                self._show(asked, replayed)
                if replayed.is_over:
                    return
            elif not asked.is_wanted:
                self._give_up(pipe)
                return
            elif time.monotonic() - begun_s > asked.job.limit_s + _GRACE_S + _IDLE_S:
                raise OSError(f"it did not answer for {asked.job.limit_s:g} s")

    def _give_up(self, pipe: Connection) -> None:
        """Have the child end its job; one that does not within some seconds is ended itself."""
        pipe.send(None)
        until_s = time.monotonic() + _GRACE_S
        while pipe.poll(max(0.0, until_s - time.monotonic())):
            if pipe.recv().is_over:
                return
        self._end_child()

    def _show(self, asked: _Asked, replayed: Replayed) -> None:
        with self._changed:
            asked.replayed = replayed
            if replayed.state in ("done", "cut"):
                self._over[asked.job.id] = time.monotonic(), replayed
                while len(self._over) > REMEMBERED:
                    self._over.popitem(last=False)
            self._changed.notify_all()

    def _started(self) -> _Child:
        """The child, alive."""
        if self._child is not None and self._child.process.is_alive():
            return self._child
        self._end_child()
        # Spawned, not forked: a fork would share this process's database connections and models.
        context = get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=work, args=(self._url, theirs), name="sectorwatch-replay", daemon=True)
        process.start()
        theirs.close()
        self._child = _Child(process, ours)
        return self._child

    def _end_child(self) -> None:
        child, self._child = self._child, None
        if child is None:
            return
        with suppress(OSError):
            child.pipe.close()
        child.process.kill()
        child.process.join(_GRACE_S)
