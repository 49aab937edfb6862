"""One ensemble in the engine, as the rest of the server holds it: who answers, and the answers, from one hand."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any

from policies.observation import Box, EnsembleInfo
from server.domain.errors import RetryLater
from server.engine.batcher import MicroBatcher
from server.engine.job import Job
from server.engine.stages import Answer, Stages

Early = Callable[[Sequence[Answer]], None]


class EnsembleHandle:
    """An ensemble, and its place in the line; made by `Engine.generation`.

    Whoever holds one gets this ensemble's answers, whatever else is put into service meanwhile: a request takes it
    once, and so its condition (`If-Match`), its labels and the name under which they go can only be of one ensemble.
    """

    def __init__(self, stages: Stages, batcher: MicroBatcher, *, within_s: float, at_once: threading.Semaphore) -> None:
        self._stages = stages
        self._asking = _Prepared(stages) if stages.on_accelerator else stages
        self._batcher = batcher
        self._within_s = within_s
        self._at_once = at_once

    @property
    def ensemble_info(self) -> EnsembleInfo:
        return self._stages.ensemble_info

    def only(self, model: str | None, within_s: float | None = None) -> EnsembleHandle:
        """One model of it (None: all), for whoever asks for no more, or cannot wait as long as others do (s)."""
        view = copy.copy(self)
        if model is not None:
            view._stages = self._stages.only(model)
            view._asking = _Prepared(view._stages) if view._stages.on_accelerator else view._stages
        if within_s is not None:
            view._within_s = min(within_s, self._within_s)
        return view

    def answer(
        self, images: Sequence[bytes], crops: Mapping[str, Box] | None = None, early: Early | None = None
    ) -> list[Answer]:
        """What each model says about each image, in order; the images of one call are in the order of time.

        `crops` are bounding rectangles of sectors, which classifiers judge as well. A model that did not answer has
        None. `early` is called meanwhile, in this thread, with the answers to the first images whenever there are more
        of them, without those of models that look at all images together. Raises Unprocessable or TooLarge, with the
        index of the frame, for an image that cannot be judged; RetryLater when there is no room, or no answer in time.
        """
        if self._stages.on_accelerator:
            self._batcher.refuse_if_full(self._within_s)
        listening: SimpleQueue[list[Any] | None] | None = None if early is None else SimpleQueue()
        job = self._batcher.submit(self._payloads(images, crops), self._within_s, self._asking, listening)
        if early is not None and listening is not None:
            self._listen(listening, early, job)
        return self._postprocessed(self._awaited(job))

    def _listen(self, listening: SimpleQueue[list[Any] | None], early: Early, job: Job) -> None:
        """Pass on what is known of the first images, until the job is over or its time is."""
        known = 0
        with suppress(Empty):
            while (first := listening.get(timeout=self._batcher.left_s(job))) is not None:
                if len(first) > known:
                    known = len(first)
                    early(self._stages.so_far(first))

    def answer_spare(
        self, images: Sequence[bytes], crops: Mapping[str, Box] | None = None, *, within_s: float
    ) -> list[Answer]:
        """As `answer`, on what capacity the requests leave. Raises RetryLater when they leave too little for
        `within_s`.
        """
        job = self._batcher.submit_spare(self._payloads(images, crops), within_s, self._asking)
        return self._postprocessed(self._awaited(job))

    def _payloads(self, images: Sequence[bytes], crops: Mapping[str, Box] | None) -> list[Any]:
        payloads = [(image, index, crops or {}) for index, image in enumerate(images)]
        if not self._stages.on_accelerator:
            return payloads
        with self._at_once:
            return [self._stages.prepare(payload) for payload in payloads]

    def _postprocessed(self, answers: list[Any]) -> list[Answer]:
        return (
            answers if self._stages.needs_postprocessing else list(self._stages.postprocess(answers, 0, len(answers)))
        )

    def _awaited(self, job: Job) -> list[Any]:
        try:
            return job.answer.result(self._batcher.left_s(job))
        except TimeoutError:
            if job.answer.cancel():
                retry_after_s = self._batcher.load().retry_after_s
                raise RetryLater("not judged in time: the server is overloaded", retry_after_s=retry_after_s) from None
            return job.answer.result(0)  # it came at the last moment


class _Prepared:
    """The stages of a worker whose rows were prepared before they got into the line."""

    def __init__(self, stages: Stages) -> None:
        self.batch_images = stages.batch_images
        self.needs_postprocessing = stages.needs_postprocessing
        self.infer = stages.infer
        self.postprocess = stages.postprocess
        self.so_far = stages.so_far

    def prepare(self, payload: Any) -> Any:
        return payload
