"""One ensemble in the engine, as the rest of the server uses it."""

from __future__ import annotations

import copy
import threading
from collections.abc import Mapping, Sequence
from typing import Any

from policies.observation import Box, EnsembleInfo
from server.domain.errors import RetryLater, TooLarge
from server.domain.on_behalf import present_client
from server.engine.batcher import MicroBatcher
from server.engine.job import Job
from server.engine.stages import Answer, Stages


class EnsembleHandle:
    """An ensemble with its access to the engine's queue; made by `Engine.handle`.

    A handle always answers with the same ensemble, also after a swap. A request takes one handle, so its condition
    (`If-Match`), its labels and the ensemble's digest agree.
    """

    def __init__(self, stages: Stages, batcher: MicroBatcher, *, within_s: float, at_once: threading.Semaphore) -> None:
        self._stages = stages
        self._batcher = batcher
        self._within_s = within_s
        self._at_once = at_once

    @property
    def ensemble_info(self) -> EnsembleInfo:
        return self._stages.ensemble_info

    def only(self, model: str | None, within_s: float | None = None) -> EnsembleHandle:
        """A handle of one model (None: all), with at most `within_s` for an answer."""
        view = copy.copy(self)
        if model is not None:
            view._stages = self._stages.only(model)
        if within_s is not None:
            view._within_s = min(within_s, self._within_s)
        return view

    def answer(
        self, images: Sequence[bytes], crops: Mapping[str, Box] | None = None, enlarged: Sequence[Box] = ()
    ) -> list[Answer]:
        """Each model's predictions for each image, in order. The images of one call are in order of time.

        `crops` are bounding rectangles of sectors, which classifiers judge as well. `enlarged` are parts that detectors
        see as well: an image counts as one more with each. A model that failed has None.
        Raises Unprocessable or TooLarge, with the index of the frame, for an image that cannot be judged. Raises
        RetryLater when the queue is full or the answer is not there in time, and TooMuchWork for more images than can
        ever be judged in time.
        """
        client = present_client()
        if self._stages.on_accelerator:
            self._batcher.refuse_if_full(client, self._within_s)
        payloads = self._payloads(images, crops, enlarged)
        each = 1 + len(enlarged)
        try:
            job = self._batcher.submit(payloads, self._within_s, self._stages, client=client, images_each=each)
        except (RetryLater, TooLarge) as error:
            error.begun = self._stages.on_accelerator  # the images are prepared
            raise
        return self._final(self._result(job))

    def answer_spare(
        self,
        images: Sequence[bytes],
        crops: Mapping[str, Box] | None = None,
        enlarged: Sequence[Box] = (),
        *,
        within_s: float,
    ) -> list[Answer]:
        """As `answer`, on idle workers only. Raises RetryLater when they are too busy to answer in `within_s`."""
        payloads = self._payloads(images, crops, enlarged)
        job = self._batcher.submit(payloads, within_s, self._stages, spare=True, images_each=1 + len(enlarged))
        return self._final(self._result(job))

    def _payloads(self, images: Sequence[bytes], crops: Mapping[str, Box] | None, enlarged: Sequence[Box]) -> list[Any]:
        payloads = [(image, index, crops or {}, enlarged) for index, image in enumerate(images)]
        if not self._stages.on_accelerator:
            return payloads
        with self._at_once:
            return [self._stages.prepare(payload) for payload in payloads]

    def _final(self, outcomes: list[Any]) -> list[Answer]:
        if self._stages.needs_postprocessing:
            return outcomes  # the workers have postprocessed them
        return list(self._stages.postprocess(outcomes, 0, len(outcomes)))

    def _result(self, job: Job) -> list[Any]:
        try:
            return job.answer.result(self._batcher.left_s(job))
        except TimeoutError:
            late = self._batcher.late(job)
            if job.answer.cancel():
                raise late from None
            return job.answer.result(0)  # it came at the last moment
