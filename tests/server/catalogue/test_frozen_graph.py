"""The weights in a frozen TensorFlow graph are read, and what is no such graph is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from server.catalogue.frozen_graph import float_constants
from server.domain.errors import ConfigurationError

NUMBERS = np.arange(6, dtype="<f4").reshape(2, 3)
FLOAT32, INT32 = 1, 3


def varint(value: int) -> bytes:
    low, rest = value & 0x7F, value >> 7
    return bytes([low | 0x80]) + varint(rest) if rest else bytes([low])


def field(number: int, content: int | bytes) -> bytes:
    """A field of a protobuf message: an integer, or bytes with their length."""
    if isinstance(content, int):
        return varint(number << 3) + varint(content)
    return varint(number << 3 | 2) + varint(len(content)) + content


def node(name: str, kind: str = "Const", type_number: int = FLOAT32, sides: tuple[int, ...] = NUMBERS.shape) -> bytes:
    shape = b"".join(field(2, field(1, side)) for side in sides)
    tensor = field(1, type_number) + field(2, shape) + field(4, NUMBERS.tobytes())
    attributes = field(5, field(1, b"dtype") + field(2, field(6, type_number)))
    attributes += field(5, field(1, b"value") + field(2, field(8, tensor)))
    return field(1, field(1, name.encode()) + field(2, kind.encode()) + attributes)


def graph(tmp_path: Path, content: bytes) -> Path:
    path = tmp_path / "graph.pb"
    path.write_bytes(content)
    return path


def test_float_constants_are_read_by_name_and_other_nodes_are_not(tmp_path: Path) -> None:
    content = node("block/weights") + node("block/add", kind="Add") + node("shape", type_number=INT32)
    assert float_constants(graph(tmp_path, content)) == {"block/weights": (NUMBERS.shape, NUMBERS.tobytes())}


def test_fields_of_fixed_length_are_passed_over(tmp_path: Path) -> None:
    fixed = varint(9 << 3 | 1) + bytes(8) + varint(10 << 3 | 5) + bytes(4)
    assert list(float_constants(graph(tmp_path, fixed + node("weights")))) == ["weights"]


@pytest.mark.parametrize("length", [1, 30, -1])
def test_a_graph_that_is_cut_short_is_refused(tmp_path: Path, length: int) -> None:
    with pytest.raises(ConfigurationError, match="is not a frozen TensorFlow graph"):
        float_constants(graph(tmp_path, node("weights")[:length]))


def test_numbers_that_do_not_fit_their_shape_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="do not fit their shape"):
        float_constants(graph(tmp_path, node("weights", sides=(2, 4))))


def test_a_constant_without_a_value_is_refused(tmp_path: Path) -> None:
    empty = field(1, field(1, b"weights") + field(2, b"Const"))
    with pytest.raises(ConfigurationError, match="is not a frozen TensorFlow graph"):
        float_constants(graph(tmp_path, empty))


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04" + bytes(100), b"<!DOCTYPE html>", field(4, 2)])
def test_what_is_no_graph_is_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(ConfigurationError, match="is not a frozen TensorFlow graph"):
        float_constants(graph(tmp_path, content))


def test_a_number_without_end_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="a number of more than 64 bits"):
        float_constants(graph(tmp_path, b"\xff" * 1000))
