"""What each step and each optimisation costs on one core: the least of several CPU times, in ms per image.

    python -m tests.benchmarks.steps --footage vtest.avi

These are the grounds for what the server does and does not do: conv-bn fusion and channels last are kept, scaled JPEG
decoding is not (it would save the difference between `decode` and `decode, scaled`, and make a model's labels depend
on which other models share the decode).
"""

from __future__ import annotations

import io
import os
import time
from collections.abc import Callable
from pathlib import Path

import click

from server.hosting import torch_environment

os.environ |= torch_environment()  # before torch is loaded

import torch
from PIL import Image

from server.ensemble.decode import decode
from server.ensemble.forms import normalised, row_of
from server.ensemble.tuning import tuned
from tests.benchmarks.work import FORM, SIZES, frames_of, torchvision_models

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
        _forward(footage)


def _decoding(size: str, jpeg: bytes) -> None:
    def scaled() -> Image.Image:
        picture = Image.open(io.BytesIO(jpeg))
        picture.draft("RGB", (round(256 * picture.width / picture.height), 256))
        return picture.convert("RGB")

    frame = decode(jpeg)
    click.echo(
        f"{size}: decode {_ms(lambda: decode(jpeg)):.1f}; Pillow alone "
        f"{_ms(lambda: Image.open(io.BytesIO(jpeg)).convert('RGB')):.1f}; decode, scaled to "
        f"{'x'.join(map(str, scaled().size))} {_ms(scaled):.1f}; resize and crop {_ms(lambda: row_of(frame, FORM)):.1f}"
    )


def _forward(footage: Path) -> None:
    rows = [row_of(decode(frame), FORM).pixels for frame in frames_of(footage, "768x576")[: max(_BATCHES)]]
    eager = [network for _card, network in torchvision_models(footage)]
    models = [(card, network.to(memory_format=torch.channels_last)) for card, network in torchvision_models(footage)]  # type: ignore[call-overload]
    networks = {
        "as they are": eager,
        "channels last": [network for _card, network in models],
        "and fused": [tuned(network, FORM) for network in eager],
    }
    for place, (card, _network) in enumerate(models):
        for size in _BATCHES:
            batch = normalised(torch.stack(rows[:size]), FORM)
            plain = batch.contiguous()
            costs = [
                f"{name} {_ms(lambda n=part[place], b=(plain if name == 'as they are' else batch): n(b)) / size:.1f}"  # type: ignore[misc]
                for name, part in networks.items()
            ]
            click.echo(f"{card.name}, batch of {size}: {'; '.join(costs)}")


def _ms(step: Callable[[], object]) -> float:
    best = float("inf")
    for _ in range(_TIMES):
        began = time.thread_time()
        step()
        best = min(best, time.thread_time() - began)
    return 1e3 * best


if __name__ == "__main__":
    main()
