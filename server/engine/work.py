"""What a worker does with a batch: prepare and infer, or postprocess. One image's error fails its own request only."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from server.engine.job import Batch, Failure, Item
from server.engine.stages import Stages


def outcomes(batch: Batch) -> list[Any]:
    """One outcome per item, in order: an output, or a Failure. It raises nothing that the batch's stages raise."""
    stages = batch.stages
    if batch.postprocessing:
        return _postprocess(batch, stages)
    results = []
    for item in batch.items:
        began_s = time.perf_counter()
        results.append(_prepare(item, stages))
        batch.prepare_s.append(time.perf_counter() - began_s)
    ready = [place for place, row in enumerate(results) if not isinstance(row, Failure)]
    for place, outcome in zip(ready, _infer([results[place] for place in ready], stages), strict=True):
        results[place] = outcome
    return results


def _prepare(item: Item, stages: Stages) -> Any:
    if item.job.answer.done():
        return Failure(RuntimeError("the request has ended"))
    try:
        payload = item.job.inputs[item.place]
        return payload if stages.on_accelerator else stages.prepare(payload)
    except BaseException as error:  # noqa: BLE001  any error of an image fails that image's request
        return _failure(error)


def _infer(rows: Sequence[Any], stages: Stages) -> list[Any]:
    """All rows in one call. If that fails, each half in one call, down to the row at fault."""
    if not rows:
        return []
    try:
        return _of_length(stages.infer(rows), len(rows))
    except BaseException as error:  # noqa: BLE001  some errors of a network would end the worker
        if len(rows) == 1:
            return [_failure(error)]
    # Outside of `except`: the traceback would keep the memory of the large call alive.
    middle = len(rows) // 2
    return _infer(rows[:middle], stages) + _infer(rows[middle:], stages)


def _postprocess(batch: Batch, stages: Stages) -> list[Any]:
    job, start = batch.items[0]
    stop = start + len(batch.items)
    try:
        return _of_length(stages.postprocess(job.inputs, start, stop), stop - start)
    except BaseException as error:  # noqa: BLE001
        return [_failure(error)] * len(batch.items)


def _failure(error: BaseException) -> Failure:
    """Errors that would end a thread or process are wrapped, since the request's thread raises them."""
    return Failure(error if isinstance(error, Exception) else RuntimeError(f"{type(error).__name__}: {error}"))


def _of_length(outcomes: Sequence[Any], count: int) -> list[Any]:
    if len(outcomes) != count:
        raise ValueError(f"{len(outcomes)} answers for {count} images")
    return list(outcomes)
