"""A look at a detector: whether its boxes, scores and labels are what its card says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from server.catalogue.card import ModelCard
from server.domain.errors import ConfigurationError
from server.ensemble.building.look.asking import ask, first_tensor, in_unit, pictures, span
from server.ensemble.decode import decode
from server.ensemble.forms import normalised, row_of

_RAW = (
    "such an answer needs something that makes boxes of it, --postprocess yolo, yolov5, yolo-end-to-end, detr or "
    "file.py:callable (the card's entry `postprocess`)"
)
_FRACTIONS, _SMALL, _SOME, _FAR = 2.0, 32, 0.25, 1.1
"""Boxes up to the first are no pixels of a picture with longer sides than the second. Some of a network's boxes may be
wrong, and reach beyond the picture by so much."""


def check_detector(card: ModelCard, network: nn.Module) -> None:
    """Ask a detector about pictures of people and things.

    Raises ConfigurationError for a network that does not answer, or not with `boxes` (`x1 y1 x2 y2`, pixels of the
    row), `scores` and the `labels` of its card. A network that sees nothing in the pictures is not judged.
    """
    for picture in pictures()[2:5:2]:
        row = normalised(row_of(decode(picture), card.input).pixels[None], card.input)
        output = _asked(card, network, row)
        if isinstance(output, tuple):  # a scripted detector of torchvision: losses, detections
            output = output[-1]
        fault = _shape_fault(output) or _boxes_fault(card, output[0], row.shape[-1], row.shape[-2])
        if fault:
            raise ConfigurationError(f"{card.name} {fault}")


def _asked(card: ModelCard, network: nn.Module, row: Tensor) -> Any:
    try:
        return ask(card.name, lambda rows: network([row.contiguous() for row in rows]), row)
    except ConfigurationError as error:
        if card.postprocess:
            raise
        try:
            with torch.inference_mode():
                output = network(row)
        except Exception:  # noqa: BLE001  it takes neither
            raise error from None
        raise ConfigurationError(
            f"{card.name} takes pictures as one batch and answers with {_described(output)}: {_RAW}"
        ) from error


def _described(output: Any) -> str:
    first = first_tensor(output)
    shape = "" if first is None else f" of {'x'.join(map(str, first.shape))}"
    return (
        f"a tensor{shape}" if isinstance(output, Tensor) else f"a {type(output).__name__}{shape and f', first{shape}'}"
    )


def _shape_fault(output: Any) -> str:
    """Why this is no answer of a detector about one row; empty if it is."""
    wanted = "a detector answers with a list, for each picture a dict of `boxes`, `scores` and `labels`"
    first = output[0] if isinstance(output, list | tuple) and output else output
    if isinstance(output, Mapping):
        return f"answers with one dict for the whole batch: {wanted}; {_RAW}"
    if not isinstance(first, Mapping):
        shape = f"a tensor of {'x'.join(map(str, first.shape))}" if isinstance(first, Tensor) else type(first).__name__
        return f"answers with {shape}: {wanted}; {_RAW}"
    missing = [key for key in ("boxes", "scores", "labels") if not isinstance(first.get(key), Tensor)]
    if missing:
        return f"answers without {' and '.join(missing)} (it has {', '.join(map(str, first))}): {wanted}"
    shapes = [tuple(first[key].shape) for key in ("boxes", "scores", "labels")]
    if shapes[0] != (len(first["scores"]), 4) or shapes[1] != shapes[2]:
        return f"answers with boxes, scores and labels of the shapes {shapes[0]}, {shapes[1]} and {shapes[2]}"
    return ""


def _boxes_fault(card: ModelCard, answer: Mapping[str, Tensor], width: int, height: int) -> str:
    """What is wrong with the boxes of a row of this size; empty if nothing is, or there are none."""
    boxes, scores, labels = answer["boxes"].float(), answer["scores"].float(), answer["labels"]
    if not len(boxes):
        return ""
    shown = "[" + ", ".join(f"{edge:.4g}" for edge in boxes[int(scores.argmax())].tolist()) + "]"
    if not bool(boxes.isfinite().all() and scores.isfinite().all()):
        return f"gives boxes or scores that are no numbers, for example {shown}"
    if not in_unit(scores):
        return f"gives scores in {span(scores)}, and scores lie in 0..1: put a sigmoid behind it"
    if float(boxes.abs().max()) <= _FRACTIONS and min(width, height) > _SMALL:
        return f"gives boxes in 0..1 of the picture, for example {shown}, and a detector's are in pixels: multiply them"
    wrong = (boxes[:, 2] < boxes[:, 0]) | (boxes[:, 3] < boxes[:, 1])
    if float(wrong.float().mean()) > _SOME:
        return f"gives boxes that are not x1, y1, x2, y2, for example {shown}: perhaps x, y, width, height"
    beyond = (boxes[:, 2] > width * _FAR) | (boxes[:, 3] > height * _FAR)
    if float(beyond.float().mean()) > _SOME:
        return (
            f"gives boxes beyond the picture of {width}x{height}, for example {shown}: they have to be x1, y1, x2, y2 "
            "in pixels of the picture that it gets"
        )
    numbers = set(labels.tolist())
    known = set(range(1, len(card.classes) + 1))
    if "labels" not in card.parameters and not numbers <= known:
        return (
            f"gives the label {min(numbers - known)}, and the card has no `labels`, so its {len(card.classes)} classes "
            f"are 1 to {len(card.classes)}: write labels = [...] under [parameters], the number of each class"
        )
    return ""
