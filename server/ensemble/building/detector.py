"""Detectors of other people: what they answer with becomes `Detections`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
import torch
from torch import Tensor, nn

from server.catalogue import ModelCard
from server.domain.errors import ConfigurationError
from server.ensemble.building.look import check_detector, chosen_part
from server.ensemble.detections import Detections

DETECTOR_VERSIONS = {"detector-dicts": 1}
"""Of `Detector`. Raise it when it gives other detections."""

Postprocess = Callable[[Any, tuple[int, int], int], Sequence[Mapping[str, Tensor]]]
"""`postprocess(output, (width, height), classes)`: the answer of a network about a batch of rows of that size, and how
many classes its card has -> for each row a dict of `boxes` [K, 4] (`x1 y1 x2 y2` in pixels), `scores` and `labels` [K].
"""


class DetectorParameters(msgspec.Struct, frozen=True):
    """The parameters of a detector's card that its factory does not get; see `Detector`."""

    labels: tuple[int, ...] = ()
    score_floor: float = 0.0


class Answering(nn.Module):
    """A network whose answer about rows [N, C, H, W] is brought to torchvision's form by the card's `postprocess`."""

    def __init__(self, network: nn.Module, card: ModelCard, postprocess: Postprocess) -> None:
        super().__init__()
        self.network = network
        self.card = card
        self.postprocess = postprocess

    def forward(self, rows: Sequence[Tensor]) -> Sequence[Mapping[str, Tensor]]:
        batch = torch.stack(list(rows))
        height, width = batch.shape[-2:]
        output = chosen_part(self.card, self.network(batch))
        answers = self.postprocess(output, (width, height), len(self.card.classes))
        if isinstance(answers, list | tuple) and len(answers) != len(batch):
            raise ValueError(f"`{self.card.postprocess}` gives {len(answers)} answers for {len(batch)} rows")
        return answers


class Part(nn.Module):
    """A network that answers as the detectors of torchvision in the part of its answer that the card names."""

    def __init__(self, network: nn.Module, card: ModelCard) -> None:
        super().__init__()
        self.network = network
        self.card = card

    def forward(self, rows: list[Tensor]) -> Any:
        return chosen_part(self.card, self.network(rows))


class Detector(nn.Module):
    """A network that answers as the detectors of torchvision: a dict of `boxes` (pixels), `scores`, `labels` per row.

    `labels` are the network's numbers of the card's classes, in their order. Boxes of other numbers, and those with a
    score below `score_floor`, are dropped. Raises ConfigurationError unless there are as many labels as classes.
    """

    def __init__(self, network: nn.Module, card: ModelCard, labels: Sequence[int], *, score_floor: float = 0.0) -> None:
        super().__init__()
        if len(labels) != len(card.classes):
            raise ConfigurationError(
                f"the card of {card.name} needs as many `labels` in its [parameters] as it has classes"
            )
        self.network = network
        self.labels = tuple(labels)
        self.score_floor = score_floor

    def forward(self, rows: Tensor) -> list[Detections]:
        output = self.network([row.contiguous() for row in rows])
        if isinstance(output, tuple):  # a scripted detector of torchvision: losses, detections
            output = output[-1]
        height, width = rows.shape[-2:]
        return [self._detections(row, (width, height)) for row in output]

    def _detections(self, row: Mapping[str, Tensor], size: tuple[int, int]) -> Detections:
        boxes, scores, numbers = row["boxes"].float(), row["scores"].float(), row["labels"]
        classes = torch.full_like(numbers, -1)
        for index, number in enumerate(self.labels):
            classes[numbers == number] = index
        kept = torch.nonzero((classes >= 0) & (scores >= self.score_floor)).flatten()
        kept = kept[torch.argsort(scores[kept], descending=True, stable=True)]
        return Detections(boxes[kept] / boxes.new_tensor(size * 2), scores[kept], classes[kept])


def detector_of(card: ModelCard, network: nn.Module, postprocess: Postprocess | None) -> Detector:
    """The detector of a network in evaluation mode. Raises ConfigurationError if it does not answer as one."""
    answering = answering_of(card, network, postprocess)
    check_detector(card, answering)
    stated = card.parameters_as(DetectorParameters)
    labels = stated.labels if "labels" in card.parameters else range(1, len(card.classes) + 1)
    return Detector(answering, card, labels, score_floor=stated.score_floor)


def answering_of(card: ModelCard, network: nn.Module, postprocess: Postprocess | None) -> nn.Module:
    """The network, of whose answer the card's `output_key` counts, with its `postprocess` behind it if it has one."""
    if postprocess is not None:
        return Answering(network, card, postprocess).eval()
    return Part(network, card).eval() if card.output_key else network
