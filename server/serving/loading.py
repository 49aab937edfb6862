"""Loads an ensemble by the names of its models, and checks it against lock and golden set.

Everything is read from disk each time: cards, weights, the users' own models, the lock, the golden set.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from server.catalogue import Fault, ModelCard, card_named, check_lock, lowered, read_cards
from server.domain.ensemble_protocol import Answering
from server.domain.errors import ConfigurationError
from server.domain.precision import check_execution
from server.engine import SILENCE_S, Engine, Stages
from server.serving.machine import give_back, this_machine
from server.settings import ServerSettings

log = logging.getLogger(__name__)


class Ensemble(Stages, Answering, Protocol):
    """An ensemble that answers alone, and whose stages an engine can run."""

    def last_fault(self, model: str) -> str:
        """The error of this model's last call that raised one, in one line; empty if none did."""
        ...


Loadable = TypeVar("Loadable", bound=Answering, covariant=True)


@dataclass(frozen=True, slots=True)
class Loaded(Generic[Loadable]):
    """An ensemble that was loaded, here or on the nodes of a cluster.

    `check` raises Unapproved unless it answers, alone or in the engine, as approved.
    """

    models: tuple[str, ...]
    ensemble: Loadable
    check: Callable[[Answering], None]


Load = Callable[[Sequence[str]], Loaded[Any]]
"""Makes an ensemble of the models of these names."""


def usable_cards(settings: ServerSettings, models: Sequence[str]) -> tuple[list[ModelCard], list[Fault]]:
    """The cards of these models, and the faults of those whose card cannot be used: one broken card disables one model.

    Raises ConfigurationError for a name that no card has, for one that two files claim, and when no card is left.
    """
    folders = own_models(settings)
    broken = broken_cards(settings, models)
    usable = [name for name in models if name not in {fault.name for fault in broken}]
    return [card_named(name, folders) for name in usable], broken


def broken_cards(settings: ServerSettings, models: Sequence[str]) -> list[Fault]:
    """The faults of those of these models whose card cannot be used.

    Raises ConfigurationError for a name that two files claim, and when every card is broken.
    """
    known, faults = read_cards(own_models(settings))
    found = [fault for name in models for fault in faults if fault.name == name]
    for fault in found:
        if fault.name in known:
            raise ConfigurationError(f"{fault.detail}; rename one of the two models")
    if models and {fault.name for fault in found} >= set(models):
        raise ConfigurationError("; ".join(fault.detail for fault in found))
    return found


def load(
    settings: ServerSettings,
    models: Sequence[str],
    *,
    took: Callable[[str, float], None] = lambda _model, _seconds: None,
) -> Loaded[Ensemble]:
    """These models as one ensemble. `took` is called with model and seconds after each call of a model.

    Raises ConfigurationError for a model that is missing or broken, or an ensemble that differs from the lock.
    """
    # It imports torch, which takes seconds and much memory: only a worker needs it.
    from server.ensemble import load_ensemble, read_golden, shipped_golden

    folders = own_models(settings)
    cards = [card_named(name, folders) for name in models]
    golden = read_golden(settings.golden or shipped_golden())
    check_execution(settings.execution, this_machine().vectors, lowered(cards), golden.set.models)
    ensemble = load_ensemble(
        models,
        folders=folders,
        max_pixels=settings.max_pixels,
        execution=settings.execution,
        device=settings.device,
        took=took,
    )
    uncovered = golden.uncovered(ensemble)
    if settings.lock is not None:
        check_lock(ensemble.lock, settings.lock)
    if uncovered:
        log.warning("golden set says nothing of some models", extra={"models": ",".join(uncovered)})
        check_answering(ensemble, golden.pictures, uncovered)
    give_back()  # tracing leaves cycles behind, and so does an ensemble that was swapped out
    return Loaded(tuple(models), ensemble, partial(golden.check, execution=settings.execution))


def engine_of(stages: Stages, settings: ServerSettings, *, silence_s: float = SILENCE_S) -> Engine:
    """An engine for the ensemble, with the workers and limits of `settings`."""
    return Engine(
        stages,
        workers=settings.inference_threads or this_machine().processors,
        max_queued_images=settings.max_queued_images,
        answer_within_s=settings.answer_within_s,
        silence_s=silence_s,
    )


def own_models(settings: ServerSettings) -> tuple[Path, ...]:
    """The folders of the user's own models."""
    return (settings.models_dir,) if settings.models_dir else ()


def check_answering(ensemble: Ensemble, pictures: Sequence[bytes], uncovered: Collection[str]) -> None:
    """Raises ConfigurationError, with the error, for a model that the golden set does not cover and that fails on all
    its pictures.
    """
    silent = list(uncovered)
    for start in range(0, len(pictures), ensemble.batch_images):
        answers = ensemble.answer(pictures[start : start + ensemble.batch_images])
        silent = [name for name in silent if all(answer.get(name) is None for answer in answers)]
        if not silent:
            return
    whys = (f"{name} answered about none of {len(pictures)} pictures: {ensemble.last_fault(name)}" for name in silent)
    raise ConfigurationError("; ".join(whys))
