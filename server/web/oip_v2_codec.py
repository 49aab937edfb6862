"""Requests and answers of the Open Inference Protocol, version 2, and of its binary extension, as bytes.

A request is JSON; with the header `Inference-Header-Content-Length` only its first so many bytes are, and the rest is
the data of those inputs that have the parameter `binary_data_size`, one after the other. A BYTES element is then four
bytes of length (little-endian) and so many bytes; in JSON it is text: our images are base64 there. Answers go the
same way back, for the outputs that were asked for in binary.

https://kserve.github.io/website/docs/concepts/architecture/data-plane/v2-protocol
"""

from __future__ import annotations

import base64
import binascii
import math
import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Annotated, Any

import msgspec

from server.domain.clock import SECOND_US
from server.domain.errors import Malformed, TooLarge

IMAGE = "image"
OUTPUTS = ("label", "score")
_DEEPEST = 4
_MOST_VALUES = 10_000
"""In the JSON of a request: far more than the largest needs, and of empty lists 64 MB would make gigabytes."""
_MOST_TENSORS = 16
_Word = Annotated[str, msgspec.Meta(max_length=128)]
_LENGTH = struct.Struct("<I")


class Input(msgspec.Struct, frozen=True):
    """One tensor of a request. `data`: its elements in JSON, nested or flat; absent when they are binary."""

    name: _Word
    shape: Annotated[list[Annotated[int, msgspec.Meta(ge=0)]], msgspec.Meta(max_length=_DEEPEST)]
    datatype: _Word
    parameters: dict[str, Any] = {}
    data: list[Any] | msgspec.UnsetType = msgspec.UNSET


class Output(msgspec.Struct, frozen=True):
    """One tensor that is asked for."""

    name: _Word
    parameters: dict[str, Any] = {}


class InferRequest(msgspec.Struct, frozen=True):
    """What an inference request says besides its binary data."""

    inputs: Annotated[list[Input], msgspec.Meta(max_length=_MOST_TENSORS)]
    id: _Word | None = None
    outputs: Annotated[list[Output], msgspec.Meta(max_length=_MOST_TENSORS)] | None = None
    parameters: dict[str, Any] = {}


@dataclass(frozen=True, slots=True)
class Asked:
    """A request, read: encoded images in order, and the outputs that are wanted, each with whether in binary.

    `within_s` is how long the client waits for the answer, if it said so.
    """

    id: str | None
    images: tuple[bytes, ...]
    outputs: dict[str, bool]
    within_s: float | None = None


@dataclass(frozen=True, slots=True)
class Tensor:
    """One output. `values` are str (BYTES) or float (FP32), row by row."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    values: Sequence[str] | Sequence[float]
    parameters: dict[str, str]


def read_request(body: bytes, json_bytes: int | None, most: int) -> Asked:
    """The request in `body`, whose first `json_bytes` bytes are JSON (None: all of them).

    Raises Malformed for one that is not of the protocol or not about one input `image`, TooLarge for more than
    `most` images.
    """
    if json_bytes is not None and not 0 <= json_bytes <= len(body):
        raise Malformed(f"Inference-Header-Content-Length is {json_bytes}, but the body holds {len(body)} bytes")
    head, rest = (body, b"") if json_bytes is None else (body[:json_bytes], body[json_bytes:])
    if head.count(b",") >= _MOST_VALUES:
        raise TooLarge(f"the JSON of an inference request holds at most {_MOST_VALUES} values")
    try:
        told = msgspec.json.decode(head, type=InferRequest)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Malformed(f"not an inference request: {error}") from None
    if [one.name for one in told.inputs] != [IMAGE]:
        named = ", ".join(f"`{one.name}`" for one in told.inputs) or "none"
        raise Malformed(f"exactly one input `{IMAGE}` is expected, not {named}")
    images = _images(told.inputs[0], rest, most)
    return Asked(told.id, images, _wanted(told), _within_s(told))


def written_answer(model: str, version: str, asked: Asked, tensors: Iterable[Tensor]) -> tuple[bytes, int | None]:
    """The answer's body with those of `tensors` that were asked for, and how much of it is JSON (None: all)."""
    outputs, tail = [], []
    for tensor in tensors:
        if tensor.name not in asked.outputs:
            continue
        said: dict[str, Any] = {"name": tensor.name, "datatype": tensor.datatype, "shape": tensor.shape}
        parameters: dict[str, Any] = dict(tensor.parameters)
        if asked.outputs[tensor.name]:
            tail.append(_packed(tensor))
            parameters["binary_data_size"] = len(tail[-1])
        else:
            said["data"] = tensor.values
        outputs.append(said | ({"parameters": parameters} if parameters else {}))
    head = {"model_name": model, "model_version": version} | ({"id": asked.id} if asked.id is not None else {})
    body = msgspec.json.encode(head | {"outputs": outputs})
    return (b"".join([body, *tail]), len(body)) if tail else (body, None)


def _images(given: Input, rest: bytes, most: int) -> tuple[bytes, ...]:
    if given.datatype != "BYTES":
        raise Malformed(f"the input `{IMAGE}` holds encoded images, so it is BYTES, not {given.datatype}")
    elements: Iterator[bytes]
    size = given.parameters.get("binary_data_size")
    if size is None:
        if rest or given.data is msgspec.UNSET:
            raise Malformed(f"the input `{IMAGE}` has no `data`" if not rest else "binary data of no input came")
        elements = map(_decoded, _flat(given.data))
    else:
        if size != len(rest) or given.data is not msgspec.UNSET:
            raise Malformed(f"`binary_data_size` is {size}, but {len(rest)} bytes of binary data came")
        elements = _elements(rest)
    images = tuple(islice(elements, most + 1))
    if len(images) > most:
        raise TooLarge(f"more images came than this server takes: at most {most}", frame=most)
    if not given.shape or math.prod(given.shape) != len(images):
        raise Malformed(f"the shape {given.shape} does not hold the {len(images)} images that came")
    if not images:
        raise Malformed("no image came")
    return images


def _flat(data: list[Any], deep: int = 1) -> Iterator[Any]:
    """The elements of lists in lists, in order."""
    if deep > _DEEPEST:
        raise Malformed(f"`data` is nested more than {_DEEPEST} lists deep")
    for one in data:
        if isinstance(one, list):
            yield from _flat(one, deep + 1)
        else:
            yield one


def _decoded(text: Any) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError, TypeError):
        raise Malformed(
            "an element of `data` is not base64; the binary extension saves a quarter of the bytes"
        ) from None


def _elements(data: bytes) -> Iterator[bytes]:
    at = 0
    while at < len(data):
        start = at + _LENGTH.size
        if start > len(data) or start + _LENGTH.unpack_from(data, at)[0] > len(data):
            raise Malformed("the binary data ends within an element")
        at = start + _LENGTH.unpack_from(data, at)[0]
        yield data[start:at]


def _wanted(told: InferRequest) -> dict[str, bool]:
    """Name of each wanted output -> whether in binary. Without a list, all of them."""
    binary = told.parameters.get("binary_data_output", False) is True
    if not told.outputs:
        return dict.fromkeys(OUTPUTS, binary)
    unknown = [f"`{one.name}`" for one in told.outputs if one.name not in OUTPUTS]
    if unknown:
        raise Malformed(f"no output {', '.join(unknown)}; there are {', '.join(OUTPUTS)}")
    return {one.name: one.parameters.get("binary_data", binary) is True for one in told.outputs}


def _within_s(told: InferRequest) -> float | None:
    timeout_us = told.parameters.get("timeout")
    if timeout_us is None:
        return None
    if not isinstance(timeout_us, int) or isinstance(timeout_us, bool) or not 0 <= timeout_us < 2**62:
        raise Malformed(f"`timeout` is a number of microseconds, not {str(timeout_us)[:80]!r}")
    return timeout_us / SECOND_US if timeout_us else None


def _packed(tensor: Tensor) -> bytes:
    if tensor.datatype == "FP32":
        return struct.pack(f"<{len(tensor.values)}f", *tensor.values)
    texts = [str(value).encode() for value in tensor.values]
    return b"".join(part for text in texts for part in (_LENGTH.pack(len(text)), text))
