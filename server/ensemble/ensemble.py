"""The ensemble as the pipeline knows it: bytes in, predictions out, and the models that were asked."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from torch import nn

from policies.observation import Box, EnsembleInfo, Prediction
from server.catalogue import ModelCard, cache_dir, card_named, locate, verify
from server.domain.errors import ConfigurationError
from server.domain.precision import Device, Execution
from server.ensemble.building import network_of
from server.ensemble.decode import MAX_PIXELS, decode
from server.ensemble.lock import lock_of
from server.ensemble.module import Answer, EnsembleModule, InferredFrame, PreparedFrame
from server.ensemble.tracing import computing


class Ensemble:
    """Models that are asked about the same frames. Keeps no state between calls: safe in several threads.

    `answer` is the whole of it; an engine takes the same steps apart (`prepare`, `infer`, `postprocess`) to share them
    out over workers and to merge requests.
    """

    def __init__(
        self,
        network: EnsembleModule,
        *,
        max_pixels: int = MAX_PIXELS,
        execution: Execution = "fp32",
        device: Device = "cpu",
    ) -> None:
        self._network = network.eval()
        self._max_pixels = max_pixels
        self._alone: dict[str, Ensemble] = {}
        self._execution = execution
        self._device = device
        self.lock = lock_of(network, execution, device)
        self.ensemble_info = panel_of(network, execution, device)

    @property
    def on_accelerator(self) -> bool:
        """Whether one thread shall ask for all: a card works on one batch after the other."""
        return self._device != "cpu"

    @property
    def cards(self) -> tuple[ModelCard, ...]:
        """The cards of the models, in the order of `ensemble_info.models`."""
        return self._network.cards

    def tune(self) -> None:
        """Make the models quicker where that keeps their answers; `lock` and `ensemble_info` are of what they were made
        of.
        """
        self._network.tune(self._execution)
        self._network.place(torch.device(self._device))

    @property
    def batch_images(self) -> int:
        """How many images are worth asking about in one call."""
        return self._network.batch_frames

    @property
    def needs_postprocessing(self) -> bool:
        """Whether some model looks at a request's images in the order of time."""
        return self._network.needs_postprocessing

    def answer(
        self, images: Sequence[bytes], crops: Mapping[str, Box] | None = None
    ) -> list[dict[str, tuple[Prediction, ...] | None]]:
        """What each model says about each image, in order; the images of one call are in the order of time.

        `crops` are bounding rectangles of sectors, which classifiers judge as well. A model that fails for an image
        has None there. Predictions are sorted by falling score, a detector's then by label and box, a classifier's as
        the network ranks them; scores have 4 decimals, box edges 5. Raises Unprocessable or TooLarge, with the index of
        the frame, before any model is asked.
        """
        # Decoded and transformed one by one: rows are small, frames may not be.
        rows = [self.prepare((image, index, crops or {})) for index, image in enumerate(images)]
        return self.postprocess(self.infer(rows), 0, len(rows))

    def only(self, model: str) -> Ensemble:
        """One model of this ensemble, for those who ask for it alone; under the ensemble's name, without a copy."""
        if model not in self._alone:
            alone = copy.copy(self)
            alone._network = self._network.only(model)
            self._alone.setdefault(model, alone)  # one for all who ask: requests of one ensemble are merged
        return self._alone[model]

    def enter(self) -> None:
        """What a thread does before it asks: from here on it computes alone, since others fill the other cores."""
        torch.set_num_threads(1)

    def prepare(self, payload: tuple[bytes, int, Mapping[str, Box]]) -> PreparedFrame:
        """An image, its index and the sectors' crops -> its rows. Raises Unprocessable or TooLarge with that index."""
        image, index, crops = payload
        with torch.inference_mode():
            return self._network.prepare(decode(image, max_pixels=self._max_pixels, frame=index), crops)

    def infer(self, rows: Sequence[PreparedFrame]) -> list[InferredFrame]:
        """See `EnsembleModule.infer`."""
        with computing(), torch.inference_mode():
            return self._network.infer(rows)

    def postprocess(self, inferred: Sequence[InferredFrame], start: int, stop: int) -> list[dict[str, Answer]]:
        """See `EnsembleModule.postprocess`."""
        with computing(), torch.inference_mode():
            return self._network.postprocess(inferred, start, stop)


def load_ensemble(
    names: Sequence[str],
    *,
    folders: Sequence[Path] = (),
    cache: Path | None = None,
    max_pixels: int = MAX_PIXELS,
    verify_weights: bool = True,
    execution: Execution = "fp32",
    device: Device = "cpu",
    took: Callable[[str, float], None] = lambda _model, _seconds: None,
) -> Ensemble:
    """The ensemble of these models, with their weights from the cache (default: the user's).

    `execution` is the arithmetic of the classifiers; see `server.domain.precision` for whether the machine can.
    `device` is where the models of single frames compute.
    `took` hears how long each call of a model took (s).

    Raises ConfigurationError, saying what to do, for an unknown name, a missing or wrong file of weights, a factory
    that cannot be had; for a device that is not there.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise ConfigurationError('device = "cuda" needs a CUDA card and its driver, and torch finds none: use "cpu"')
    if not names:
        raise ConfigurationError("an ensemble needs at least one model: name some in `models`")
    chosen = [card_named(name, folders) for name in names]
    if len(set(names)) != len(names):
        raise ConfigurationError(f"a model is named twice among {', '.join(names)}")
    place = cache_dir() if cache is None else cache
    models = [(card, _load(card, place, verify_weights=verify_weights)) for card in chosen]
    ensemble = Ensemble(EnsembleModule(models, took=took), max_pixels=max_pixels, execution=execution, device=device)
    ensemble.tune()
    return ensemble


def panel_of(network: EnsembleModule, execution: Execution = "fp32", device: Device = "cpu") -> EnsembleInfo:
    """Who sits in the ensemble, and its name: the digest of its lock, which holds all that decides its answers."""
    return EnsembleInfo(lock_of(network, execution, device).digest, tuple(card.model_info for card in network.cards))


def _load(card: ModelCard, cache: Path, *, verify_weights: bool) -> nn.Module:
    weights = None
    if card.sha256 is not None:
        weights = locate(card, cache)
        if weights is None:
            raise ConfigurationError(
                f"the weights of {card.name} are not here: run `sectorwatch models pull {card.name}`"
            )
        if verify_weights:
            verify(card, weights)
    return network_of(card, weights)
