"""Detectors see enlarged parts of a frame as well: small things are found, and a thing seen twice is one."""

from __future__ import annotations

import time

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from policies.geometry import iou
from policies.observation import Box, Prediction
from server.catalogue import InputForm
from server.ensemble.decode import decode
from server.ensemble.detections import Detections, no_detections, seen_once
from server.ensemble.ensemble import Ensemble
from tests.server.ensemble.pictures import encoded
from tests.server.ensemble.test_module import TinyClassifier, card, mixed_pictures, module_of

FORM = InputForm("rgb", "letterbox", (96, 96), multiple_of=32, std=(255.0,))
FAR = (0.5, 0.25, 0.75, 0.5)
SMALL = (0.6, 0.3, 0.62, 0.36)
LARGE = (0.1, 0.1, 0.4, 0.9)
RED, GREEN = (230, 0, 0), (0, 230, 0)


class FindsRed(nn.Module):
    """Finds what is red and at least eight pixels high in a row, in one box; larger things have higher scores."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[tuple[int, ...]] = []

    def forward(self, rows: Tensor) -> list[Detections]:
        self.batches.append(tuple(rows.shape))
        return [self._row(row) for row in rows]

    def _row(self, row: Tensor) -> Detections:
        height, width = row.shape[1:]
        y, x = torch.nonzero(row[0] - row[1:].amax(0) > 0.5, as_tuple=True)
        if not len(y) or y.max() - y.min() < 7:
            return no_detections(row.device)
        box = torch.tensor([[x.min() / width, y.min() / height, (x.max() + 1) / width, (y.max() + 1) / height]])
        score = 0.5 + (y.max() - y.min()).item() / (2 * height)
        return Detections(box, torch.tensor([score]), torch.zeros(1, dtype=torch.int64))


def picture(**things: Box) -> bytes:
    """A dark picture of 640x480 with a red thing at each box."""
    made = Image.new("RGB", (640, 480), (20, 20, 20))
    for left, top, right, bottom in things.values():
        made.paste(RED, (round(left * 640), round(top * 480), round(right * 640), round(bottom * 480)))
    return encoded(made)


def boxes(image: bytes, *enlarged: Box, form: InputForm = FORM) -> list[Prediction]:
    (answer,) = Ensemble(module_of((card("a", "detector", form), FindsRed()))).answer([image], {}, enlarged)
    return list(answer["a"] or ())


def test_a_small_thing_is_found_in_an_enlarged_part_and_its_box_is_of_the_frame() -> None:
    assert boxes(picture(small=SMALL)) == []
    (found,) = boxes(picture(small=SMALL), FAR)
    assert found.box is not None
    assert iou(found.box, SMALL) > 0.7


def test_a_thing_that_the_frame_and_two_parts_show_is_one_with_the_best_score() -> None:
    thing = (0.55, 0.28, 0.65, 0.44)
    (plain,) = boxes(picture(thing=thing))
    (found,) = boxes(picture(thing=thing), FAR, (0.5, 0.2, 0.8, 0.5))
    assert found.score > plain.score
    assert found.box is not None
    assert iou(found.box, thing) > 0.8


def test_of_a_thing_that_the_border_of_a_part_cuts_off_the_whole_box_of_the_frame_is_left() -> None:
    assert boxes(picture(large=LARGE), (0.2, 0.2, 0.7, 0.7)) == boxes(picture(large=LARGE))


def test_a_part_at_the_edge_of_the_frame_cuts_nothing_off_there() -> None:
    (found,) = boxes(picture(corner=(0.95, 0.94, 1.0, 1.0)), (0.75, 0.75, 1.0, 1.0))
    assert found.box is not None
    assert found.box[2:] == (1.0, 1.0)


def test_the_boxes_of_a_detector_that_sees_the_centre_are_of_the_frame() -> None:
    form = InputForm("rgb", "crop", (96, 96), shorter_side=128, std=(255.0,))
    (found,) = boxes(picture(thing=(0.4, 0.3, 0.6, 0.8)), form=form)
    assert found.box is not None
    assert iou(found.box, (0.4, 0.3, 0.6, 0.8)) > 0.9


def test_frames_and_their_enlarged_parts_are_rows_of_one_batch() -> None:
    network = FindsRed()
    Ensemble(module_of((card("a", "detector", FORM), network))).answer(
        [picture(), picture()], {}, [FAR, (0, 0, 0.5, 0.5)]
    )
    assert network.batches == [(6, 3, 96, 96)]


def test_classifiers_are_not_asked_about_enlarged_parts() -> None:
    network = TinyClassifier(1)
    Ensemble(module_of((card("a"), network))).answer([picture()], {"yard": (0.0, 0.0, 0.5, 0.5)}, [FAR])
    assert network.batches == [(2, 3, 24, 32)]


@pytest.mark.parametrize(("size", "rows"), [((640, 640), 0), ((320, 320), 1)])
def test_a_part_that_a_form_shows_no_larger_has_no_row(size: tuple[int, int], rows: int) -> None:
    form = InputForm("rgb", "shrink", size, std=(255.0,))
    module = module_of((card("a", "detector", form), FindsRed()))
    assert len(module.prepare(decode(picture()), {}, [FAR]).enlarged[form]) == rows


def test_answers_with_enlarged_parts_are_the_same_alone_and_together() -> None:
    pictures = [picture(small=SMALL), *mixed_pictures(6), picture(large=LARGE, small=SMALL)]
    ensemble = Ensemble(module_of((card("a", "detector", FORM), FindsRed())))
    together = ensemble.answer(pictures, {}, [FAR])
    assert together == [ensemble.answer([each], {}, [FAR])[0] for each in pictures]


PART = (0.0, 0.0, 0.5, 0.5)


def seen(label: str, score: float, *box: float) -> Prediction:
    return Prediction(label, score, (box[0], box[1], box[2], box[3]))


def test_a_far_person_in_the_box_of_a_near_one_is_another_thing() -> None:
    near, far = seen("person", 0.9, 0.3, 0.1, 0.6, 0.95), seen("person", 0.6, 0.35, 0.5, 0.42, 0.8)
    assert seen_once([near], [([far], (0.25, 0.3, 0.8, 0.9))]) == [near, far]


def test_the_boxes_of_sixteen_parts_with_a_hundred_boxes_each_are_compared_in_little_time() -> None:
    def look(part: int) -> list[Prediction]:
        left, top = part % 5 / 50, part // 5 / 50
        corners = [(left + x / 10, top + y / 10) for x in range(10) for y in range(10)]
        return [seen("person", 0.5, x, y, x + 0.015, y + 0.015) for x, y in corners]

    looks = [look(part) for part in range(17)]
    began = time.thread_time()
    assert len(seen_once(looks[0], [(each, (0.0, 0.0, 1.0, 1.0)) for each in looks[1:]])) == 1700
    assert time.thread_time() - began < 0.5


@pytest.mark.parametrize("scores", [(0.4, 0.9), (0.9, 0.4), (0.5, 0.5)])
def test_of_a_box_in_another_the_one_with_the_higher_score_is_left(scores: tuple[float, float]) -> None:
    whole, part = seen("person", scores[0], 0.1, 0.1, 0.2, 0.4), seen("person", scores[1], 0.11, 0.1, 0.19, 0.2)
    assert seen_once([whole], [([part], PART)]) == [part if scores[1] > scores[0] else whole]


@pytest.mark.parametrize(
    "other",
    [
        seen("car", 0.9, 0.1, 0.1, 0.2, 0.4),
        seen("person", 0.9, 0.25, 0.1, 0.35, 0.4),
        seen("person", 0.9, 0.16, 0.1, 0.26, 0.4),
    ],
)
def test_things_of_two_labels_or_beside_each_other_are_two(other: Prediction) -> None:
    whole = seen("person", 0.4, 0.1, 0.1, 0.2, 0.4)
    assert seen_once([whole], [([other], PART)]) == [whole, other]


def test_what_a_detector_tells_apart_in_one_look_stays_apart() -> None:
    pair = [seen("person", 0.8, 0.1, 0.1, 0.2, 0.4), seen("person", 0.7, 0.12, 0.1, 0.22, 0.4)]
    assert seen_once(pair, [([], PART)]) == pair
    assert seen_once([], [(pair, PART)]) == pair
    nearer = seen("person", 0.9, 0.115, 0.1, 0.215, 0.4)
    assert seen_once(pair, [([nearer], PART)]) == [pair[0], nearer]
