"""The child process of `apart`: it confines itself, then examines one file.

It reads a `Question` from standard input, and writes one line of JSON to standard output: `Seen` or `Refusal`.
"""

from __future__ import annotations

import os
import sys
import tempfile
import traceback
from collections.abc import Iterator
from pathlib import Path

import msgspec

from server.domain.errors import ConfigurationError, SectorwatchError
from server.domain.files.confinement import Confined, limit_use
from server.ensemble.adoption.examination import Question, Seen, examine
from server.ensemble.faults import in_short

_MOST_CHARACTERS = 20_000


class Limits(msgspec.Struct, frozen=True):
    """What one examination may take: time until it is ended (s), and memory beyond that of PyTorch."""

    within_s: float = 300.0
    memory_bytes: int = 4 * 1024**3


class Order(msgspec.Struct, frozen=True):
    """What the child gets."""

    question: Question
    limits: Limits


_order = msgspec.json.Decoder(Order)


class Refusal(msgspec.Struct, frozen=True, tag=True):
    """Why there is no card: in one line, and what the library says."""

    detail: str
    said: str = ""
    traceback: str = ""


class Answer(msgspec.Struct, frozen=True):
    """What the child gives."""

    result: Seen | Refusal
    confined: Confined


def main(confined: Confined) -> None:
    """Answer the order on standard input, and end the process."""
    answer_to = os.dup(1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what a network prints is no answer
    order = _order.decode(sys.stdin.buffer.read())
    tempfile.tempdir = str(Path.cwd())  # found out otherwise by writing a file, which the limits forbid
    limit_use(order.limits.memory_bytes, round(order.limits.within_s) + 1)
    result = _result(order)
    with os.fdopen(answer_to, "wb") as opened:
        opened.write(msgspec.json.encode(Answer(result, confined)) + b"\n")
    os._exit(0)  # nothing that the network left behind runs at the end


def _result(order: Order) -> Seen | Refusal:
    try:
        return examine(order.question)
    except SectorwatchError as error:
        refused = error
    except BaseException as error:  # noqa: BLE001  the code of others may raise anything
        refused = ConfigurationError(f"{order.question.file} cannot be examined: {in_short(error)}")
        refused.__cause__ = error
    if any(_is_of_memory(each) for each in _causes(refused)):
        return Refusal(out_of_memory(order), *_said(refused))
    return Refusal(refused.detail, *_said(refused))


def out_of_memory(order: Order) -> str:
    """What is said of a file whose network asks for more memory than it gets."""
    return (
        f"{order.question.file} asks for more than the {order.limits.memory_bytes / 1024**3:.1f} GiB of memory that a "
        "network gets here; if it needs them, free memory or adopt it on a larger machine"
    )


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _is_of_memory(error: BaseException) -> bool:
    said = str(error).lower()
    return isinstance(error, MemoryError) or any(
        sign in said for sign in ("allocate memory", "bad_alloc", "bad alloc", "array is too big")
    )


def _said(error: BaseException) -> tuple[str, str]:
    cause = error.__cause__
    if cause is None:
        return "", ""
    return str(cause)[-_MOST_CHARACTERS:], "".join(traceback.format_exception(cause))[-_MOST_CHARACTERS:]
