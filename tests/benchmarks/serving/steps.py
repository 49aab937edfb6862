"""What each step and each optimisation costs on one core: the least of several CPU times, in ms per image.

    python -m tests.benchmarks.serving.steps --footage vtest.avi

These are the grounds for what the server does and does not do: conv-bn fusion and channels last are kept. Scaled JPEG
decoding is not: it would save the difference between `decode` and `decode, scaled`, and make a model's labels depend
on which other models share the decode. Nor is one preallocated uint8 batch, into which rows are copied and from which
they are normalised into a preallocated float one: it would save the difference between `stacked` and `into place`.
The alternatives of a step take turns, so that a busy machine is as bad for the one as for the other.
"""

from __future__ import annotations

import io
import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import click

from server.serving.machine import torch_environment

os.environ |= torch_environment()  # before torch is loaded

import torch
from PIL import Image

from server.ensemble.decode import decode
from server.ensemble.forms import normalised, row_of
from server.ensemble.tuning import tuned
from tests.benchmarks.events.footage import SIZES, frames_of
from tests.benchmarks.serving.work import FORM, torchvision_models

_BATCHES = (1, 2, 4, 5, 8)
_TIMES = 7


@click.command()
@click.option("--footage", type=click.Path(exists=True, path_type=Path), required=True)
def main(footage: Path) -> None:
    """Measure, and print."""
    torch.set_num_threads(1)
    with torch.inference_mode():
        for size in SIZES:
            _decoding(size, frames_of(footage, size)[0])
        _batching(footage)
        _forward(footage)


def _decoding(size: str, jpeg: bytes) -> None:
    def scaled() -> Image.Image:
        picture = Image.open(io.BytesIO(jpeg))
        picture.draft("RGB", (round(256 * picture.width / picture.height), 256))
        return picture.convert("RGB")

    frame = decode(jpeg)
    whole_ms, pillow_ms, scaled_ms, row_ms = _in_turns(
        lambda: decode(jpeg),
        lambda: Image.open(io.BytesIO(jpeg)).convert("RGB"),
        scaled,
        lambda: row_of(frame, FORM),
    )
    click.echo(
        f"{size}: decode {whole_ms:.1f}; Pillow alone {pillow_ms:.1f}; "
        f"decode, scaled to {'x'.join(map(str, scaled().size))} {scaled_ms:.1f} ({scaled_ms / whole_ms:.2f}); "
        f"resize and crop {row_ms:.1f}"
    )


def _batching(footage: Path) -> None:
    """Rows to a network's input: as the server does it, and into memory that is kept."""
    rows = [row_of(decode(frame), FORM).pixels for frame in frames_of(footage, "768x576")[: max(_BATCHES)]]
    kept, floats = torch.stack(rows), normalised(torch.stack(rows), FORM)
    mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in (FORM.mean, FORM.std))

    def into_place() -> torch.Tensor:
        for place, row in enumerate(rows):
            kept[place].copy_(row)
        return floats.copy_(kept).sub_(mean).div_(std)

    assert torch.equal(into_place(), normalised(torch.stack(rows), FORM))
    stacked_ms, kept_ms = _in_turns(lambda: normalised(torch.stack(rows), FORM), into_place)
    ratio, each = kept_ms / stacked_ms, len(rows)
    click.echo(
        f"a batch of {each}, per image: stacked {stacked_ms / each:.2f}; into place {kept_ms / each:.2f} ({ratio:.2f})"
    )


def _forward(footage: Path) -> None:
    rows = [row_of(decode(frame), FORM).pixels for frame in frames_of(footage, "768x576")[: max(_BATCHES)]]
    eager = [network for _card, network in torchvision_models(footage)]
    models = [(card, network.to(memory_format=torch.channels_last)) for card, network in torchvision_models(footage)]
    networks = {
        "as they are": eager,
        "channels last": [network for _card, network in models],
        "and fused": [tuned(network, FORM) for network in eager],
    }
    for place, (card, _network) in enumerate(models):
        for size in _BATCHES:
            batch = normalised(torch.stack(rows[:size]), FORM)
            plain = batch.contiguous()
            fed = [(part[place], plain if name == "as they are" else batch) for name, part in networks.items()]
            costs = _in_turns(*(partial(network, rows) for network, rows in fed))
            told = (f"{name} {cost / size:.1f}" for name, cost in zip(networks, costs, strict=True))
            click.echo(f"{card.name}, batch of {size}: {'; '.join(told)}")


def _in_turns(*steps: Callable[[], object]) -> list[float]:
    """The least CPU time of each (ms)."""
    best = [float("inf")] * len(steps)
    for _ in range(_TIMES):
        for place, step in enumerate(steps):
            began = time.thread_time()
            step()
            best[place] = min(best[place], time.thread_time() - began)
    return [1e3 * each for each in best]


if __name__ == "__main__":
    main()
