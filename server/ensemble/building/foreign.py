"""Reads networks of other people unconverted: TorchScript, `torch.export`, weights for a factory, pickled modules.

All but weights can run code: a pickled module while it is read, an exported program where the reader of PyTorch
evaluates what it states, and a scripted network by operators that read and write files. So their cards must trust them;
the digest in the card proves that the file is the trusted one. Weights are read as numbers only. Programs with pickled
parts and scripted networks with operators for files are refused all the same: no network needs them.

A classifier is wrapped so that it gives logits [rows, classes], a detector so that it gives `Detections` (`detector`).
"""

from __future__ import annotations

import importlib
import json
import pickle
import re
import warnings
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from server.catalogue import ModelCard, file_contents
from server.domain.errors import ConfigurationError
from server.ensemble.building.detector import DETECTOR_VERSIONS, DetectorParameters, Postprocess, detector_of
from server.ensemble.building.look import check_load, numbers_of
from server.ensemble.faults import in_short, shortened

VERSIONS = {"torchscript": 1, "export": 1, "safetensors": 1, "state_dict": 1, "pickle": 1}
"""Of each format. Raise the one whose files give another network, and all when `Logits` changes."""

_PLAIN = ("weight_", "tensor_")
"""The names of tensors in an exported program; parts with other names are objects."""
_FILE_OPERATORS = frozenset({"aten::from_file", "aten::save", "image::read_file", "image::write_file"})
_OTHERS_OPERATOR = re.compile(rb"\bops\s*\.\s*(?!aten\b|prim\b|\s)")
_MOST_CODE = 16 * 1024 * 1024
"""Bytes of the code of a scripted network, unpacked, that are searched for operators."""
_UNREADABLE = (OSError, EOFError, RuntimeError, ValueError, zipfile.BadZipFile, zlib.error)
"""What reading a damaged or encrypted archive raises."""
_LEAST_PROBABILITY = 1e-12
_MOST_CHARACTERS = 400
_NESTED = ("state_dict", "model_state_dict", "model")
"""The keys under which training scripts save the weights, beside the optimiser."""
_PREFIXES = ("module.", "_orig_mod.", "model.")
"""Of names of weights: of a data-parallel, a compiled and a Lightning module around the network."""


class Logits(nn.Module):
    """A classifier with several outputs, of which the card names one (else the first), or one that ends in a softmax.

    The logarithms of probabilities are logits.
    """

    def __init__(self, network: nn.Module, card: ModelCard, *, has_more: bool) -> None:
        super().__init__()
        self.network = network
        self.card = card
        self.has_more = has_more

    def forward(self, rows: Tensor) -> Tensor:
        output = self.network(rows)
        numbers = numbers_of(self.card, output) if self.has_more else output
        assert numbers is not None, "asked when it was loaded"
        return numbers.float().clamp_min(_LEAST_PROBABILITY).log() if self.card.output == "probabilities" else numbers


class Exported(nn.Module):
    """A `torch.export`ed program. It has evaluation mode only, and may take a fixed number of rows."""

    def __init__(self, program: torch.export.ExportedProgram) -> None:
        super().__init__()
        self.network = program.module()
        self.rows = _fixed_rows(program)
        self.training = False

    def train(self, mode: bool = True) -> Exported:
        """Stay in evaluation mode: PyTorch refuses to set a mode of the graph. Raises RuntimeError for training."""
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
            parts.append((self.network(filled), len(part)))
        return _joined([answer for answer, _ in parts], [count for _, count in parts])


def _joined(answers: Sequence[Any], counts: Sequence[int]) -> Any:
    """Answers of one structure as one; of the tensors in each, the first so many rows count."""
    first = answers[0]
    if isinstance(first, Tensor):
        return torch.cat([answer[:count] for answer, count in zip(answers, counts, strict=True)])
    if isinstance(first, Mapping):
        return {key: _joined([answer[key] for answer in answers], counts) for key in first}
    if isinstance(first, tuple | list):
        return tuple(_joined(each, counts) for each in zip(*answers, strict=True))
    return first


def versions(card: ModelCard) -> dict[str, int]:
    """The versions of the code that brings this card's file to what the ensemble expects."""
    return {card.format: VERSIONS[card.format]} | (DETECTOR_VERSIONS if card.kind == "detector" else {})


def load(
    card: ModelCard,
    weights: Path,
    factory: Callable[..., Any] | None,
    postprocess: Postprocess | None = None,
    *,
    raw: bool = False,
) -> nn.Module:
    """The network of a card whose `format` is not `factory`, wrapped as its `kind` wants; `raw`: as the file has it.

    `factory` makes the network of a format that holds weights only, `postprocess` makes boxes of a detector's answer.
    Raises ConfigurationError for a file that is not of its format or does not fit and, unless `raw`, for a network that
    does not answer as its card says.
    """
    what = file_contents.misfit(weights)
    if what is not None:
        raise ConfigurationError(f"the weights of {card.name} are no network that PyTorch can read: {weights} {what}")
    network = _read(card, weights, factory)
    if raw:
        return network
    if card.kind == "detector":
        return detector_of(card, network.eval(), postprocess)
    has_more = check_load(card, network.eval())
    # A wrapper hides the network from `tuning`, so a plain classifier has none.
    return Logits(network, card, has_more=has_more) if has_more or card.output == "probabilities" else network


def fill(network: nn.Module, weights: Path, form: str, misfit: str) -> None:
    """Load the weights in `weights` into `network`. `form` is `safetensors` or `state_dict`.

    Nothing in the file is run. Raises ConfigurationError, with the words `misfit`, when they do not fit.
    """
    state = without_prefix(_state_of(weights, form), network)
    try:
        network.load_state_dict(state)
    except RuntimeError as error:  # names every tensor of a large network
        raise ConfigurationError(f"{misfit}: {_prefixed(state)}{shortened(str(error), _MOST_CHARACTERS)}") from error


def state_of(weights: Path) -> dict[str, Tensor]:
    """The weights in a file, by name; of the form that its name says. Raises ConfigurationError if it holds none."""
    try:
        return _state_of(weights, "safetensors" if weights.suffix == ".safetensors" else "state_dict")
    except ConfigurationError:
        raise
    except Exception as error:  # a file that is something else fails in many ways
        raise ConfigurationError(f"{weights} holds no weights that can be read: {in_short(error)}") from error


def without_prefix(state: dict[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
    """The weights under the names that the network has, if a wrapper put the same word before all of them."""
    own = list(network.state_dict())
    for prefix in _PREFIXES * len(_PREFIXES):
        if state and all(key.startswith(prefix) for key in state) and not any(key.startswith(prefix) for key in own):
            state = {key.removeprefix(prefix): value for key, value in state.items()}
    return state


def _prefixed(state: Mapping[str, Tensor]) -> str:
    """Which of the usual prefixes some keys have, as a part of a message."""
    for prefix in _PREFIXES:
        count = sum(key.startswith(prefix) for key in state)
        if count:
            return f"{count} of {len(state)} names of weights begin with `{prefix}`, and the network's do not; "
    return ""


def _state_of(path: Path, form: str) -> dict[str, Tensor]:
    if form == "safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    state = torch.load(path, map_location="cpu", weights_only=True)
    for nested in _NESTED:
        if isinstance(state, dict) and isinstance(state.get(nested), dict):
            state = state[nested]
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ConfigurationError(f"{path} holds no state dict")
    return dict(state)


def _read(card: ModelCard, weights: Path, factory: Callable[..., Any] | None) -> nn.Module:
    if factory is not None:
        return _filled(card, weights, factory)
    if card.format == "pickle":
        assert card.trusted, "a card of a pickled module is refused without"
        return _checked(torch.load(weights, map_location="cpu", weights_only=False), f"{weights} holds")
    if card.format == "export" or _calls_others_operators(weights):
        importlib.import_module("torchvision")  # registers its operators; importing it takes a second
    if card.format == "torchscript":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # TorchScript is deprecated, and people have files of it
            return _without_files(torch.jit.load(str(weights), map_location="cpu"), weights)  # type: ignore[no-untyped-call]
    _check_unpickled(weights)
    return Exported(torch.export.load(weights))


def _calls_others_operators(scripted: Path) -> bool:
    """Whether the code of a scripted network calls operators that PyTorch itself lacks, or cannot be searched."""
    left, found = _MOST_CODE, False
    try:
        with zipfile.ZipFile(scripted) as archive:
            for name in (each for each in archive.namelist() if each.endswith(".py")):
                with archive.open(name) as member:
                    code = member.read(left + 1)
                left -= len(code)
                if left < 0 or _OTHERS_OPERATOR.search(code):
                    return True
                found = True
    except _UNREADABLE:
        return True
    return not found


def _without_files(network: nn.Module, weights: Path) -> nn.Module:
    """The scripted network. Raises ConfigurationError if it names an operator that reads or writes files."""
    named = {name.partition(".")[0] for name in torch.jit.export_opnames(network)}  # type: ignore[no-untyped-call]
    if found := sorted(named & _FILE_OPERATORS):
        raise ConfigurationError(f"{weights} reads or writes files of its choice ({', '.join(found)}): it is refused")
    return network


def _filled(card: ModelCard, weights: Path, factory: Callable[..., Any]) -> nn.Module:
    parameters = {
        name: value for name, value in card.parameters.items() if name not in DetectorParameters.__struct_fields__
    }
    network = _checked(factory(**parameters), f"the factory `{card.factory}` of {card.name} gives")
    fill(network, weights, card.format, f"the weights of {card.name} do not fit what its factory makes")
    return network


def _checked(network: Any, source: str) -> nn.Module:
    if not isinstance(network, nn.Module):
        raise ConfigurationError(f"{source} a {type(network).__name__}, not an nn.Module")
    return network


def _check_unpickled(program: Path) -> None:
    """Raises ConfigurationError for a program with parts that `torch.export.load` would unpickle without care."""
    try:
        with zipfile.ZipFile(program) as archive:
            pickled = next((name for name in archive.namelist() if not _is_plain(name, archive)), None)
    except _UNREADABLE as error:
        raise ConfigurationError(f"{program} cannot be unpacked, get it again: {in_short(error)}") from error
    if pickled is not None:
        raise ConfigurationError(f"{program} has pickled parts ({pickled})")


def _is_plain(name: str, archive: zipfile.ZipFile) -> bool:
    if name.endswith("_config.json"):
        parts = json.loads(archive.read(name)).get("config", {}).values()
        return all(not part["use_pickle"] and part["path_name"].startswith(_PLAIN) for part in parts)
    if name.endswith(".pt"):
        try:
            torch.load(BytesIO(archive.read(name)), weights_only=True)
        except pickle.UnpicklingError:
            return False
    return True


def _fixed_rows(program: torch.export.ExportedProgram) -> int | None:
    """How many rows the program was exported for; None if it takes any number."""
    inputs = program.graph_signature.user_inputs
    sizes = [node.meta["val"].shape[0] for node in program.graph.nodes if node.name in inputs]
    return sizes[0] if sizes and isinstance(sizes[0], int) else None
