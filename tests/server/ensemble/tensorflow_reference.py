"""What TensorFlow says of ssdlite-people: it runs the published graph itself, and what it answers is recorded.

Run `python -m tests.server.ensemble.tensorflow_reference` to record anew, on purpose; it needs TensorFlow, which the
tests do not.
"""

from __future__ import annotations

import numpy as np

from server.catalogue import cache_dir, card_named, locate
from tests.benchmarks.events.footage import sampled_jpegs
from tests.server.ensemble.opencv import Found, record, rounded
from tests.server.ensemble.second_opinion import blob_of

SCORE_FLOOR = 0.25
_PIXELS = "Preprocessor/sub:0"
"""The graph's own input takes whole numbers and resizes them; this is what follows: RGB in -1..1."""


def main() -> None:
    import tensorflow as tf  # type: ignore[import-not-found,unused-ignore]

    card = card_named("ssdlite-people")
    weights = locate(card, cache_dir())
    assert weights is not None
    definition = tf.compat.v1.GraphDef.FromString(weights.read_bytes())
    answers = ["detection_boxes:0", "detection_scores:0"]
    with tf.Graph().as_default() as graph:
        tf.import_graph_def(definition, name="")
    seen = []
    with tf.compat.v1.Session(graph=graph) as session:
        for jpeg in sampled_jpegs(cache_dir() / "footage" / "vtest.avi"):
            pixels = blob_of(jpeg, card).permute(0, 2, 3, 1).numpy()
            whole = {"image_tensor:0": np.zeros((1, card.input.size[1], card.input.size[0], 3), np.uint8)}
            boxes, scores = session.run(answers, {_PIXELS: pixels, **whole})
            found: list[Found] = [
                (0, float(score), (float(box[1]), float(box[0]), float(box[3]), float(box[2])))
                for box, score in zip(boxes[0], scores[0], strict=True)
                if score >= SCORE_FLOOR
            ]
            seen.append(rounded(found))
    record("ssdlite-people", seen)


if __name__ == "__main__":
    main()
