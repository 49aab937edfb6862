"""Boxes that say the same thing twice."""

import subprocess
import sys

import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision.ops import box_iou, nms

from server.ensemble.detections import overlaps, suppress, unsuppressed

_NUMBERS = st.integers(0, 12)
_BOXES = st.lists(st.tuples(_NUMBERS, _NUMBERS, _NUMBERS, _NUMBERS, st.integers(0, 4)), max_size=40)


@given(_BOXES, st.sampled_from([0.0, 0.3, 0.5, 1.0]))
def test_suppression_leaves_what_torchvisions_leaves(
    drawn: list[tuple[int, int, int, int, int]], max_overlap: float
) -> None:
    table = torch.tensor(drawn, dtype=torch.float32).view(-1, 5)
    boxes = torch.cat([table[:, :2], table[:, :2] + table[:, 2:4] + 1], 1) / 25
    scores = table[:, 4] / 4  # many are equal: the earlier of them goes first
    assert torch.equal(overlaps(boxes, boxes), box_iou(boxes, boxes))
    assert unsuppressed(boxes, scores, max_overlap).tolist() == nms(boxes, scores, max_overlap).tolist()


def test_boxes_of_different_classes_never_suppress_each_other() -> None:
    box = torch.tensor([[0.1, 0.1, 0.5, 0.9]])
    found = suppress(box.repeat(3, 1), torch.tensor([0.5, 0.9, 0.7]), torch.tensor([1, 2, 1]), 0.5)
    assert found.classes.tolist() == [2, 1]


def test_the_shipped_models_do_without_torchvision_whose_import_costs_memory_and_time() -> None:
    code = "import sys; from server.ensemble import load_ensemble; "
    code += "load_ensemble(['frame-change', 'hog-people']); print('torchvision' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
