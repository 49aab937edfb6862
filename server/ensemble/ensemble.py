"""An ensemble: images in, predictions out."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from torch import nn

from policies.observation import Box, EnsembleInfo, Prediction
from server.catalogue import ModelCard, cache_dir, card_named, locate, remedy, verify
from server.domain.ensemble_protocol import Payload
from server.domain.errors import ConfigurationError
from server.domain.precision import Device, Execution
from server.ensemble.building import network_of
from server.ensemble.decode import MAX_PIXELS, decode
from server.ensemble.lock import lock_of
from server.ensemble.module import Answer, EnsembleModule, InferredFrame, PreparedFrame
from server.ensemble.tracing import computing


class Ensemble:
    """Models that answer about the same images. It keeps no state between calls and is safe in several threads.

    `answer` does everything. An engine calls the steps `prepare`, `infer` and `postprocess` itself, to distribute them
    over workers and to merge requests.
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
        self.ensemble_info = EnsembleInfo(self.lock.digest, tuple(card.model_info for card in network.cards))

    @property
    def on_accelerator(self) -> bool:
        """Whether only one thread should call `infer`: an accelerator computes one batch at a time."""
        return self._device != "cpu"

    def tune(self) -> None:
        """Make the models faster with the same answers. `lock` and `ensemble_info` stay as they are."""
        self._network.tune(self._execution)
        self._network.place(torch.device(self._device))

    @property
    def batch_images(self) -> int:
        """How many images fill one call of `infer`: more in one call are not faster."""
        return self._network.batch_frames

    @property
    def needs_postprocessing(self) -> bool:
        """Whether a model needs the images of a request in the order of time."""
        return self._network.needs_postprocessing

    def answer(
        self, images: Sequence[bytes], crops: Mapping[str, Box] | None = None, enlarged: Sequence[Box] = ()
    ) -> list[dict[str, tuple[Prediction, ...] | None]]:
        """Each model's predictions for each image. The images of one call are in the order of time.

        `crops` are bounding rectangles of sectors, in 0..1 of the image; classifiers judge them as well. The whole view
        as a sector has no predictions of its own from a model that sees whole images anyway. `enlarged` are parts that
        detectors see as well, larger; a thing seen in the image and in such parts is one prediction. A model that fails
        for an image has None there. Predictions are sorted by falling score, a detector's then by label and box, a
        classifier's as the network ranks them. Scores have 4 decimals, edges of boxes 5. Raises Unprocessable or
        TooLarge, with the index of the image, before any model is called.
        """
        # One by one: rows are small, decoded images may not be.
        rows = [self.prepare((image, index, crops or {}, enlarged)) for index, image in enumerate(images)]
        return self.postprocess(self.infer(rows), 0, len(rows))

    def only(self, model: str) -> Ensemble:
        """One model of this ensemble, under the ensemble's name; the network is shared."""
        if model not in self._alone:
            alone = copy.copy(self)
            alone._network = self._network.only(model)
            self._alone.setdefault(model, alone)  # always the same object, so that requests for it are merged
        return self._alone[model]

    def last_fault(self, model: str) -> str:
        """The error of this model's last call that raised one, in one line; empty if none did."""
        return self._network.last_fault(model)

    def enter(self) -> None:
        """Call this first in each thread that computes: it uses one core, since other threads use the others."""
        torch.set_num_threads(1)

    def prepare(self, payload: Payload) -> PreparedFrame:
        """What is asked about an image -> its rows. Raises Unprocessable or TooLarge with the index of the image."""
        image, index, crops, enlarged = payload
        with torch.inference_mode():
            return self._network.prepare(decode(image, max_pixels=self._max_pixels, frame=index), crops, enlarged)

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

    `execution` is the arithmetic of the classifiers, `device` the place where the models of single images compute.
    `took` is called with a model's name and the seconds of each of its calls.

    Raises ConfigurationError, with what to do, for an unknown name or one given twice, for weights that are missing or
    wrong, for a factory that cannot be imported, and for a device that is not there.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise ConfigurationError('device = "cuda" needs a CUDA card and its driver, and torch finds none: use "cpu"')
    if not names:
        raise ConfigurationError("an ensemble needs at least one model: name some in `models`")
    chosen = [card_named(name, folders) for name in names]
    if len(set(names)) != len(names):
        raise ConfigurationError(f"a model is named twice among {', '.join(names)}")
    models = [(card, _load(card, cache or cache_dir(), verify_weights=verify_weights)) for card in chosen]
    ensemble = Ensemble(EnsembleModule(models, took=took), max_pixels=max_pixels, execution=execution, device=device)
    ensemble.tune()
    return ensemble


def _load(card: ModelCard, cache: Path, *, verify_weights: bool) -> nn.Module:
    weights = locate(card, cache)
    if weights is None and card.sha256 is not None:
        raise ConfigurationError(f"the weights of {card.name} are not here: {remedy(card)}")
    if weights is not None and verify_weights:
        verify(card, weights)
    return network_of(card, weights)
