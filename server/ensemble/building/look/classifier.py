"""A look at a classifier: whether it always answers the same, and what its numbers are.

A network may be readable and still be useless: traced in training mode it answers the same picture differently each
time, and softmax of one number is 1 for every picture. So it is asked more than once, about more than one picture,
alone and together with others.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import msgspec
import torch
from torch import Tensor, nn

from server.catalogue.card import ModelCard, Output
from server.domain.errors import ConfigurationError
from server.ensemble.building.look.asking import ROUNDING, ask, in_unit, numbers_of, pictures, span
from server.ensemble.decode import decode
from server.ensemble.faults import in_short
from server.ensemble.forms import normalised, row_of

_SUM = 5e-3
"""How far the sum of a softmax may be from 1; float16 misses it by .002."""
_ALIKE, _ALIKE_LOGITS, _APART = 0.02, 0.25, 0.2
"""A network whose scores and logits differ less between pictures does not tell them apart; with scores, it does."""
_LEAST = 1e-6
_COARSE = {"float16": 8e-3, "bfloat16": 6e-2}
"""Rounding of networks that take numbers of fewer bits."""
_MODE = "call `model.eval()` before `torch.jit.trace`, `torch.jit.script` or `torch.export`, and save it again"
_TRAINING = (("dropout", 2), ("dropout_", 2), ("feature_dropout", 2), ("alpha_dropout", 2), ("batch_norm", 5))
"""Operators of TorchScript, and where each takes whether it trains."""


ACTIVATIONS: dict[Output, str] = {
    "logits": "softmax",
    "probabilities": "none",
    "independent_logits": "sigmoid",
    "independent_probabilities": "none",
}
"""What makes scores of the numbers of a network, by what they are."""
Stated = Output | Literal["none"]
"""What the user says of the numbers; `none`: they are scores."""


class Look(NamedTuple):
    """What was seen: what the numbers of the network are, and what the user should know."""

    output: Output
    remarks: tuple[str, ...] = ()


def look(card: ModelCard, network: nn.Module, stated: Stated | None) -> Look:
    """Ask a classifier about the pictures of the shipped golden set. `network` gives its own numbers.

    `stated` is what the user says of them (`none`: scores already); None: the numbers show it, where they can. Raises
    ConfigurationError, with what to do, for a network that does not answer, not with a number for each class, or not
    always the same, and for numbers that are not as stated or may be two things.
    """
    pixels = [row_of(decode(picture), card.input).pixels for picture in pictures()[::2]]
    rows = [normalised(each[None], card.input) for each in pixels]
    answers = torch.cat([_repeated(card, network, row) for row in rows])
    _check_finite(card.name, answers)
    _check_together(card, network, rows, answers)
    output = _output_of(card.name, answers, stated)
    return Look(
        output, (*_remarks_of_range(answers, output), *_remarks_of_input(card, network, pixels, answers, output))
    )


def check_load(card: ModelCard, network: nn.Module) -> bool:
    """Ask a classifier about one row of noise, twice, and whether it gives more than one output.

    Raises ConfigurationError for a network that does not answer as its card says: not once, not with a number for each
    class, not always the same, or with other numbers than `output` says.
    """
    generator = torch.Generator().manual_seed(0)
    width, height = card.input.size
    shape = (2, card.input.channels, height, width)
    rows = normalised(torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8), card.input)
    has_more = not isinstance(ask(card.name, network, rows[:1]), Tensor)
    answers = torch.cat([_repeated(card, network, row[None]) for row in rows])
    if not bool(answers.isfinite().all()):
        return has_more  # the ensemble gives no answer then, and a model without one is not served
    try:
        with torch.inference_mode():
            together = numbers_of(card, network(rows))
    except Exception:  # noqa: BLE001  traced for one row: the ensemble then asks about one row at a time
        together = None
    if together is not None and together.shape == answers.shape and not _is_same(card, together.float(), answers):
        raise ConfigurationError(_depends(card.name))
    misfit = _misfit(answers, card.output)
    if misfit:
        raise ConfigurationError(f"{card.name}: {misfit}")
    return has_more


def _repeated(card: ModelCard, network: nn.Module, row: Tensor) -> Tensor:
    """The network's numbers [1, classes] for one row; asks twice. Raises ConfigurationError if the answers differ, and
    for a network that trains.
    """
    first, second = (_numbers(card, ask(card.name, network, row)) for _ in range(2))
    trains, is_same = _trains(network), _is_same(card, first, second)
    if trains:
        seen = "" if is_same else f", so the same picture gets {_shown(first)}, then {_shown(second)}"
        raise ConfigurationError(f"{card.name} was saved in training mode (its `{trains}` trains){seen}: {_MODE}")
    if not is_same:
        raise ConfigurationError(
            f"{card.name} does not answer the same picture the same way ({_shown(first)}, then {_shown(second)}): it "
            f"was saved in training mode, draws random numbers, or keeps a state between calls. If the first, {_MODE}"
        )
    return first


def _numbers(card: ModelCard, output: Any) -> Tensor:
    """The numbers for one row. Raises ConfigurationError if they are not one number for each class."""
    if _has_boxes(output):
        raise ConfigurationError(
            f'{card.name} answers with boxes: it is a detector, and its card needs kind = "detector" (--kind detector)'
        )
    first, classes = numbers_of(card, output), len(card.classes)
    if first is None:
        raise ConfigurationError(f"{card.name} answers with a {type(output).__name__} without a tensor in it")
    if first.shape != (1, classes):
        raise ConfigurationError(f"{card.name} {_of_shape(first, classes)}")
    return first.float()


def _check_finite(name: str, numbers: Tensor) -> None:
    if not bool(numbers.isfinite().all()):
        raise ConfigurationError(
            f"{name} answers a picture with values that are no numbers ({_shown(numbers)}): its weights are damaged, "
            "or it overflows"
        )


def _has_boxes(output: Any) -> bool:
    while isinstance(output, list | tuple) and output:
        output = output[-1]
    return isinstance(output, Mapping) and "boxes" in output


def _of_shape(first: Tensor, classes: int) -> str:
    shape = "x".join(map(str, first.shape)) or "one number"
    if first.dim() == 2 and first.shape[0] == 1:
        count, listed = first.shape[1], f"{classes} class{'es' if classes > 1 else ''}"
        hint = ""
        if count == 1:
            hint = ": one number is of one class, so the list needs the name of the positive class alone"
        elif count == classes + 1:
            hint = ": one more, perhaps a first class for the background"
        return f"gives {count} number{'s' if count > 1 else ''} for a picture, and the list has {listed}{hint}"
    if first.dim() == 2 and first.shape[1] == classes:
        return f"answers one picture with {first.shape[0]} rows: it was traced for that many pictures at once"
    if first.dim() == 4 and first.shape[2:].numel() > 1:
        return f"answers one picture with a map of {shape}: it finds areas or boxes, and a classifier gives 1x{classes}"
    if first.numel() == classes:
        return f"answers one picture with the shape {shape} instead of 1x{classes}: add `.flatten(1)` or `[None]`"
    return f"answers one picture with the shape {shape} instead of 1x{classes}"


def _check_together(card: ModelCard, network: nn.Module, rows: Sequence[Tensor], answers: Tensor) -> None:
    """Raises ConfigurationError unless pictures of one size are answered together as each alone."""
    alike = [place for place, row in enumerate(rows) if row.shape == rows[0].shape][:3]
    batch = torch.cat([rows[place] for place in alike])
    fixed = "it was traced or exported for one picture at a time; save it for any number (`torch.jit.script`, or a "
    fixed += "dynamic first dimension)"
    try:
        with torch.inference_mode():
            together = numbers_of(card, network(batch))
    except Exception as error:
        raise ConfigurationError(
            f"{card.name} does not take {len(batch)} pictures at once, and one it does ({in_short(error)}): {fixed}"
        ) from error
    if together is None or together.shape != (len(batch), len(card.classes)):
        shape = "no tensor" if together is None else "x".join(map(str, together.shape))
        raise ConfigurationError(f"{card.name} answers {len(batch)} pictures with the shape {shape}: {fixed}")
    if not _is_same(card, together.float(), answers[alike]):
        raise ConfigurationError(_depends(card.name))


def _depends(name: str) -> str:
    return (
        f"{name} answers a picture differently when other pictures are in the batch, as batch normalisation does in "
        f"training mode: {_MODE}"
    )


def _output_of(name: str, answers: Tensor, stated: Stated | None) -> Output:
    """What the numbers are. Raises ConfigurationError when they are not as stated, or may be two things."""
    if stated == "none":
        stated = "probabilities" if _sums_to_1(answers) else "independent_probabilities"
    if stated is not None:
        misfit = _misfit(answers, stated)
        if misfit:
            raise ConfigurationError(f"{name}: {misfit}")
        return stated
    if _sums_to_1(answers):
        return "probabilities"
    single = answers.shape[1] == 1
    plain: Output = "independent_logits" if single else "logits"
    if not in_unit(answers):
        return plain
    what = "gives one number" if single else "gives numbers that do not sum to 1"
    raise ConfigurationError(
        f"{name} {what}, {span(answers)}: say what they are. Use --activation none if the network ends in a sigmoid, "
        f"--activation {ACTIVATIONS[plain]} if it does not (the card's entry `output`)"
    )


def _misfit(answers: Tensor, output: Output) -> str:
    """Why the numbers cannot be `output`, and what they are; empty if they can."""
    sigmoid: Output = "independent_probabilities" if in_unit(answers) else "independent_logits"
    sums, seen = _sums_to_1(answers), f"its numbers lie in {span(answers)}"
    if answers.shape[1] == 1 and output in ("logits", "probabilities"):
        return f"it gives one number, whose softmax is always 1: {_entry(sigmoid)}"
    if sums and output != "probabilities":
        return f"its numbers are probabilities already, they sum to 1: {_entry('probabilities')}"
    if output == "probabilities" and not sums:
        if in_unit(answers):
            return f"{seen} and do not sum to 1: {_entry(sigmoid)}"
        return f"{seen}, so it does not end in a softmax: {_entry('logits')}"
    if output == "independent_probabilities" and not in_unit(answers):
        return f"{seen}, so it does not end in a sigmoid: {_entry('independent_logits')}"
    return ""


def _entry(output: Output) -> str:
    return f'the card needs output = "{output}" (`models adopt --activation {ACTIVATIONS[output]}`)'


def _remarks_of_range(answers: Tensor, output: Output) -> Iterator[str]:
    if output == "independent_logits" and in_unit(answers):
        yield (
            f"its numbers lie in {span(answers)}. If the network ends in a sigmoid, the entry is "
            'output = "independent_probabilities"'
        )


def _remarks_of_input(
    card: ModelCard, network: nn.Module, pixels: Sequence[Tensor], answers: Tensor, output: Output
) -> Iterator[str]:
    """Whether the network tells pictures apart, and if not, whether it does so for values in 0..255 or 0..1."""
    spread = _spread(answers, output)
    is_told_apart = spread >= _ALIKE or _logit_spread(answers, output) >= _ALIKE_LOGITS
    if is_told_apart or card.input.dtype in ("uint8", "int64"):
        return
    for mean, std, values in (((0.0,), (1.0,), "0..255"), ((0.0,), (255.0,), "0..1"), ((127.5,), (127.5,), "-1..1")):
        form = msgspec.structs.replace(card.input, mean=mean, std=std)
        try:
            with torch.inference_mode():
                others = [numbers_of(card, network(normalised(each[None], form))) for each in pixels]
        except Exception:  # noqa: BLE001, S112  it takes no such values
            continue
        if _spread(torch.cat([other.float() for other in others if other is not None]), output) >= _APART:
            yield (
                f"its scores for {len(pixels)} different pictures differ by {spread:.3f} only, and by much more with "
                f"values in {values}. If it was trained so, write mean = {list(mean)} and std = {list(std)} under "
                "[input]"
            )
            return
    if spread < ROUNDING:
        yield f"it gives {len(pixels)} different pictures the same scores: look at [input], or at its training"


def _spread(answers: Tensor, output: Output) -> float:
    """By how much a score differs between pictures, at most."""
    scores = {"logits": lambda: answers.softmax(1), "independent_logits": answers.sigmoid}.get(
        output, lambda: answers
    )()
    return float((scores.amax(0) - scores.amin(0)).max())


def _logit_spread(answers: Tensor, output: Output) -> float:
    """The same of logits: a network that is sure of the same class for all pictures still has other logits for each."""
    logits = answers
    if output == "probabilities":
        logits = answers.clamp_min(_LEAST).log()
    elif output == "independent_probabilities":
        logits = answers.clamp(_LEAST, 1 - _LEAST).logit()
    return float((logits.amax(0) - logits.amin(0)).max())


def _sums_to_1(answers: Tensor) -> bool:
    return answers.shape[1] > 1 and in_unit(answers) and bool(((answers.sum(1) - 1).abs() <= _SUM).all())


def _is_same(card: ModelCard, first: Tensor, second: Tensor) -> bool:
    bound = _COARSE.get(card.input.dtype, ROUNDING) * max(1.0, float(first.abs().max()))
    first, second = first.nan_to_num(), second.nan_to_num()
    return first.shape == second.shape and float((first - second).abs().max()) <= bound


def _shown(answer: Tensor) -> str:
    values = answer.flatten().tolist()
    return " ".join(f"{value:.3g}" for value in values[:3]) + (" ..." if len(values) > 3 else "")


def _trains(network: nn.Module) -> str:
    """The operator with which a traced network trains, whatever mode it is set to; empty if there is none."""
    graph = getattr(network, "inlined_graph", None)
    if graph is None:
        return ""
    for name, place in _TRAINING:
        for node in graph.findAllNodes(f"aten::{name}"):
            inputs = list(node.inputs())
            share = inputs[1].toIValue() if "dropout" in name else 1
            if len(inputs) > place and inputs[place].toIValue() is True and share != 0:
                return name
    return ""
