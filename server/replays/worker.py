"""The child process that folds: it takes one job after another through a pipe, and ends when the pipe does.

The other end holds the pipe for as long as it lives, so that no child outlives its server. A message that comes while a
job is in work ends that job.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, suppress
from functools import partial
from multiprocessing.connection import Connection

from policies.site.site_policy import InvalidPolicy, SitePolicy, parse_site_policy
from server.analysis.refold_many import FoldResult, ManyFolds, exact_start
from server.domain.errors import SectorwatchError
from server.domain.records import Recorded
from server.replays.job import Job, Replayed, Span, State
from server.replays.paths import Paths
from server.store import Store, open_store

SHOWN_EVERY_S = 0.25
_LOOK_EVERY = 200
"""Frames between two looks at the clock and the pipe: some milliseconds."""

_NICE = 19


class _Ended(Exception):
    """The job is not to go on: its time is over, or it is not asked for any more."""

    def __init__(self, *, is_cut: bool) -> None:
        super().__init__()
        self.is_cut = is_cut


def work(url: str, pipe: Connection) -> None:
    """Fold what comes through the pipe until it ends. Everything else on the machine goes first."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C is for the server, which then ends the pipe
    with suppress(OSError, AttributeError):
        os.nice(_NICE)
    with suppress(EOFError, OSError):
        while True:
            job = pipe.recv()
            if job is not None:
                _answer(url, pipe, job)


def _answer(url: str, pipe: Connection, job: Job) -> None:
    run = _Run(job, pipe.poll, lambda replayed: pipe.send(replayed))
    try:
        policies = [parse_site_policy(text) for text in job.texts]
        with closing(open_store(url)) as store:
            pipe.send(run.replay(store, policies))
    except InvalidPolicy as error:
        pipe.send(Replayed(job, "failed", why=f"the policy cannot be used: {error}"))
    except SectorwatchError as error:
        pipe.send(Replayed(job, "failed", why=error.detail))


class _Run:
    """One job in work."""

    def __init__(self, job: Job, is_ended: Callable[[], bool], show: Callable[[Replayed], None]) -> None:
        self._job = job
        self._is_ended = is_ended
        self._show = show
        self._begun_s = self._shown_s = time.monotonic()
        self._done: list[Span] = []
        self._paths = Paths(job.paths)

    def replay(self, store: Store, policies: list[SitePolicy]) -> Replayed:
        """All cameras, one after another; what is there when the time is over, and when the job is ended."""
        for camera in self._job.cameras:
            history = partial(store.history, self._job.site, camera)
            folds = ManyFolds(camera, policies, self._job.since_us)
            self._paths = Paths(self._job.paths)
            try:
                self._fold(history, folds, camera, policies)
            except _Ended as ended:
                why = (
                    f"{self._job.limit_s:g} seconds were not enough for all of it: choose less" if ended.is_cut else ""
                )
                return self._replayed("cut", [*self._done, self._span(camera, folds.result())], why)
            self._done.append(self._span(camera, folds.result(), is_complete=True))
        return self._replayed("done", self._done)

    def _fold(
        self,
        history: Callable[..., Iterable[Recorded]],
        folds: ManyFolds,
        camera: str,
        policies: list[SitePolicy],
    ) -> None:
        since_us = self._job.since_us

        def before(from_us: int) -> Iterator[Recorded]:
            return self._watched(history(from_us, since_us), lambda: None)

        def show() -> None:
            self._show(self._replayed("working", [*self._done, self._span(camera, folds.result())]))

        start_us = exact_start(before, camera, policies, since_us)
        for recorded in self._watched(history(start_us, self._job.until_us), show):
            folds.add(recorded.observation)
            if self._job.paths and recorded.observation.at_us >= since_us:
                self._paths.add(folds.tracks)

    def _watched(self, frames: Iterable[Recorded], show: Callable[[], None]) -> Iterator[Recorded]:
        """The frames, with a look at the clock and the pipe now and then. Raises _Ended."""
        for number, recorded in enumerate(frames):
            if number % _LOOK_EVERY == 0:
                now_s = time.monotonic()
                if self._is_ended():
                    raise _Ended(is_cut=False)
                if now_s - self._begun_s > self._job.limit_s:
                    raise _Ended(is_cut=True)
                if now_s - self._shown_s > SHOWN_EVERY_S:
                    self._shown_s = now_s
                    show()
            yield recorded

    def _span(self, camera: str, result: FoldResult, *, is_complete: bool = False) -> Span:
        job = self._job
        until_us = job.until_us if is_complete else max(job.since_us, result.last_us + 1)
        first_us, last_us = (result.first_us, result.last_us) if result.frames else (0, 0)
        counts = (result.frames, result.observed_us, result.events)
        return Span(camera, until_us, *counts, is_complete, self._paths.found(), first_us, last_us)

    def _replayed(self, state: State, spans: list[Span], why: str = "") -> Replayed:
        return Replayed(self._job, state, tuple(spans), round(time.monotonic() - self._begun_s, 3), why)
