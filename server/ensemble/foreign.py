"""Networks of other people, unconverted: TorchScript, `torch.export`, weights for a factory, and pickled modules.

A pickled module runs what it says as it is read, so its card has to trust it. Weights are read as numbers only.
PyTorch would unpickle parts of an exported program, too; one with such parts is refused. Its reader still evaluates
the sizes that a program states, so `export` is for files from people one believes; the digest in the card sees to it
that the file is theirs.

Whatever a network gives back is brought to what the ensemble expects: logits [rows, classes] of a classifier,
`Detections` of a detector.
"""

from __future__ import annotations

import importlib
import json
import pickle
import textwrap
import warnings
import zipfile
from collections.abc import Callable, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from server.catalogue import ModelCard
from server.domain.errors import ConfigurationError
from server.ensemble.detections import Detections

VERSIONS = {"torchscript": 1, "export": 1, "safetensors": 1, "state_dict": 1, "pickle": 1}
"""Of each format; raise the one whose files give another network, and all when the wrappers of classifiers change."""
DETECTOR_VERSIONS = {"detector-dicts": 1}
"""Of `Detector`; raise it when it gives other detections."""

_PLAIN = ("weight_", "tensor_")
"""What an exported program calls its tensors; other parts are objects."""
_LEAST_PROBABILITY = 1e-12
_SHORT = 400

FactoryOf = Callable[[ModelCard], Callable[..., Any]]


class FirstOutput(nn.Module):
    """A classifier with several outputs, of which the first is [rows, classes]."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, rows: Tensor) -> Tensor:
        return _first_tensor(self.network(rows))


class LogProbabilities(nn.Module):
    """A classifier that ends in a softmax: the logarithm of its probabilities are logits."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, rows: Tensor) -> Tensor:
        probabilities: Tensor = self.network(rows)
        return probabilities.clamp_min(_LEAST_PROBABILITY).log()


class Detector(nn.Module):
    """A network that answers as torchvision's detectors do: a dict of `boxes` (pixels), `scores`, `labels` per row.

    `labels` are the network's numbers of the card's classes, in their order; what has another number is dropped.
    """

    def __init__(self, network: nn.Module, labels: Sequence[int], *, score_floor: float = 0.0) -> None:
        super().__init__()
        self.network = network
        self.labels = tuple(labels)
        self.score_floor = score_floor

    def forward(self, rows: Tensor) -> list[Detections]:
        output = self.network([row.contiguous() for row in rows])
        if isinstance(output, tuple):  # a scripted detector of torchvision's: losses, detections
            output = output[-1]
        height, width = rows.shape[-2:]
        return [self._row(row, (width, height)) for row in output]

    def _row(self, output: Mapping[str, Tensor], size: tuple[int, int]) -> Detections:
        boxes, scores, numbers = output["boxes"].float(), output["scores"].float(), output["labels"]
        classes = torch.full_like(numbers, -1)
        for index, number in enumerate(self.labels):
            classes[numbers == number] = index
        kept = torch.nonzero((classes >= 0) & (scores >= self.score_floor)).flatten()
        kept = kept[torch.argsort(scores[kept], descending=True, stable=True)]
        return Detections(boxes[kept] / boxes.new_tensor(size * 2), scores[kept], classes[kept])


class Exported(nn.Module):
    """A `torch.export`ed program: it is in evaluation mode for good, and may want a certain number of rows."""

    def __init__(self, program: torch.export.ExportedProgram) -> None:
        super().__init__()
        self.network = program.module()
        self.rows = _fixed_rows(program)
        self.training = False

    def train(self, mode: bool = True) -> Exported:
        """Evaluation mode is all it has: PyTorch refuses to ask the graph inside for either."""
        if mode:
            raise RuntimeError("an exported program cannot be trained")
        return self

    def forward(self, rows: Tensor) -> Any:
        if self.rows is None:
            return self.network(rows)
        parts = []
        for part in torch.split(rows, self.rows):
            missing = self.rows - len(part)
            filled = torch.cat((part, part[-1:].expand(missing, *part.shape[1:]))) if missing else part
            parts.append(_first_tensor(self.network(filled))[: len(part)])
        return torch.cat(parts)


def versions(card: ModelCard) -> dict[str, int]:
    """The versions of what brings this card's file to what the ensemble expects."""
    detector = DETECTOR_VERSIONS if card.kind == "detector" else {}
    return {card.format: VERSIONS[card.format], **detector}


def load(card: ModelCard, weights: Path, factory_of: FactoryOf) -> nn.Module:
    """The network of a card whose `format` is not `factory`, wrapped as its `kind` wants.

    Raises ConfigurationError when the file is not of its format or does not fit.
    """
    network = _READERS[card.format](card, weights, factory_of)
    if card.kind == "detector":
        labels = card.parameters.get("labels", tuple(range(1, len(card.classes) + 1)))
        if not isinstance(labels, tuple) or len(labels) != len(card.classes):
            raise ConfigurationError(
                f"the card of {card.name} needs as many `labels` in its [parameters] as it has classes"
            )
        floor = card.number("score_floor") if "score_floor" in card.parameters else 0.0
        return Detector(network, [int(label) for label in labels], score_floor=floor)
    if not isinstance(_asked_once(network.eval(), card), Tensor):
        network = FirstOutput(network)
    return LogProbabilities(network) if card.output == "probabilities" else network


def state_of(path: Path, form: str) -> dict[str, Tensor]:
    """The tensors of a `safetensors` or `state_dict` file by name; nothing in the file is run."""
    if form == "safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    state = torch.load(path, map_location="cpu", weights_only=True)
    for nested in ("state_dict", "model"):  # as training scripts save it, beside the optimiser
        if isinstance(state, dict) and isinstance(state.get(nested), dict):
            state = state[nested]
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ConfigurationError(f"{path} holds no state dict")
    return dict(state)


def in_short(error: Exception) -> str:
    """What PyTorch says of weights that do not fit; it names every tensor of a large network."""
    return textwrap.shorten(str(error), _SHORT)


def _asked_once(network: nn.Module, card: ModelCard) -> Any:
    """What the network says of one grey row; so a plain one needs no wrapper, which would hide it from `tuning`."""
    width, height = card.input.size
    with torch.inference_mode():
        return network(torch.zeros(1, 3 if card.input.colour == "rgb" else 1, height, width))


def _scripted(_card: ModelCard, weights: Path, _factory_of: FactoryOf) -> nn.Module:
    _know_operators()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # "deprecated": what people have is TorchScript all the same
        network: nn.Module = torch.jit.load(str(weights), map_location="cpu")  # type: ignore[no-untyped-call]
    return network


def _exported(_card: ModelCard, weights: Path, _factory_of: FactoryOf) -> nn.Module:
    _check_unpickled(weights)
    _know_operators()
    return Exported(torch.export.load(weights))


def _know_operators() -> None:
    """torchvision's, which a program may call by name: it registers them when it is imported, and not sooner."""
    importlib.import_module("torchvision")


def _check_unpickled(program: Path) -> None:
    """Raises ConfigurationError for an exported program with parts that `torch.export.load` would unpickle without
    care.
    """
    with zipfile.ZipFile(program) as archive:
        for name in archive.namelist():
            if name.endswith("_config.json"):
                parts = json.loads(archive.read(name)).get("config", {}).values()
                plain = all(not part["use_pickle"] and part["path_name"].startswith(_PLAIN) for part in parts)
                if not plain:
                    raise ConfigurationError(f"{program} has pickled parts ({name})")
            elif name.endswith(".pt"):
                try:
                    torch.load(BytesIO(archive.read(name)), weights_only=True)
                except pickle.UnpicklingError as error:
                    raise ConfigurationError(f"{program} has pickled parts ({name})") from error


def _filled(card: ModelCard, weights: Path, factory_of: FactoryOf) -> nn.Module:
    wanted = {name: value for name, value in card.parameters.items() if name not in _OURS}
    network = factory_of(card)(**wanted)
    if not isinstance(network, nn.Module):
        raise ConfigurationError(
            f"the factory `{card.factory}` of {card.name} gives a {type(network).__name__}, not an nn.Module"
        )
    try:
        network.load_state_dict(state_of(weights, card.format))
    except RuntimeError as error:
        raise ConfigurationError(
            f"the weights of {card.name} do not fit what its factory makes: {in_short(error)}"
        ) from error
    return network


def _pickled(card: ModelCard, weights: Path, _factory_of: FactoryOf) -> nn.Module:
    assert card.trusted, "a card of a pickled module is refused without"
    network = torch.load(weights, map_location="cpu", weights_only=False)
    if not isinstance(network, nn.Module):
        raise ConfigurationError(f"{weights} holds a {type(network).__name__}, not an nn.Module")
    return network


_OURS = frozenset({"labels", "score_floor"})
"""Parameters that are for us and not for a factory."""

_READERS: dict[str, Callable[[ModelCard, Path, FactoryOf], nn.Module]] = {
    "torchscript": _scripted,
    "export": _exported,
    "safetensors": _filled,
    "state_dict": _filled,
    "pickle": _pickled,
}


def _fixed_rows(program: torch.export.ExportedProgram) -> int | None:
    """How many rows the program was exported for; None if it takes any number."""
    wanted = program.graph_signature.user_inputs
    for node in program.graph.nodes:
        if node.op == "placeholder" and node.name in wanted:
            rows = node.meta["val"].shape[0]
            return rows if isinstance(rows, int) else None
    raise ConfigurationError("the exported program takes no input")


def _first_tensor(output: Any) -> Tensor:
    while not isinstance(output, Tensor):
        output = next(iter(output.values() if isinstance(output, Mapping) else output))
    return output
