"""The engine: one ensemble, the workers that ask it, and the line in front of them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from policies.observation import Box, Panel
from server.engine.batcher import Load, MicroBatcher
from server.engine.crew import Crew, Watchdog
from server.engine.job import Job
from server.engine.stages import Answer, Stages
from server.errors import Later

SILENCE_S = 120.0
"""A portion is a few images: one that runs for longer than this will not end."""

_STOP_WITHIN_S = 5.0


class Engine:
    """Answers as the ensemble would alone, for any number of requests at once. Constructing starts nothing.

    On a CPU there are `workers` workers, one per core, each on one torch thread: they decode too, so at most
    `workers` decoded images exist, and a burst's decoding is shared out like the rest. An accelerator has one
    worker, which only asks; the request threads then prepare, `workers` of them at a time.
    """

    def __init__(
        self,
        stages: Stages,
        *,
        workers: int,
        max_queued_images: int,
        answer_within_s: float,
        silence_s: float = SILENCE_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stages = stages
        self._within_s = answer_within_s
        self._at_once = threading.Semaphore(workers)
        crew_size = 1 if stages.on_accelerator else workers
        self._batcher = MicroBatcher(
            workers=crew_size,
            batch_images=stages.batch_images,
            max_queued_images=max_queued_images,
            concludes=stages.concludes,
            clock=clock,
        )
        asking = _Prepared(stages) if stages.on_accelerator else stages
        self._crew = Crew(self._batcher, asking, workers=crew_size, enter=stages.enter)
        self._watchdog: Watchdog | None = None
        self._silence_s = silence_s

    @property
    def panel(self) -> Panel:
        return self._stages.panel

    def start(self, on_stuck: Callable[[], None]) -> None:
        """Begin to answer. `on_stuck` is called, once and in a thread of its own, when a worker never comes back:
        all requests have then been answered with Later, and nothing but a new process helps."""

        def bark(busy_s: float) -> None:
            self._batcher.abandon(Later(f"the engine has been silent for {busy_s:.0f} s and is started anew"))
            on_stuck()

        self._watchdog = Watchdog(self._batcher, bark, silence_s=self._silence_s)
        self._watchdog.start()
        self._crew.start()

    def stop(self) -> None:
        """Take nothing more, finish what was taken, end the workers."""
        self._batcher.close()
        self._crew.join(_STOP_WITHIN_S)
        if self._watchdog is not None:
            self._watchdog.stop()

    def load(self) -> Load:
        return self._batcher.load()

    def refuse_if_full(self) -> None:
        """Raises Later when a request of one image would be refused now."""
        self._batcher.refuse_if_full(self._within_s)

    def answer(self, images: Sequence[bytes], crops: Mapping[str, Box] | None = None) -> list[Answer]:
        """What each model says about each image, in order; the images of one call are in the order of time.

        `crops` are bounding rectangles of sectors, which classifiers judge as well. A model that did not answer has
        None. Raises Unusable or TooLarge, with the index of the frame, for an image that cannot be judged; Later
        when there is no room, or no answer in time.
        """
        payloads: list[Any] = [(image, index, crops or {}) for index, image in enumerate(images)]
        if self._stages.on_accelerator:
            self.refuse_if_full()
            with self._at_once:
                payloads = [self._stages.prepare(payload) for payload in payloads]
        answers = self._awaited(self._batcher.submit(payloads, self._within_s))
        return answers if self._stages.concludes else list(self._stages.conclude(answers, 0, len(answers)))

    def _awaited(self, job: Job) -> list[Any]:
        try:
            return job.answer.result(self._within_s)
        except TimeoutError:
            if job.answer.cancel():
                retry_after_s = self._batcher.load().retry_after_s
                raise Later("not judged in time: the server is overloaded", retry_after_s=retry_after_s) from None
            return job.answer.result(0)  # it came at the last moment


class _Prepared:
    """The stages of a worker whose rows were prepared before they got into the line."""

    def __init__(self, stages: Stages) -> None:
        self.ask = stages.ask
        self.conclude = stages.conclude

    def prepare(self, payload: Any) -> Any:
        return payload
