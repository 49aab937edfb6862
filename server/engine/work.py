"""What a worker does with a batch: prepare, ask, conclude, and keep one image's fault from all others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from server.engine.job import Batch, Failure, Item
from server.engine.stages import WorkerStages


def outcomes(batch: Batch) -> list[Any]:
    """One outcome per item, in order: an output, or a Failure. Raises nothing that the batch's stages raise."""
    stages = batch.stages
    if batch.postprocessing:
        return _postprocessed(batch, stages)
    results = [_prepared(item, stages) for item in batch.items]
    ready = [place for place, row in enumerate(results) if not isinstance(row, Failure)]
    for place, said in zip(ready, _inferred([results[place] for place in ready], stages), strict=True):
        results[place] = said
    return results


def _prepared(item: Item, stages: WorkerStages) -> Any:
    if item.job.answer.done():
        return Failure(RuntimeError("nobody waits for this image any more"))
    try:
        return stages.prepare(item.job.inputs[item.place])
    except BaseException as error:  # noqa: BLE001  whatever an image provokes is that image's request's affair
        return _failure(error)


def _inferred(rows: Sequence[Any], stages: WorkerStages) -> list[Any]:
    """All rows in one call; if that fails, its halves each in one, down to the row at fault."""
    if not rows:
        return []
    try:
        return _of_length(stages.infer(rows), len(rows))
    except BaseException as error:  # noqa: BLE001  a network may raise anything, and would end the worker by some of it
        if len(rows) == 1:
            return [_failure(error)]
    # Outside of `except`: the traceback would keep alive all the memory the large call had.
    middle = len(rows) // 2
    return _inferred(rows[:middle], stages) + _inferred(rows[middle:], stages)


def _postprocessed(batch: Batch, stages: WorkerStages) -> list[Any]:
    job, start = batch.items[0]
    stop = start + len(batch.items)
    try:
        return _of_length(stages.postprocess(job.inputs, start, stop), stop - start)
    except BaseException as error:  # noqa: BLE001
        return [_failure(error)] * len(batch.items)


def _failure(error: BaseException) -> Failure:
    """What a request's thread may be told: what ends a thread or a process is only reported there."""
    return Failure(error if isinstance(error, Exception) else RuntimeError(f"{type(error).__name__}: {error}"))


def _of_length(said: Sequence[Any], count: int) -> list[Any]:
    if len(said) != count:
        raise ValueError(f"{len(said)} answers for {count} images")
    return list(said)
