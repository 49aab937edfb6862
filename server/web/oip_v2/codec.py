"""Requests and answers of the Open Inference Protocol, version 2, with its binary extension, as bytes.

A request is JSON. With the header `Inference-Header-Content-Length` only its first so many bytes are JSON; the rest is
the data of those inputs that have the parameter `binary_data_size`, one after the other. A BYTES element is then four
bytes of length (little-endian) and so many bytes; in JSON it is text, and an image is base64. Outputs that are
requested in binary are encoded in the same way.

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

from policies.site.toml_errors import suggest
from server.domain.errors import Malformed, TooLarge
from server.domain.times.clock import SECOND_US
from server.web.json_http import decoded

IMAGE = "image"
OUTPUTS = ("label", "score")
_MAX_DEPTH = 4
_MAX_VALUES = 10_000
"""In the JSON of a request: far more than the largest needs. 64 MB of empty lists would take gigabytes."""
_MAX_TENSORS = 16
_Word = Annotated[str, msgspec.Meta(max_length=128)]
_LENGTH = struct.Struct("<I")
_OF_REQUESTS: dict[str, type] = {"timeout": int, "binary_data_output": bool}
_OF_INPUTS: dict[str, type] = {"binary_data_size": int}
_OF_OUTPUTS: dict[str, type] = {"binary_data": bool}
"""The parameters that are heeded, and what they are."""


class Input(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One tensor of a request. `data`: its elements in JSON, nested or flat; absent when they are binary."""

    name: _Word
    shape: Annotated[list[Annotated[int, msgspec.Meta(ge=0)]], msgspec.Meta(max_length=_MAX_DEPTH)]
    datatype: _Word
    parameters: dict[str, Any] = {}
    data: list[Any] | msgspec.UnsetType = msgspec.UNSET


class Output(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One tensor that the client wants."""

    name: _Word
    parameters: dict[str, Any] = {}


class InferRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The JSON of an inference request."""

    inputs: Annotated[list[Input], msgspec.Meta(max_length=_MAX_TENSORS)]
    id: _Word | None = None
    outputs: Annotated[list[Output], msgspec.Meta(max_length=_MAX_TENSORS)] | None = None
    parameters: dict[str, Any] = {}


class IndexRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The JSON of a request for the repository's index. `ready`: only models that are ready, which all here are."""

    ready: bool = False


_request = msgspec.json.Decoder(InferRequest)
index_request = msgspec.json.Decoder(IndexRequest)


@dataclass(frozen=True, slots=True)
class DecodedRequest:
    """Encoded images in order, and each wanted output -> whether in binary.

    `within_s` is how long the client waits for the answer; None: no limit of its own.
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


def decode_request(body: bytes, json_bytes: int | None, max_images: int) -> DecodedRequest:
    """The request in `body`, whose first `json_bytes` bytes are JSON (None: all of them).

    Raises Malformed when it does not follow the protocol or has other inputs than one `image`, TooLarge for more than
    `max_images` images.
    """
    if json_bytes is not None and not 0 <= json_bytes <= len(body):
        raise Malformed(f"Inference-Header-Content-Length is {json_bytes}, but the body holds {len(body)} bytes")
    head, rest = (body, b"") if json_bytes is None else (body[:json_bytes], body[json_bytes:])
    if head.count(b",") >= _MAX_VALUES:
        raise TooLarge(f"the JSON of an inference request holds at most {_MAX_VALUES} values")
    content = decoded(head, _request, "an inference request")
    if [tensor.name for tensor in content.inputs] != [IMAGE]:
        names = ", ".join(f"`{tensor.name}`" for tensor in content.inputs) or "none"
        raise Malformed(f"exactly one input `{IMAGE}` is expected, not {names}")
    _check_parameters(content)
    images = _images(content.inputs[0], rest, max_images)
    return DecodedRequest(content.id, images, _wanted(content), _within_s(content))


def encode_answer(
    model: str, version: str, request: DecodedRequest, tensors: Iterable[Tensor]
) -> tuple[bytes, int | None]:
    """The answer's body with the `tensors` that the client wants, and how many of its bytes are JSON (None: all)."""
    outputs, tail = [], []
    for tensor in (each for each in tensors if each.name in request.outputs):
        output: dict[str, Any] = {"name": tensor.name, "datatype": tensor.datatype, "shape": tensor.shape}
        parameters: dict[str, Any] = dict(tensor.parameters)
        if request.outputs[tensor.name]:
            tail.append(_packed(tensor))
            parameters["binary_data_size"] = len(tail[-1])
        else:
            output["data"] = tensor.values
        outputs.append(output | ({"parameters": parameters} if parameters else {}))
    head = {"model_name": model, "model_version": version} | ({"id": request.id} if request.id is not None else {})
    body = msgspec.json.encode(head | {"outputs": outputs})
    return (b"".join([body, *tail]), len(body)) if tail else (body, None)


def _check_parameters(content: InferRequest) -> None:
    """Raises Malformed for a parameter that this server does not heed, of the request or of a tensor."""
    places = [("the request", content.parameters, _OF_REQUESTS)]
    places += [(f"the input `{given.name}`", given.parameters, _OF_INPUTS) for given in content.inputs]
    places += [(f"the output `{wanted.name}`", wanted.parameters, _OF_OUTPUTS) for wanted in content.outputs or ()]
    for place, parameters, known in places:
        for name, value in parameters.items():
            if name not in known:
                raise Malformed(
                    f"{place} has the parameter `{name[:80]}`, which this server does not know"
                    f"{suggest(name[:80], known)}"
                )
            if known[name] is bool and not isinstance(value, bool):
                raise Malformed(f"the parameter `{name}` of {place} is true or false, not {str(value)[:80]!r}")


def _images(tensor: Input, binary: bytes, max_images: int) -> tuple[bytes, ...]:
    if tensor.datatype != "BYTES":
        raise Malformed(f"the input `{IMAGE}` holds encoded images, so it is BYTES, not {tensor.datatype}")
    size = tensor.parameters.get("binary_data_size")
    if size is not None:
        if size != len(binary) or tensor.data is not msgspec.UNSET:
            raise Malformed(f"`binary_data_size` is {size}, but {len(binary)} bytes of binary data came")
        elements = _elements(binary)
    else:
        if binary or tensor.data is msgspec.UNSET:
            raise Malformed(
                f"the input `{IMAGE}` has no `data`" if not binary else "the binary data belongs to no input"
            )
        elements = map(_decoded, _flat(tensor.data))
    images = tuple(islice(elements, max_images + 1))
    if len(images) > max_images:
        raise TooLarge(f"more images came than this server takes: at most {max_images}", frame=max_images)
    if not tensor.shape or math.prod(tensor.shape) != len(images):
        raise Malformed(f"the shape {tensor.shape} does not hold the {len(images)} images that came")
    if not images:
        raise Malformed("no image came")
    return images


def _flat(data: list[Any], depth: int = 1) -> Iterator[Any]:
    """The elements of lists in lists, in order."""
    if depth > _MAX_DEPTH:
        raise Malformed(f"`data` is nested more than {_MAX_DEPTH} lists deep")
    for element in data:
        if isinstance(element, list):
            yield from _flat(element, depth + 1)
        else:
            yield element


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


def _wanted(content: InferRequest) -> dict[str, bool]:
    """Name of each wanted output -> whether in binary. Without a list, all of them."""
    binary = content.parameters.get("binary_data_output", False) is True
    if not content.outputs:
        return dict.fromkeys(OUTPUTS, binary)
    unknown = [f"`{output.name}`" for output in content.outputs if output.name not in OUTPUTS]
    if unknown:
        raise Malformed(f"no output {', '.join(unknown)}; there are {', '.join(OUTPUTS)}")
    return {output.name: output.parameters.get("binary_data", binary) is True for output in content.outputs}


def _within_s(content: InferRequest) -> float | None:
    timeout_us = content.parameters.get("timeout")
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
