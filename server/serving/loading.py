"""From the names of models to an ensemble that may be served: built, as locked, and not too big for the machine.

Whatever is on disk is read anew each time: cards, weights, the users' own models, the lock, the golden set.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from policies.observation import EnsembleInfo
from server.catalogue import ModelCard, card_named, check_lock
from server.domain.errors import ConfigurationError
from server.domain.precision import Execution, check_execution
from server.engine import SILENCE_S, Engine, Stages
from server.serving.machine import give_back, growth_bytes, resident_bytes, this_machine
from server.serving.memory_budget import (
    Models,
    beside,
    check_fits,
    footprint,
    limit_bytes,
    measured,
    remember,
    remembered,
)
from server.settings import ServerSettings

log = logging.getLogger(__name__)


class Answering(Protocol):
    """An ensemble, alone or in an engine."""

    @property
    def ensemble_info(self) -> EnsembleInfo: ...

    def answer(self, images: Sequence[bytes]) -> Sequence[Any]: ...


class Ensemble(Stages, Answering, Protocol):
    """An ensemble whole, and taken apart for the engine."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """An ensemble in memory. `check` raises Unapproved unless it answers, alone or in the engine, as was approved
    when it was loaded; `takes` is what the process then had in memory, None where nobody measured.
    """

    models: tuple[str, ...]
    ensemble: Ensemble
    check: Callable[[Answering], None]
    takes: Models | None = None


def load(
    settings: ServerSettings,
    models: Sequence[str],
    present: Loaded | None = None,
    *,
    took: Callable[[str, float], None] = lambda _model, _seconds: None,
) -> Loaded:
    """These models as one ensemble, beside the `present` one if there is one; `took` hears of each call of a model.

    Raises ConfigurationError for a model that cannot be had, or an ensemble that is not the one of the lock; TooBig,
    before anything is loaded or once it was measured, when memory might not do.
    """
    # torch comes with it: seconds, and memory that only a worker needs
    from server.ensemble import load_ensemble, read_golden, shipped_golden

    folders = own_models(settings)
    cards = [card_named(name, folders) for name in models]
    workers = settings.inference_threads or this_machine().processors
    limit = limit_bytes(settings, this_machine())
    there = None if present is None else present.takes
    expected = remembered(cards, settings.data_dir) if there is None else beside(there, cards)
    check_fits(settings, footprint(settings, expected, cards, workers), limit)
    check_execution(settings.execution, this_machine().vectors)
    golden = read_golden(settings.golden or shipped_golden())
    ensemble = load_ensemble(
        models,
        folders=folders,
        max_pixels=settings.max_pixels,
        execution=settings.execution,
        device=settings.device,
        took=took,
    )
    beyond = golden.uncovered(ensemble)
    _check_judged(settings.execution, cards, beyond)
    if settings.lock is not None:
        check_lock(ensemble.lock, settings.lock)
    if beyond:
        log.warning("golden set says nothing of some models", extra={"models": ",".join(beyond)})
    give_back()  # tracing leaves cycles behind, and what an ensemble had that was swapped out may still be held
    computing_bytes = growth_bytes(lambda: _check_answering(ensemble, golden.pictures, beyond))
    takes = measured(cards, resident_bytes(), computing_bytes)
    most = footprint(settings, takes, cards, workers)
    check_fits(settings, most, limit)
    log.info("memory measured", extra={"most": str(most)})
    if there is None:
        remember(takes, settings.data_dir)
    return Loaded(tuple(models), ensemble, partial(golden.check, execution=settings.execution), takes)


def engine_of(stages: Stages, settings: ServerSettings, *, silence_s: float = SILENCE_S) -> Engine:
    """The engine around an ensemble, as `settings` have it."""
    return Engine(
        stages,
        workers=settings.inference_threads or this_machine().processors,
        max_queued_images=settings.max_queued_images,
        answer_within_s=settings.answer_within_s,
        silence_s=silence_s,
    )


def own_models(settings: ServerSettings) -> tuple[Path, ...]:
    """The folders of the users' own models."""
    return (settings.models_dir,) if settings.models_dir else ()


def _check_judged(execution: Execution, cards: Sequence[ModelCard], uncovered: Collection[str]) -> None:
    """Raises ConfigurationError when another arithmetic than float32 would serve something that no golden picture
    judges.
    """
    if execution == "fp32":
        return
    changed = [card.name for card in cards if card.kind == "classifier"]
    if not changed:
        raise ConfigurationError(
            f'execution = "{execution}" is for classifiers, and there is none in this ensemble: use "fp32"'
        )
    blind = [name for name in changed if name in uncovered]
    if blind:
        raise ConfigurationError(
            f'execution = "{execution}" needs a golden set that judges {", ".join(blind)}: '
            '`sectorwatch models approve`, with "fp32", makes one'
        )


def _check_answering(stages: Stages, pictures: Sequence[bytes], unjudged: Collection[str]) -> None:
    """Ask as a worker does, in the largest portions there are, until each of these models has answered.

    Raises ConfigurationError for models of which the golden set says nothing, and that answer about none of its
    pictures.
    """
    stages.enter()
    silent = list(unjudged)
    for start in range(0, len(pictures), stages.batch_images):
        some = [pictures[(start + place) % len(pictures)] for place in range(stages.batch_images)]
        rows = [stages.prepare((picture, place, {})) for place, picture in enumerate(some)]
        answers = stages.postprocess(stages.infer(rows), 0, len(rows))
        silent = [name for name in silent if all(answer.get(name) is None for answer in answers)]
        if not silent:
            return
    if silent:
        raise ConfigurationError(
            f"{', '.join(silent)} answered about none of {len(pictures)} pictures; the log above says why"
        )
