"""A TensorFlow.js graph, executed node by node with NumPy: a second implementation of nanodet-g, straight from the file
of the network's authors. What it answers is recorded in `recorded/nanodet-g.json`.

Run `python -m tests.server.ensemble.tfjs FOLDER` to record anew, on purpose. FOLDER holds `nanodet.json` and
`nanodet.bin` of the package that the card names.
"""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from tests.server.ensemble.opencv import Found, record, rounded

MADE_FOR = 416
SCORE_FLOOR = 0.25
MAX_OVERLAP = 0.6
STRIDES = (8, 16, 32)
_TYPES = {"float16": "<f2", "int32": "<i4", "int64": "<i4"}

Array = np.ndarray[Any, Any]


class TfjsGraph:
    """The graph of `folder`."""

    def __init__(self, folder: Path) -> None:
        model = json.loads((folder / "nanodet.json").read_text("utf-8"))
        content, place = (folder / "nanodet.bin").read_bytes(), 0
        self._nodes = model["modelTopology"]["node"]
        self._weights: dict[str, Array] = {}
        for entry in (one for group in model["weightsManifest"] for one in group["weights"]):
            kind = np.dtype(_TYPES[entry.get("quantization", entry)["dtype"]])
            count = int(np.prod(entry["shape"], dtype=int))
            values = np.frombuffer(content, kind, count, place).reshape(entry["shape"])
            self._weights[entry["name"]] = values.astype(np.float32) if kind == "<f2" else values
            place += count * kind.itemsize
        assert place == len(content)

    def __call__(self, blob: Array) -> list[tuple[Array, Array]]:
        """Scores [cells, 80] and distances [cells, 44] of each head, fine to coarse.

        `blob` is [1, 3, H, W], blue first, normalised. The graph is made for 416x416; the constant sizes that it
        resizes to are scaled to other inputs.
        """
        scale = np.array(blob.shape[2:]) / MADE_FOR
        values: dict[str, Any] = {}
        for node in self._nodes:
            name, kind = node["name"], node["op"]
            if kind == "Const":
                values[name] = self._weights[name]
            elif kind == "Placeholder":
                values[name] = blob
            elif kind == "ResizeBilinear":
                grid, size = (_of(values, one) for one in node["input"])
                values[name] = _resized(grid, np.rint(size * scale).astype(int))
            elif kind not in ("SparseToDense", "AddV2"):  # they only make the shapes of `Reshape`
                values[name] = _KINDS[kind](node.get("attr", {}), *(_of(values, one, kind) for one in node["input"]))
        outputs = [values["Identity" if number == 0 else f"Identity_{number}"][0] for number in range(6)]
        return list(zip(outputs[:3], outputs[3:], strict=True))


def _of(values: dict[str, Any], name: str, kind: str = "") -> Any:
    node, _, output = name.partition(":")
    value = values.get(node) if kind == "Reshape" else values[node]
    return value[int(output or 0)] if isinstance(value, list) else value


def _convolved(attributes: dict[str, Any], grid: Array, kernel: Array) -> Array:
    assert base64.b64decode(attributes["padding"]["s"]) == b"VALID"
    stride = int(attributes["strides"]["list"]["i"][1])
    windows = np.lib.stride_tricks.sliding_window_view(grid, kernel.shape[:2], axis=(1, 2))[:, ::stride, ::stride]
    return np.tensordot(windows, kernel, ((4, 5, 3), (0, 1, 2)))


def _pooled(_attributes: dict[str, Any], grid: Array) -> Array:
    return np.lib.stride_tricks.sliding_window_view(grid, (3, 3), axis=(1, 2))[:, ::2, ::2].max((-1, -2))  # type: ignore[no-any-return]


def _split(_attributes: dict[str, Any], grid: Array, sizes: Array, axis: Array) -> list[Array]:
    return np.split(grid, np.cumsum(sizes.ravel())[:-1], int(axis.ravel()[0]))


def _resized(grid: Array, size: Array) -> Array:
    """Bilinear, the centres of pixels half a pixel in."""
    for axis, length in zip((1, 2), size, strict=True):
        before = grid.shape[axis]
        place = np.clip((np.arange(length) + 0.5) * before / length - 0.5, 0, before - 1)
        low = np.floor(place).astype(int)
        part = (place - low).astype(np.float32).reshape(-1, *(1,) * (3 - axis))
        grid = np.take(grid, low, axis) * (1 - part) + np.take(grid, np.minimum(low + 1, before - 1), axis) * part
    return grid


_KINDS: dict[str, Callable[..., Any]] = {
    "Pad": lambda _, grid, pads: np.pad(grid, pads.reshape(-1, 2)),
    "PadV2": lambda _, grid, pads, value: np.pad(grid, pads.reshape(-1, 2), constant_values=value),
    "Transpose": lambda _, grid, axes: grid.transpose(axes.tolist()),
    "Identity": lambda _, grid: grid,
    "Add": lambda _, one, other: one + other,
    "LeakyRelu": lambda attributes, grid: np.where(grid > 0, grid, grid * np.float32(attributes["alpha"]["f"])),
    "ConcatV2": lambda _, *parts: np.concatenate(parts[:-1], int(parts[-1].ravel()[0])),
    "Sigmoid": lambda _, grid: 1 / (1 + np.exp(-grid)),
    "Reshape": lambda _, grid, _shape: grid.reshape(*grid.shape[:2], -1),
    "Conv2D": _convolved,
    "MaxPool": _pooled,
    "SplitV": _split,
}


def detect(graph: TfjsGraph, blob: Array) -> list[Found]:
    """The boxes of a row, by the published way from the heads to boxes, with OpenCV's suppression."""
    height, width = blob.shape[2:]
    boxes, scores, labels = [], [], []
    for stride, (head_scores, sides) in zip(STRIDES, graph(blob), strict=True):
        for cell, label in zip(*np.nonzero(head_scores >= SCORE_FLOOR), strict=True):
            y, x = divmod(int(cell), width // stride)
            bins = np.exp(sides[cell].reshape(4, 11).astype(float))
            left, top, right, bottom = bins @ np.arange(11) / bins.sum(1) * stride
            centre_x, centre_y = (x + 0.5) * stride, (y + 0.5) * stride
            boxes.append((centre_x - left, centre_y - top, left + right, top + bottom))
            scores.append(float(head_scores[cell, label]))
            labels.append(int(label))
    found: list[Found] = []
    for label in sorted(set(labels)):
        own = [place for place, each in enumerate(labels) if each == label]
        kept = cv2.dnn.NMSBoxes([boxes[p] for p in own], [scores[p] for p in own], SCORE_FLOOR, MAX_OVERLAP)
        for place in (own[int(number)] for number in kept):
            x, y, wide, high = boxes[place]
            found.append((label, scores[place], (x / width, y / height, (x + wide) / width, (y + high) / height)))
    return found


def main(folder: Path) -> None:
    from server.catalogue import cache_dir, card_named
    from tests.benchmarks.events.footage import sampled_jpegs
    from tests.server.ensemble.second_opinion import blob_of

    graph, card = TfjsGraph(folder), card_named("nanodet-g")
    blobs = [blob_of(jpeg, card) for jpeg in sampled_jpegs(cache_dir() / "footage" / "vtest.avi")]
    # The card normalises red, green, blue; the graph takes blue first.
    record("nanodet-g", [rounded(detect(graph, blob.flip(1).numpy())) for blob in blobs])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
