"""What a worker does with a portion: prepare, ask, conclude, and keep one image's fault from all others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from server.engine.job import Failure, Item, Portion
from server.engine.stages import Asking


def outcomes(portion: Portion) -> list[Any]:
    """One outcome per item, in order: an output, or a Failure. Raises nothing that the portion's stages raise."""
    stages = portion.stages
    if portion.concluding:
        return _concluded(portion, stages)
    results = [_prepared(item, stages) for item in portion.items]
    ready = [place for place, row in enumerate(results) if not isinstance(row, Failure)]
    for place, said in zip(ready, _asked([results[place] for place in ready], stages), strict=True):
        results[place] = said
    return results


def _prepared(item: Item, stages: Asking) -> Any:
    if item.job.answer.done():
        return Failure(RuntimeError("nobody waits for this image any more"))
    try:
        return stages.prepare(item.job.inputs[item.place])
    except BaseException as error:  # noqa: BLE001  whatever an image provokes is that image's request's affair
        return _failure(error)


def _asked(rows: Sequence[Any], stages: Asking) -> list[Any]:
    """All rows in one call; if that fails, its halves each in one, down to the row at fault."""
    if not rows:
        return []
    try:
        return _of_length(stages.ask(rows), len(rows))
    except BaseException as error:  # noqa: BLE001  a network may raise anything, and would end the worker by some of it
        if len(rows) == 1:
            return [_failure(error)]
    # Outside of `except`: the traceback would keep alive all the memory the large call had.
    middle = len(rows) // 2
    return _asked(rows[:middle], stages) + _asked(rows[middle:], stages)


def _concluded(portion: Portion, stages: Asking) -> list[Any]:
    job, start = portion.items[0]
    stop = start + len(portion.items)
    try:
        return _of_length(stages.conclude(job.inputs, start, stop), stop - start)
    except BaseException as error:  # noqa: BLE001
        return [_failure(error)] * len(portion.items)


def _failure(error: BaseException) -> Failure:
    """What a request's thread may be told: what ends a thread or a process is only reported there."""
    return Failure(error if isinstance(error, Exception) else RuntimeError(f"{type(error).__name__}: {error}"))


def _of_length(said: Sequence[Any], count: int) -> list[Any]:
    if len(said) != count:
        raise ValueError(f"{len(said)} answers for {count} images")
    return list(said)
