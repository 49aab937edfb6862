"""A swap: the request, one at a time, and the comparison with the ensemble in service on live frames before it.

The candidate answers a sample of the requests, one at a time and on idle workers only, so no request waits for it.
Requests that come during a comparison are skipped.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import NamedTuple

import msgspec

from policies.observation import Box, EnsembleInfo
from server.domain.ensemble_protocol import Answers, Ensemble
from server.domain.errors import ConfigurationError, Conflict, RetryLater
from server.pipeline.response import top_label
from server.serving.answering import Handle

log = logging.getLogger(__name__)


class Changed(msgspec.Struct, frozen=True):
    """The number of frames whose label by a model changed from `was` to `now`."""

    model: str
    was: str
    now: str
    frames: int


class Comparison(msgspec.Struct, frozen=True):
    """The label changes in `frames` frames of `requests` requests, most frequent first.

    Labels are those of FlexServe's endpoints: empty for a model that failed.
    """

    requests: int
    frames: int
    changed: tuple[Changed, ...]


class _Sample(NamedTuple):
    images: Sequence[bytes]
    crops: Mapping[str, Box] | None
    enlarged: Sequence[Box]
    answers: Sequence[Answers]


class Shadow:
    """Compares for at most `seconds`, and at most `frames` frames (0: no limit)."""

    def __init__(self, candidate: Handle, *, seconds: float, frames: int = 0) -> None:
        self._candidate = candidate
        self._until = time.monotonic() + seconds
        self._frames = frames
        self._next: queue.Queue[_Sample] = queue.Queue(maxsize=1)
        self._compared = Counter[str]()
        self._changed = Counter[tuple[str, str, str]]()

    def offer(
        self,
        images: Sequence[bytes],
        crops: Mapping[str, Box],
        answers: Sequence[Answers],
        enlarged: Sequence[Box] = (),
    ) -> None:
        """Offer an answered live request for comparison. Returns at once."""
        with suppress(queue.Full):
            self._next.put_nowait(_Sample(images, crops, enlarged, answers))

    def run(self) -> Comparison:
        """Compare until time or frames are used up. Raises what the candidate raises, except RetryLater."""
        while not self._frames or self._compared["frames"] < self._frames:
            try:
                sample = self._next.get(timeout=max(0.0, self._left_s()))
                answers = self._candidate.answer_spare(
                    sample.images, sample.crops, sample.enlarged, within_s=max(0.001, self._left_s())
                )
            except (queue.Empty, RetryLater):
                if self._left_s() <= 0:
                    break
            else:
                self._compare(sample.answers, answers)
        changed = (Changed(*pair, frames) for pair, frames in self._changed.most_common())
        return Comparison(self._compared["requests"], self._compared["frames"], tuple(changed))

    def _compare(self, was: Sequence[Answers], now: Sequence[Answers]) -> None:
        self._compared["requests"] += 1
        self._compared["frames"] += len(was)
        for model_info in self._candidate.ensemble_info.models:
            for before, after in zip(was, now, strict=True):
                if model_info.model in before:  # a new model has no label before
                    labels = top_label(before[model_info.model]), top_label(after.get(model_info.model))
                    self._changed[model_info.model, *labels] += labels[0] != labels[1]
        self._changed += Counter()  # drops the pairs that did not differ

    def _left_s(self) -> float:
        return self._until - time.monotonic()


class Watched:
    """The ensemble in service, with or without a shadow."""

    def __init__(self, ensemble: Ensemble) -> None:
        self._ensemble = ensemble
        self.shadow: Shadow | None = None

    @property
    def ensemble_info(self) -> EnsembleInfo:
        return self._ensemble.ensemble_info

    def only(self, model: str | None, within_s: float | None = None) -> Ensemble:
        """As the ensemble's own, without the shadow."""
        return self._ensemble.only(model, within_s)

    def answer(
        self, images: Sequence[bytes], crops: Mapping[str, Box] | None = None, enlarged: Sequence[Box] = ()
    ) -> Sequence[Answers]:
        """As the ensemble's own."""
        answers = self._ensemble.answer(images, crops or {}, enlarged)
        if (shadow := self.shadow) is not None:  # the swap's thread may take it away at any time
            shadow.offer(images, crops or {}, answers, enlarged)
        return answers


class Swap(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A request of `author` to serve `models`, after `shadow_s` seconds (or `shadow_frames` frames) in the shadow."""

    models: tuple[str, ...]
    shadow_s: float = 0.0
    shadow_frames: int = 0
    author: str = ""


class Rollback(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A request of `author` to serve the ensemble before the last swap."""

    author: str = ""


class OneSwap:
    """Lets one swap run at a time. `counted` is called with `done` or `refused` after each."""

    def __init__(self, counted: Callable[[str], None]) -> None:
        self._lock = threading.Lock()
        self._counted = counted

    @contextmanager
    def running(self) -> Iterator[None]:
        """Raises Conflict while another swap runs. A ConfigurationError inside becomes a Conflict, and is logged."""
        if not self._lock.acquire(blocking=False):
            raise Conflict("not swapped: another swap is under way")
        try:
            yield
        except (ConfigurationError, Conflict) as error:
            self._counted("refused")
            log.warning("ensemble not swapped", extra={"detail": error.detail})
            if isinstance(error, Conflict):
                raise
            raise Conflict(f"not swapped: {error.detail}") from error
        else:
            self._counted("done")
        finally:
            self._lock.release()


def run_shadow(watched: Watched, handle: Handle, swap: Swap) -> Comparison:
    """Compare the next ensemble's labels on live requests. Raises ConfigurationError when it fails on one."""
    watched.shadow = shadow = Shadow(handle, seconds=swap.shadow_s, frames=swap.shadow_frames)
    log.info("ensemble in the shadow", extra={"ensemble": handle.ensemble_info.ensemble, "seconds": swap.shadow_s})
    try:
        compared = shadow.run()
    except Exception as error:
        raise ConfigurationError(
            f"the next ensemble failed on a live request: {type(error).__name__}: {error}"
        ) from error
    finally:
        watched.shadow = None
    for changed in compared.changed:
        log.info("label differs", extra=msgspec.structs.asdict(changed))
    return compared
