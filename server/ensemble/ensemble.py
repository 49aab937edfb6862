"""The ensemble as the pipeline knows it: bytes in, sightings out, and a panel that says who was asked."""

from __future__ import annotations

import hashlib
import importlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from threading import Lock

import msgspec
import torch
from torch import nn

from policies.observation import Box, Panel, Seat, Sighting
from server.catalogue import ModelCard, cache_dir, card_named, locate, verify
from server.ensemble import detections, forms, module
from server.ensemble.decode import MAX_PIXELS, decode, decoder_identity
from server.ensemble.module import Answer, EnsembleModule
from server.errors import Broken

NOTHING = "nothing"


class Ensemble:
    """Models that are asked about the same frames. Safe in several threads: one forward call at a time."""

    def __init__(self, network: EnsembleModule, *, max_pixels: int = MAX_PIXELS) -> None:
        self._network = network.eval()
        self._max_pixels = max_pixels
        self._turn = Lock()
        self.panel = panel_of(network)

    @property
    def cards(self) -> tuple[ModelCard, ...]:
        """The cards of the models, in the order of the panel's seats."""
        return self._network.cards

    def answer(
        self, images: Sequence[bytes], crops: Mapping[str, Box] | None = None
    ) -> list[dict[str, tuple[Sighting, ...] | None]]:
        """What each model says about each image, in order; the images of one call are in the order of time.

        `crops` are bounding rectangles of sectors, which classifiers judge as well. A model that fails has None
        for every image. Sightings are sorted by falling score, then label, then box; scores have 4 decimals, box
        edges 5. Raises Unusable or TooLarge, with the index of the frame, before any model is asked.
        """
        with torch.inference_mode():
            # Decoded and transformed one by one: rows are small, frames may not be.
            frames = [
                self._network.prepare(decode(image, max_pixels=self._max_pixels, frame=index), crops or {})
                for index, image in enumerate(images)
            ]
            with self._turn:
                answers: list[dict[str, Answer]] = self._network(frames)
        return answers


def load_ensemble(
    names: Sequence[str],
    *,
    folders: Sequence[Path] = (),
    cache: Path | None = None,
    max_pixels: int = MAX_PIXELS,
    verify_weights: bool = True,
) -> Ensemble:
    """The ensemble of these models, with their weights from the cache (default: the user's).

    Raises Broken, saying what to do, for an unknown name, a missing or wrong file of weights, a factory that
    cannot be had.
    """
    if not names:
        raise Broken("an ensemble needs at least one model: name some in `models`")
    chosen = [card_named(name, folders) for name in names]
    if len(set(names)) != len(names):
        raise Broken(f"a model is named twice among {', '.join(names)}")
    place = cache_dir() if cache is None else cache
    models = [(card, _load(card, place, verify_weights=verify_weights)) for card in chosen]
    return Ensemble(EnsembleModule(models), max_pixels=max_pixels)


def panel_of(network: EnsembleModule) -> Panel:
    """Who sits in the ensemble, and a digest over all that decides its answers.

    Names, weights, the source of each architecture, input forms, classes, parameters, the code all models share,
    the decoder and torch, with versions: another digest means answers may differ, the same that they do not.
    """
    shared = [hashlib.sha256(inspect.getsource(part).encode()).hexdigest() for part in (detections, forms, module)]
    description = {
        "models": [
            {
                "name": card.name,
                "kind": card.kind,
                "sha256": card.sha256,
                "architecture": _source_digest(part),
                "input": card.input,
                "classes": card.classes,
                "parameters": card.parameters,
            }
            for card, part in zip(network.cards, network.networks.values(), strict=True)
        ],
        "shared": shared,
        "decoder": decoder_identity(),
        "torch": str(torch.__version__),
    }
    digest = hashlib.sha256(msgspec.json.encode(description, order="sorted")).hexdigest()
    seats = (
        Seat(card.name, frozenset(card.classes), boxes=card.kind != "classifier", votes=card.kind != "change")
        for card in network.cards
    )
    return Panel(digest, tuple(seats))


def top_label(seat: Seat, sightings: tuple[Sighting, ...] | None) -> str:
    """One class per frame, FlexServe's way: the best label of the whole view.

    `nothing` for a detector that saw nothing; empty when the model did not answer.
    """
    if sightings is None:
        return ""
    whole = [sighting for sighting in sightings if sighting.sector is None]
    if not whole:
        return NOTHING
    unboxed = [sighting for sighting in whole if sighting.box is None]
    return max(unboxed or whole, key=lambda sighting: sighting.score).label


def _load(card: ModelCard, cache: Path, *, verify_weights: bool) -> nn.Module:
    weights = None
    if card.sha256 is not None:
        weights = locate(card, cache)
        if weights is None:
            raise Broken(f"the weights of {card.name} are not here: run `sectorwatch models pull {card.name}`")
        if verify_weights:
            verify(card, weights)
    return _factory(card)(card, weights).eval().requires_grad_(False)


def _factory(card: ModelCard) -> Callable[[ModelCard, Path | None], nn.Module]:
    place, _, name = card.factory.partition(":")
    try:
        factory = getattr(importlib.import_module(place), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise Broken(f"the factory `{card.factory}` of {card.name} cannot be had: {error}") from error
    return factory  # type: ignore[no-any-return]


def _source_digest(network: nn.Module) -> str | None:
    """Of the file that defines the network's class; None where there is none (a scripted network)."""
    try:
        path = inspect.getsourcefile(type(network))
        return hashlib.sha256(Path(path).read_bytes()).hexdigest() if path else None
    except (OSError, TypeError):
        return None
