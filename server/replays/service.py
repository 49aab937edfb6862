"""Replays beside serving, as many at once as there are processors for them, as long as somebody asks for them."""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Sequence
from multiprocessing.connection import Connection

from server.domain.errors import RetryLater
from server.replays.child import GRACE_S, Child
from server.replays.job import Job, Replayed

log = logging.getLogger(__name__)

FORGOTTEN_S = 10.0
"""A job that nobody has asked for in this time is given up."""
REMEMBERED_S = 300.0
REMEMBERED = 16
"""So many results are remembered at most, each so long: late bursts may change the past meanwhile."""
MOST_WAITING = 20
_IDLE_S = 300.0
"""A child waits so long for the next move of a control: its start takes longer than first figures may."""
_SILENT_S = 60.0
_TICK_S = 0.1
_ENDED = "the process that replays ended before it was done (is there too little memory?); the server's log says more"


class _Asked:
    """A job that is asked for: by whom, when for the last time, how far it is, and whether it is begun ahead."""

    def __init__(self, job: Job, owner: str, *, is_ahead: bool) -> None:
        self.job = job
        self.owner = owner
        self.is_ahead = is_ahead
        self.at_s = time.monotonic()
        self.is_dropped = False
        self.replayed = Replayed(job, "waiting")

    @property
    def is_wanted(self) -> bool:
        return not self.is_dropped and time.monotonic() - self.at_s < FORGOTTEN_S


class Replays:
    """Replays of the database at a URL. Constructing starts nothing; jobs start `at_once` threads and child processes
    at most.

    `ask` begins a job and shows how far it is: ask again until `Replayed.is_over`. The same job is not done twice while
    its result is remembered. A job of an owner (a user's page) takes the place of that owner's earlier one. A job that
    nobody has asked for in FORGOTTEN_S is given up. Safe to use from several threads.
    """

    def __init__(self, url: str, at_once: int = 1) -> None:
        self._url = url
        self._at_once = at_once
        self._changed = threading.Condition()
        self._waiting: list[_Asked] = []
        self._working: list[_Asked] = []
        self._over: OrderedDict[str, tuple[float, Replayed]] = OrderedDict()
        self._threads: list[threading.Thread] = []
        self._children: list[Child] = []
        self._is_closed = False

    def ask(self, job: Job, owner: str, wait_s: float = 0.8, ahead: Sequence[Job] = ()) -> Replayed:
        """The job as far as it is done, after at most `wait_s`; at once when it is over.

        The owner will ask for the jobs `ahead` next: they are begun where nobody waits for another one.
        Raises RetryLater while too many others wait, and once the server stops.
        """
        until_s = time.monotonic() + wait_s
        with self._changed:
            known = self._remembered(job)
            self._make_room(owner, {job.id, *(each.id for each in ahead)})
            asked = None if known is not None else self._begin(job, owner)
            for each in ahead:
                if self._remembered(each) is None and len(self._waiting) < MOST_WAITING:
                    self._begin(each, owner, is_ahead=True)
            if known is not None or asked is None:
                return known or Replayed(job, "waiting")
            while not asked.replayed.is_over and (left_s := until_s - time.monotonic()) > 0 and not asked.is_dropped:
                self._changed.wait(left_s)
            asked.at_s = time.monotonic()
            return asked.replayed

    def close(self) -> None:
        """Give up what is in work, and end the child process. Nothing can be asked afterwards."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join(GRACE_S)

    def _remembered(self, job: Job) -> Replayed | None:
        at_s, replayed = self._over.get(job.id, (0.0, None))
        return replayed if time.monotonic() - at_s < REMEMBERED_S else None

    def _make_room(self, owner: str, wanted: set[str]) -> None:
        """Drop the owner's jobs but those of these ids, and what nobody waits for."""
        for asked in (*self._waiting, *self._working):
            asked.is_dropped = asked.is_dropped or (asked.owner == owner and asked.job.id not in wanted)
        self._waiting = [asked for asked in self._waiting if asked.is_wanted]

    def _begin(self, job: Job, owner: str, *, is_ahead: bool = False) -> _Asked:
        """The job among those in work and waiting; it is put there where it is missing."""
        if self._is_closed:
            raise RetryLater("this server is stopping", retry_after_s=10)
        for asked in (*self._waiting, *self._working):
            if asked.job.id == job.id and not asked.is_dropped:
                asked.at_s = time.monotonic()
                asked.is_ahead = asked.is_ahead and is_ahead
                return asked
        if sum(not asked.is_ahead for asked in self._waiting) >= MOST_WAITING:
            raise RetryLater(f"{MOST_WAITING} other replays wait already; try again in a while", retry_after_s=10)
        asked = _Asked(job, owner, is_ahead=is_ahead)
        self._waiting.append(asked)
        if len(self._threads) < min(self._at_once, len(self._waiting) + len(self._working)):
            child = Child(self._url)
            self._children.append(child)
            thread = threading.Thread(target=self._run, args=(child,), name="sectorwatch-replays", daemon=True)
            self._threads.append(thread)
            thread.start()
        self._changed.notify_all()
        return asked

    def _run(self, child: Child) -> None:
        while (asked := self._next(child)) is not None:
            try:
                self._replay(child, asked)
            except (EOFError, OSError) as error:
                log.error("replay not done", extra={"site": asked.job.site, "cause": str(error) or "its process ended"})
                child.end()
                self._show(asked, Replayed(asked.job, "failed", why=_ENDED))
            finally:
                with self._changed:
                    self._working.remove(asked)
        child.end()

    def _next(self, child: Child) -> _Asked | None:
        """The next job that somebody waits for, those begun ahead last; None once this is closed."""
        with self._changed:
            idle_since_s = time.monotonic()
            while not self._is_closed:
                self._waiting = [asked for asked in self._waiting if asked.is_wanted]
                if self._waiting:
                    asked = min(self._waiting, key=lambda each: each.is_ahead)
                    self._waiting.remove(asked)
                    self._working.append(asked)
                    return asked
                self._changed.wait(_IDLE_S)
                if time.monotonic() - idle_since_s >= _IDLE_S:
                    child.end()
        return None

    def _replay(self, child: Child, asked: _Asked) -> None:
        """Have a child do a job, and keep what it sends, until it is over or not wanted any more."""
        pipe = child.pipe()
        pipe.send(asked.job)
        begun_s = time.monotonic()
        while not self._is_closed:
            if pipe.poll(_TICK_S):
                replayed: Replayed = pipe.recv()
                self._show(asked, replayed)
                if replayed.is_over:
                    return
            elif not asked.is_wanted:
                self._give_up(child, pipe)
                return
            elif time.monotonic() - begun_s > asked.job.limit_s + GRACE_S + _SILENT_S:
                raise OSError(f"it did not answer for {asked.job.limit_s:g} s")

    def _give_up(self, child: Child, pipe: Connection) -> None:
        """Have the child end its job; one that does not within some seconds is ended itself."""
        pipe.send(None)
        until_s = time.monotonic() + GRACE_S
        while pipe.poll(max(0.0, until_s - time.monotonic())):
            if pipe.recv().is_over:
                return
        child.end()

    def _show(self, asked: _Asked, replayed: Replayed) -> None:
        with self._changed:
            asked.replayed = replayed
            if replayed.state in ("done", "cut"):
                self._over[asked.job.id] = time.monotonic(), replayed
                while len(self._over) > REMEMBERED:
                    self._over.popitem(last=False)
            self._changed.notify_all()
