"""Writes cards for networks that exist: files as in a folder of FlexServe's `dmodels`, or torchvision's by name.

A card is written only after the network was loaded and asked about some pictures: a file in a process of its own,
torchvision's weights, which are numbers only, in this one. The file stays where it is. The card holds its digest, and
that the user trusts it if it can run code.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from server.catalogue import ModelCard, parse_card
from server.catalogue.card import Output
from server.domain.errors import ConfigurationError
from server.ensemble.adoption.apart import examined
from server.ensemble.adoption.card_text import of_file, place_of, toml, written
from server.ensemble.adoption.child import Limits
from server.ensemble.adoption.examination import Question, Seen
from server.ensemble.building import network_of
from server.ensemble.building.foreign import Detector
from server.ensemble.building.look import check_detector, check_load


class Adopted(NamedTuple):
    """A card that was written, its file, and what the user should know of the network.

    `code` says how the file can run code; empty: it cannot.
    """

    card: ModelCard
    path: Path
    remarks: tuple[str, ...]
    code: str


def adopt(
    file: Path,
    classes: Sequence[str],
    models_dir: Path,
    *,
    factory: str = "",
    trusted: bool = False,
    output: Output | None = None,
    limits: Limits | None = None,
    examine: Callable[[Question, Limits], Seen] = examined,
) -> Adopted:
    """Write the card of one classifier into a folder of its own below `models_dir`, and give it.

    `factory` (`package.module:callable`) is needed for weights without a network, `trusted` for a file that can run
    code. `output` says what its numbers are; None: they show it, where they can. Raises ConfigurationError when the
    format is unknown, when something is missing for it, when the network is not fit to be served, and when it takes
    more than `limits`.
    """
    path = place_of(file.stem, models_dir)
    question = Question(
        str(file.absolute()),
        str(path.absolute()),
        of_file(file, path),
        tuple(classes),
        factory=factory,
        trusted=trusted,
        output=output,
    )
    seen = examine(question, limits or Limits())
    content = question.card_content(seen.format, seen.output, trusted=bool(seen.code))
    return Adopted(written(path, content), path, seen.remarks, seen.code)


def adopt_torchvision(architecture: str, models_dir: Path, file: Path | None = None) -> ModelCard:
    """Write the card of a torchvision network, with its usual weights from `file` or from PyTorch's download folder.

    Raises ConfigurationError when there is no such network, and when the weights are not there and cannot be
    downloaded.
    """
    from server.ensemble import torchvision_models  # importing torchvision takes seconds

    content, address = torchvision_models.card_content(architecture)
    weights = file or _downloaded(address)
    path = place_of(f"torchvision-{architecture}", models_dir)
    content = of_file(weights, path, [] if file else [{"from": "url", "url": address}]) | content
    card = parse_card(toml(content), path)
    network = network_of(card, weights)
    if isinstance(network, Detector):
        check_detector(card, network.network)
    else:
        check_load(card, network)
    return written(path, content)


def _downloaded(address: str) -> Path:
    """The file where PyTorch keeps the weights of that address, downloaded if it is not there."""
    path = Path(torch.hub.get_dir(), "checkpoints", address.rpartition("/")[2])
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        prefix = re.search(r"-([0-9a-f]{8,})\.", path.name)
        try:
            torch.hub.download_url_to_file(address, str(path), prefix[1] if prefix else None, progress=False)
        except (OSError, RuntimeError) as error:
            raise ConfigurationError(
                f"no weights at {path}, and {address} does not give them: {error}; name a file of them with --weights"
            ) from error
    return path
