"""Writes cards for networks that exist: files as in a folder of FlexServe's `dmodels`, or torchvision's by name.

A card is written only after the network was loaded and asked about some pictures: a file in a process of its own,
torchvision's weights, which are numbers only, in this one. The file stays where it is. The card holds its digest, and
that the user trusts it if it can run code.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from server.catalogue import InputForm, ModelCard, code_it_runs, parse_card
from server.domain.errors import ConfigurationError
from server.ensemble.adoption.apart import examined
from server.ensemble.adoption.card_text import of_file, place_of, toml, written
from server.ensemble.adoption.child import Limits
from server.ensemble.adoption.code_file import code_files
from server.ensemble.adoption.examination import Activation, Kind, Question, Seen, untrusted
from server.ensemble.building import network_of
from server.ensemble.building.detector import Detector
from server.ensemble.building.look import check_detector, check_load

Changed = Callable[[dict[str, Any]], dict[str, Any]]
"""The content of a card -> the same, as the user wants it."""


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
    kind: Kind = "classifier",
    factory: str = "",
    postprocess: str = "",
    trusted: bool = False,
    output: str | None = None,
    activation: Activation | None = None,
    argmax: bool | None = None,
    form: InputForm | None = None,
    limits: Limits | None = None,
    examine: Callable[[Question, Limits], Seen] = examined,
) -> Adopted:
    """Write the card of one network into a folder of its own below `models_dir`, and give it.

    `factory` is needed for weights without a network, `postprocess` for a detector that does not answer as those of
    torchvision: `package.module:callable`, or `file.py:callable` for a file that is copied into the model's folder.
    `trusted` is needed for files that can run code. `output` is the part of an answer that counts, `activation` what
    makes scores of its numbers; None: they show it, where they can. `argmax` and the `form` of the input are as in
    cards; None: as `Question` says, and FlexServe's. Raises ConfigurationError when the format is unknown, when
    something is missing for it, when the network is not fit to be served, and when it takes more than `limits`.
    """
    path = place_of(file.stem, models_dir)
    with code_files({"factory": factory, "postprocess": postprocess}, path) as code:
        if code.files and not trusted:
            raise ConfigurationError(untrusted(file, code.described))
        question = Question(
            str(file.absolute()),
            str(code.card.absolute()),
            of_file(file, path),
            tuple(classes),
            kind=kind,
            factory=code.named["factory"],
            postprocess=code.named["postprocess"],
            trusted=trusted,
            output=output or "",
            activation=activation,
            argmax=argmax,
            form=form,
        )
        seen = examine(question, limits or Limits())
        content = question.card_content(seen.format, seen.output, key=seen.output_key, trusted=bool(seen.code))
        code.copy()
    card = written(path, content)
    return Adopted(card, path, seen.remarks, code_it_runs(card, file))


def adopt_torchvision(
    architecture: str,
    models_dir: Path,
    file: Path | None = None,
    classes: Sequence[str] = (),
    *,
    changed: Changed = lambda content: content,
) -> ModelCard:
    """Write the card of a torchvision network, with its usual weights from `file` or from PyTorch's download folder, or
    with weights in `file` that were trained on for `classes`. `changed` gives the content of the card as the user wants
    it.

    Raises ConfigurationError when there is no such network, when the weights are not there and cannot be downloaded,
    and when their head has another number of classes.
    """
    from server.ensemble import torchvision_models  # importing torchvision takes seconds

    content, address = torchvision_models.card_content(architecture)
    weights = file or _downloaded(address)
    if classes:
        content = torchvision_models.tuned_content(architecture, weights, classes)
    name = weights.stem if classes else f"torchvision-{architecture}"
    return _written_by_name(name, models_dir, weights, [] if file else [address], changed(content))


def adopt_timm(
    architecture: str,
    models_dir: Path,
    file: Path,
    classes: Sequence[str] = (),
    *,
    changed: Changed = lambda content: content,
) -> ModelCard:
    """Write the card of a network of timm with the weights in `file`. Without `classes` they are ImageNet's.

    Raises ConfigurationError when timm is not installed or has no such network, and when the weights are not its own or
    their head has another number of classes.
    """
    from server.ensemble.building import timm_models

    content = timm_models.card_content(architecture, file, classes)
    name = file.stem if classes else f"timm-{architecture}"
    return _written_by_name(name, models_dir, file, [], changed(content))


def adopt_hugging_face(folder: Path, models_dir: Path, *, changed: Changed = lambda content: content) -> ModelCard:
    """Write the card of an image classifier or object detector in a folder of `save_pretrained`, which stays there.

    Raises ConfigurationError when transformers is not installed, and for a folder of another network.
    """
    from server.ensemble.building import hugging_face

    content = hugging_face.card_content(folder)
    return _written_by_name(folder.resolve().name, models_dir, folder / hugging_face.WEIGHTS, [], changed(content))


def _written_by_name(
    name: str, models_dir: Path, weights: Path, addresses: Sequence[str], content: dict[str, Any]
) -> ModelCard:
    """Write the card of a network that a factory of ours makes, once it has answered."""
    path = place_of(name, models_dir)
    content = of_file(weights, path, [{"from": "url", "url": address} for address in addresses]) | content
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
