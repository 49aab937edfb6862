"""What adoption finds out about a file. It reads the file, which may run code in it: see `child`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from server.catalogue import code_it_runs, parse_card
from server.catalogue.card import Format, InputForm, ModelCard, Output
from server.domain.errors import ConfigurationError
from server.ensemble.adoption.card_text import toml
from server.ensemble.adoption.file_format import format_of, unread_format
from server.ensemble.building import network_of
from server.ensemble.building.look import look

FLEXSERVE_FORM = InputForm(
    "rgb", "crop", (224, 224), shorter_side=256, mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375)
)
"""FlexServe's one transform: resize to 256, the centre 224, ImageNet's mean and standard deviation."""


class Question(msgspec.Struct, frozen=True):
    """A file, the place of its card, what the card says of any file, and what the user says of this one."""

    file: str
    card: str
    of_file: dict[str, Any]
    classes: tuple[str, ...]
    factory: str = ""
    trusted: bool = False
    output: Output | None = None

    def card_content(self, kind: Format, output: Output, *, trusted: bool) -> dict[str, Any]:
        """The card of the file, if it is of format `kind`."""
        content: dict[str, Any] = {
            "classes": self.classes,
            "format": kind,
            "output": output,
            "input": FLEXSERVE_FORM.content,
        }
        if trusted:
            content["trusted"] = True
        if kind in ("state_dict", "safetensors"):
            content["factory"] = self.factory
        return self.of_file | content


class Seen(msgspec.Struct, frozen=True, tag=True):
    """What was found: `code` says how the file can run code, and is empty if it cannot."""

    format: Format
    output: Output
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
    seen = look(card, network_of(card, file, raw=True), question.output)
    return Seen(kind, seen.output, code, seen.remarks)


def _code_of(question: Question, kind: Format) -> str:
    """How the file can run code. Raises ConfigurationError if it can and is not trusted, or has no factory."""
    file = Path(question.file)
    if kind in ("state_dict", "safetensors") and not question.factory:
        raise ConfigurationError(
            f"{file} holds weights without a network: name what makes one (--factory package.module:callable)"
        )
    code = code_it_runs(_raw_card(question, kind), file)
    if code and not question.trusted:
        raise ConfigurationError(
            f"{file} {code}: this can run code. If you know where it comes from, trust it (--trust); "
            "its weights as safetensors with an installed --factory need no trust"
        )
    return code


def _raw_card(question: Question, kind: Format) -> ModelCard:
    """The card of the network as the file has it, for which any output will do."""
    return parse_card(toml(question.card_content(kind, "independent_logits", trusted=True)), Path(question.card))
