"""What OpenCV 4 says: the independent implementation that ours have to agree with, live or as recorded.

Run `python -m tests.server.ensemble.opencv` to record anew, on purpose; weights and footage come from the cache.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

RECORDED = Path(__file__).parent / "recorded"
IS_OPENCV_4 = cv2.__version__.startswith("4.")

HOG_WINDOWS = {"hog-people": (64, 128), "hog-people-small": (48, 96)}
SCORE_FLOOR = 0.25
MAX_OVERLAP = 0.45

Found = tuple[int, float, tuple[float, float, float, float]]
"""Class, score, box as x1 y1 x2 y2 in 0..1."""


def darknet_cfg(width: int, height: int) -> str:
    """The configuration of yolov3-tiny that fits its weights: the second detection layer has anchors 1, 2, 3."""

    def conv(filters: int, size: int) -> str:
        shape = f"filters={filters}\nsize={size}\nstride=1\npad=1\nactivation=leaky\n"
        return f"[convolutional]\nbatch_normalize=1\n{shape}"

    def detection(mask: str) -> str:
        head = "[convolutional]\nsize=1\nstride=1\npad=1\nfilters=255\nactivation=linear\n"
        anchors = "10,14, 23,27, 37,58, 81,82, 135,169, 344,319"
        return f"{head}[yolo]\nmask={mask}\nanchors={anchors}\nclasses=80\nnum=6\n"

    pool = "[maxpool]\nsize=2\nstride=2\n"
    return "\n".join(
        [
            f"[net]\nwidth={width}\nheight={height}\nchannels=3\n",
            *(part for filters in (16, 32, 64, 128, 256) for part in (conv(filters, 3), pool)),
            conv(512, 3),
            "[maxpool]\nsize=2\nstride=1\n",
            conv(1024, 3),
            conv(256, 1),
            conv(512, 3),
            detection("3,4,5"),
            "[route]\nlayers=-4\n",
            conv(128, 1),
            "[upsample]\nstride=2\n",
            "[route]\nlayers=-1,8\n",
            conv(256, 3),
            detection("1,2,3"),
        ]
    )


class OpenCvYolo:
    """`cv2.dnn` over the same weights."""

    def __init__(self, weights: Path, width: int, height: int) -> None:
        cfg = np.frombuffer(darknet_cfg(width, height).encode(), np.uint8)
        self._net = cv2.dnn.readNetFromDarknet(cfg, np.fromfile(weights, np.uint8))

    def detect(self, blob: np.ndarray) -> list[Found]:
        """`blob` is float [1, 3, H, W], RGB in 0..1."""
        self._net.setInput(blob)
        rows = np.concatenate(self._net.forward(self._net.getUnconnectedOutLayersNames()))
        found: list[Found] = []
        for label in range(80):
            scores = rows[:, 5 + label]
            keep = scores > SCORE_FLOOR
            centre, size, scores = rows[keep, :2], rows[keep, 2:4], scores[keep]
            corner = centre - size / 2
            boxes = np.concatenate((corner, size), 1).astype(float)
            for index in cv2.dnn.NMSBoxes(boxes.tolist(), scores.tolist(), SCORE_FLOOR, MAX_OVERLAP):
                x1, y1 = map(float, corner[index])
                x2, y2 = map(float, corner[index] + size[index])
                found.append((label, float(scores[index]), (x1, y1, x2, y2)))
        return found


def hog_decision_values(name: str, grey: np.ndarray) -> np.ndarray:
    """`cv2.HOGDescriptor`'s value of every window of a uint8 picture at a stride of 8: [down, across]."""
    width, height = HOG_WINDOWS[name]
    if name == "hog-people":
        hog = cv2.HOGDescriptor()
        hog.setSVMDetector(cv2.HOGDescriptor.getDefaultPeopleDetector())
    else:  # as OpenCV's own people detection sample makes it: no gamma correction
        hog = cv2.HOGDescriptor((width, height), (16, 16), (8, 8), (8, 8), 9)
        hog.setSVMDetector(cv2.HOGDescriptor.getDaimlerPeopleDetector())
    places, values = hog.detect(grey, hitThreshold=-1e9, winStride=(8, 8), padding=(0, 0))
    table = np.full(((grey.shape[0] - height) // 8 + 1, (grey.shape[1] - width) // 8 + 1), np.nan)
    for (x, y), value in zip(places, np.ravel(values), strict=True):
        table[y // 8, x // 8] = value
    return table


def recorded(name: str) -> Any:
    """What another implementation said when it was last recorded."""
    return json.loads((RECORDED / f"{name}.json").read_text("utf-8"))


def record(name: str, said: Any) -> None:
    """Write it for `recorded`."""
    (RECORDED / f"{name}.json").write_text(json.dumps(said, separators=(",", ":")) + "\n", "utf-8")


def rounded(found: Iterable[Found]) -> list[Found]:
    """Short enough to keep in a file."""
    return [(label, round(score, 4), tuple(round(edge, 5) for edge in box)) for label, score, box in found]  # type: ignore[misc]


def main() -> None:
    from server.catalogue import cache_dir, card_named, locate
    from tests.benchmarks.events.footage import sampled_jpegs
    from tests.server.ensemble.second_opinion import blob_of
    from tests.server.ensemble.test_hog import probe, sparse

    jpegs = sampled_jpegs(cache_dir() / "footage" / "vtest.avi")
    card = card_named("yolov3-tiny")
    weights = locate(card, cache_dir())
    assert weights is not None
    blobs = [blob_of(jpeg, card) for jpeg in jpegs]
    yolo = OpenCvYolo(weights, blobs[0].shape[3], blobs[0].shape[2])
    record("yolov3-tiny", [rounded(yolo.detect(blob.numpy())) for blob in blobs])
    for name in HOG_WINDOWS:
        record(name, np.round(sparse(hog_decision_values(name, probe())), 4).tolist())


if __name__ == "__main__":
    main()
