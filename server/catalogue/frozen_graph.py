"""Reads the weights out of a frozen TensorFlow graph, without TensorFlow.

Such a file is a protobuf message `GraphDef` (tensorflow/core/framework/graph.proto). Its nodes have attributes, and a
weight is the attribute `value` of a node of kind `Const`. Only what leads there is read, and nothing is run.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from server.domain.errors import ConfigurationError

_NODE = 1
"""Of a GraphDef."""
_NAME, _KIND, _ATTRIBUTE = 1, 2, 5
"""Of a NodeDef."""
_KEY, _VALUE = 1, 2
"""Of an entry of a map."""
_TENSOR = 8
"""Of an AttrValue."""
_TYPE, _SHAPE, _CONTENT = 1, 2, 4
"""Of a TensorProto."""
_SIDE, _LENGTH = 2, 1
"""Of a TensorShapeProto, and of a side in it."""
_FLOAT32 = 1
_FLOAT_BYTES = 4
_LONGEST_SHIFT = 63
_VARINT, _COUNTED = 0, 2
_FIXED_BYTES = {1: 8, 5: 4}


class Constant(NamedTuple):
    """Numbers of float32, little-endian, the last side running fastest."""

    sides: tuple[int, ...]
    content: bytes


def float_constants(path: Path) -> dict[str, Constant]:
    """Each constant of the graph that is made of float32, by the name of its node.

    Raises ConfigurationError for a file that is no frozen graph, and OSError.
    """
    try:
        nodes = (content for number, content in _fields(path.read_bytes()) if number == _NODE)
        found = dict(constant for node in nodes if (constant := _constant(node)) is not None)
    except (IndexError, KeyError, ValueError) as error:
        raise ConfigurationError(f"{path} is not a frozen TensorFlow graph: {error}") from error
    if not found:
        raise ConfigurationError(f"{path} is not a frozen TensorFlow graph: it has no weights")
    return found


def _constant(node: int | bytes) -> tuple[str, Constant] | None:
    """Name and numbers of a node; None for a node without float32 numbers."""
    fields = dict(_fields(node))
    if fields.get(_KIND) != b"Const":
        return None
    entries = [dict(_fields(content)) for number, content in _fields(node) if number == _ATTRIBUTE]
    [value] = [entry[_VALUE] for entry in entries if entry.get(_KEY) == b"value"]
    tensor = dict(_fields(dict(_fields(value))[_TENSOR]))
    if tensor.get(_TYPE) != _FLOAT32 or _CONTENT not in tensor:
        return None
    sides = [dict(_fields(side))[_LENGTH] for number, side in _fields(tensor.get(_SHAPE, b"")) if number == _SIDE]
    constant = Constant(tuple(map(_integer, sides)), _bytes(tensor[_CONTENT]))
    if len(constant.content) != _FLOAT_BYTES * math.prod(constant.sides):
        raise ValueError("it has numbers that do not fit their shape")
    return _bytes(fields[_NAME]).decode(), constant


def _fields(message: int | bytes) -> Iterator[tuple[int, int | bytes]]:
    """Number and content of each field: an integer, or the bytes of all that is no integer."""
    content, place = _bytes(message), 0
    while place < len(content):
        tag, place = _varint(content, place)
        kind, number = tag & 7, tag >> 3
        if kind == _VARINT:
            value, place = _varint(content, place)
            yield number, value
            continue
        if kind == _COUNTED:
            length, place = _varint(content, place)
        else:
            length = _FIXED_BYTES[kind]
        if place + length > len(content):
            raise ValueError("it ends too early")
        yield number, content[place : place + length]
        place += length


def _varint(content: bytes, place: int) -> tuple[int, int]:
    """The integer at `place`, seven bits a byte with the lowest first, and the place behind it."""
    value = shift = 0
    while True:
        byte = content[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place
        shift += 7
        if shift > _LONGEST_SHIFT:
            raise ValueError("it has a number of more than 64 bits")


def _bytes(content: int | bytes) -> bytes:
    if isinstance(content, int):
        raise ValueError("it has a number where a message should be")
    return content


def _integer(content: int | bytes) -> int:
    if isinstance(content, bytes):
        raise ValueError("it has bytes where a number should be")
    return content
