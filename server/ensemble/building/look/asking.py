"""Asks a network about a row, and finds out what it takes where it does not take that."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from server.catalogue.card import ModelCard
from server.domain.errors import ConfigurationError, SectorwatchError
from server.ensemble.faults import in_short
from server.ensemble.forms import normalised
from server.ensemble.golden import read_golden, shipped_golden

_SIZES = (28, 32, 64, 96, 112, 128, 160, 192, 224, 240, 256, 260, 288, 299, 300, 320, 384, 416, 448, 480, 512, 640)
_BATCHES = (2, 4, 8, 16, 32, 64)

ROUNDING = 1e-3
"""Of the largest number, at least of 1: rounding moves an answer by a hundredth of that."""


def ask(name: str, network: Callable[[Tensor], Any], rows: Tensor) -> Any:
    """The network's own answer. Raises ConfigurationError, with what it takes instead where that can be found out."""
    try:
        with torch.inference_mode():
            return network(rows)
    except SectorwatchError:
        raise
    except Exception as error:
        if "allocate memory" in str(error):  # whatever else is tried, it would ask for as much
            raise ConfigurationError(f"{name} asks for more memory than there is: {in_short(error)}") from error
        height, width = rows.shape[-2:]
        channels = "colour" if rows.shape[1] == 3 else "grey"
        taken = next(_taken(network, rows), None)
        what = taken or f"raises {in_short(error)}"
        raise ConfigurationError(f"{name} does not take a {channels} picture of {width}x{height}: it {what}") from error


def a_row(card: ModelCard) -> Tensor:
    """One row of noise, as the card's network gets it: always the same."""
    generator = torch.Generator().manual_seed(0)
    width, height = card.input.size
    noise = torch.randint(0, 256, (1, card.input.channels, height, width), generator=generator, dtype=torch.uint8)
    return normalised(noise, card.input)


def first_tensor(output: Any) -> Tensor | None:
    """The first tensor of an answer with several parts; None if there is none."""
    while isinstance(output, Mapping | tuple | list) and output:
        output = next(iter(output.values() if isinstance(output, Mapping) else output))
    return output if isinstance(output, Tensor) else None


def part_of(output: Any, key: str) -> Any:
    """The part of an answer with that key: of a dict, of an object with names, of a tuple by its place; None if there
    is none. Without a key: the answer.
    """
    if not key:
        return output
    if isinstance(output, Mapping):
        return output.get(key)
    if isinstance(output, tuple | list) and key.isdigit():
        return output[int(key)] if int(key) < len(output) else None
    return getattr(output, key, None)


def parts_of(output: Any) -> tuple[str, ...]:
    """The keys that `part_of` knows in an answer; none if it is one tensor."""
    if isinstance(output, Mapping):
        return tuple(map(str, output))
    names = getattr(output, "_fields", None)
    if isinstance(output, tuple | list):
        return tuple(map(str, names or range(len(output))))
    return ()


def chosen_part(card: ModelCard, output: Any) -> Any:
    """The part of an answer that the card names. Raises ConfigurationError if the answer has no such part."""
    part = part_of(output, card.output_key)
    if part is None:
        parts = ", ".join(f"`{name}`" for name in parts_of(output)) or f"a {type(output).__name__} without parts"
        raise ConfigurationError(
            f"{card.name} answers without the part `{card.output_key}` (output_key in its card): it has {parts}"
        )
    return part


def numbers_of(card: ModelCard, output: Any) -> Tensor | None:
    """The tensor with a classifier's numbers; None if there is none. Raises ConfigurationError as `chosen_part`."""
    return first_tensor(chosen_part(card, output))


def pictures() -> tuple[bytes, ...]:
    """Pictures of people and things, those of the shipped golden set."""
    return read_golden(shipped_golden()).pictures


def _taken(network: Callable[[Any], Any], rows: Tensor) -> Iterator[str]:
    """What the network takes instead of `rows` [1, C, H, W], as `takes ...`."""
    for what, other in _others(rows):
        try:
            with torch.inference_mode():
                network(other)
        except Exception:  # noqa: BLE001, S112  that is what is asked
            continue
        yield what


def _others(rows: Tensor) -> Iterator[tuple[str, Any]]:
    for kind in (torch.float32, torch.float16, torch.bfloat16, torch.float64):
        name = str(kind).removeprefix("torch.")
        save = "call `model.float()` before you save it, or " if kind is not torch.float32 else ""
        if rows.dtype != kind:
            yield f'wants {name}: {save}give --dtype {name} (dtype = "{name}" under [input])', rows.to(kind)
    for kind in (torch.uint8, torch.int64):
        name = str(kind).removeprefix("torch.")
        todo = f'give --dtype {name} (dtype = "{name}" under [input], without mean and std)'
        yield f"wants whole numbers ({name}): {todo}", rows.abs().to(kind)
    yield 'takes a list of pictures, as a detector does: --kind detector (kind = "detector" in its card)', [rows[0]]
    yield "wants the colours last (H, W, C): put a layer before it that permutes", rows.permute(0, 2, 3, 1).contiguous()
    yield "wants a single picture without a batch (C, H, W): put a layer before it that takes a batch", rows[0]
    height, width = rows.shape[-2:]
    for channels in dict.fromkeys((rows.shape[1], 1, 3, 4)):
        colour = {1: 'colour = "grey"', 3: 'colour = "rgb"'}.get(channels, f"{channels} colours, which no card has")
        for size in dict.fromkeys(((width, height), *((side, side) for side in _SIZES))):
            entries = [f"size = [{size[0]}, {size[1]}]"] if size != (width, height) else []
            options = [f"--size {size[0]}x{size[1]}"] if entries else []
            if channels != rows.shape[1]:
                entries.append(colour)
                options += {1: ["--channels grey"], 3: ["--channels rgb"]}.get(channels, [])
            todo = f"give {' '.join(options)} ({' and '.join(entries)} under [input])"
            what = todo if channels in (1, 3) else "put a layer before it that takes 3"
            yield (
                f"takes one with {' and '.join(entries)}: {what}",
                torch.zeros(1, channels, size[1], size[0], dtype=rows.dtype),
            )
    for count in _BATCHES:
        yield f"was traced for {count} pictures at once: save it for any number", rows.expand(count, *rows.shape[1:])


def in_unit(numbers: Tensor) -> bool:
    """Whether all lie in 0..1, but for rounding."""
    return bool(((numbers >= -ROUNDING) & (numbers <= 1 + ROUNDING)).all())


def span(numbers: Tensor) -> str:
    """The smallest and the largest, for a message."""
    return f"{float(numbers.min()):.3g}..{float(numbers.max()):.3g}"
