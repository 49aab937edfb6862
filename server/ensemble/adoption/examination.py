"""What adoption finds out about a file. It reads the file, which may run code in it: see `child`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, cast, get_args

import msgspec
from msgspec import structs

from server.catalogue import code_it_runs, parse_card
from server.catalogue.card import Format, InputForm, ModelCard, Output
from server.domain.errors import ConfigurationError
from server.ensemble.adoption.card_text import toml
from server.ensemble.adoption.file_format import format_of, unread_format
from server.ensemble.building import callable_of, network_of
from server.ensemble.building.detector import answering_of
from server.ensemble.building.look import Stated, a_row, ask, check_detector, look

FLEXSERVE_FORM = InputForm(
    "rgb", "crop", (224, 224), shorter_side=256, mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375)
)
"""FlexServe's one transform: resize to 256, the centre 224, ImageNet's mean and standard deviation."""
DETECTOR_FORM = InputForm("rgb", "letterbox", (640, 640), multiple_of=640, std=(255.0,), pad=114)
"""As YOLO's are trained: the picture whole, padded to a square, values in 0..1."""

Kind = Literal["classifier", "detector"]
Activation = Literal["softmax", "sigmoid", "none"]
_OUTPUTS: dict[Activation, Stated] = {"softmax": "logits", "sigmoid": "independent_logits", "none": "none"}
_SCORE_FLOOR = 0.1


class Question(msgspec.Struct, frozen=True):
    """A file, the place of its card, what the card says of any file, and what the user says of this one.

    `output` is the part of the network's answer that counts or, as before version 0.3, one of `Output`. `argmax` None:
    the network decides where it has two exclusive classes.
    """

    file: str
    card: str
    of_file: dict[str, Any]
    classes: tuple[str, ...]
    kind: Kind = "classifier"
    factory: str = ""
    postprocess: str = ""
    trusted: bool = False
    output: str = ""
    activation: Activation | None = None
    argmax: bool | None = None
    form: InputForm | None = None

    def card_content(self, file_format: Format, seen: Output, *, key: str = "", trusted: bool) -> dict[str, Any]:
        """The card of the file, if it is of that format, and its numbers are as seen."""
        detects = self.kind == "detector"
        decides = len(self.classes) == 2 and seen in ("logits", "probabilities") if self.argmax is None else self.argmax
        content: dict[str, Any] = {
            "kind": self.kind,
            "classes": self.classes,
            "format": file_format,
            "input": (self.form or (DETECTOR_FORM if detects else FLEXSERVE_FORM)).content,
            "output_key": key or None,
            "postprocess": self.postprocess or None,
        }
        content |= {"parameters": {"score_floor": _SCORE_FLOOR}} if detects else {"output": seen}
        if decides and not detects:
            content["argmax"] = True
        if trusted:
            content["trusted"] = True
        if file_format in ("state_dict", "safetensors"):
            content["factory"] = self.factory
        return self.of_file | {name: value for name, value in content.items() if value is not None}


class Seen(msgspec.Struct, frozen=True, tag=True):
    """What was found: `code` says how the file can run code, and is empty if it cannot."""

    format: Format
    output: Output = "logits"
    output_key: str = ""
    code: str = ""
    remarks: tuple[str, ...] = ()


def check_unread(question: Question) -> None:
    """What can be refused without reading the file with PyTorch. Raises ConfigurationError as `examine` does."""
    kind = unread_format(Path(question.file))
    if kind is not None:
        _code_of(question, kind)


def examine(question: Question) -> Seen:
    """Read the file and ask its network about some pictures.

    Nothing in the file runs before the user trusts it. Raises ConfigurationError when the format is unknown, when
    something is missing for it, when it can run code and is not trusted, and when the network is not fit to be served
    (`look`).
    """
    file = Path(question.file)
    kind = format_of(file)
    code = _code_of(question, kind)
    card = _raw_card(question, kind)
    network = network_of(card, file, raw=True)
    if question.kind == "detector":
        card = structs.replace(card, output_key=question.output)
        check_detector(card, answering_of(card, network, callable_of(card, "postprocess")))
        return Seen(kind, output_key=question.output, code=code)
    stated = _OUTPUTS[question.activation] if question.activation else None
    key = question.output
    if key in get_args(Output) and not isinstance(ask(card.name, network, a_row(card)), Mapping):
        stated, key = cast("Output", key), ""  # as before version 0.3
    seen = look(structs.replace(card, output_key=key), network, stated)
    return Seen(kind, seen.output, key, code, seen.remarks)


def _code_of(question: Question, kind: Format) -> str:
    """How the file can run code. Raises ConfigurationError if it can and is not trusted, or has no factory."""
    file = Path(question.file)
    if kind in ("state_dict", "safetensors") and not question.factory:
        raise ConfigurationError(
            f"{file} holds weights without a network: name what makes one (--factory package.module:callable)"
        )
    code = code_it_runs(_raw_card(question, kind), file)
    if code and not question.trusted:
        raise ConfigurationError(untrusted(file, code))
    return code


def untrusted(file: Path, code: str) -> str:
    """What to say of a file that can run code, as `code` says, and that nobody trusts yet."""
    return (
        f"{file} {code}: this can run code. If you know where it comes from, trust it (--trust); "
        "its weights as safetensors with a --factory of torchvision.models, or timm:create_model, need no trust"
    )


def _raw_card(question: Question, kind: Format) -> ModelCard:
    """The card of the network as the file has it, for which any output will do."""
    anything = structs.replace(question, argmax=False)
    return parse_card(toml(anything.card_content(kind, "independent_logits", trusted=True)), Path(question.card))
