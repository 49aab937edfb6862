"""What `frame-change` answers for the same frames in shorter bursts, where a frame has fewer neighbours."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

import torch

from policies.observation import Box, Prediction
from server.ensemble import Ensemble

Answers = Mapping[str, tuple[Prediction, ...] | None]

_PERSON = 0.3
_GRID = 128


def in_bursts(ensemble: Ensemble, frames: Sequence[bytes], lengths: Sequence[int]) -> dict[int, dict[str, str]]:
    """Per length: how often the labels are those of the first length, and how many persons lie in a changed region.

    Persons are the boxes of `yolov3-tiny` with a score of .3 or more; a person lies in a region that holds the centre
    of the box. There is no truth in this: a region that covers everything would hold every person.
    """
    persons = [_persons(answer) for answer in ensemble.only("yolov3-tiny").answer(frames)]
    alone = ensemble.only("frame-change")
    answers = {
        length: [
            answer for first in range(0, len(frames), length) for answer in alone.answer(frames[first : first + length])
        ]
        for length in lengths
    }
    return {length: _compared(persons, answers[length], answers[lengths[0]]) for length in lengths}


def _regions(answer: Answers) -> list[Box]:
    return [seen.box for seen in answer["frame-change"] or () if seen.label == "moving" and seen.box is not None]


def _is_moving(answer: Answers) -> bool:
    return any(seen.label == "moving" for seen in answer["frame-change"] or ())


def _persons(answer: Answers) -> list[Box]:
    return [
        seen.box
        for seen in answer["yolov3-tiny"] or ()
        if seen.label == "person" and seen.box is not None and seen.score >= _PERSON
    ]


def _compared(
    persons: Sequence[Sequence[Box]], answers: Sequence[Answers], longest: Sequence[Answers]
) -> dict[str, str]:
    inside = total = 0
    for boxes, answer in zip(persons, answers, strict=True):
        regions = _regions(answer)
        centres = [((left + right) / 2, (top + bottom) / 2) for left, top, right, bottom in boxes]
        inside += sum(any(_holds(region, *centre) for region in regions) for centre in centres)
        total += len(boxes)
    same = [_is_moving(answer) == _is_moving(other) for answer, other in zip(answers, longest, strict=True)]
    masks = [_mask(_regions(answer)) for answer in answers]
    both = [(mask, _mask(_regions(other))) for mask, other in zip(masks, longest, strict=True)]
    shared = sum(int((mask & other).sum()) for mask, other in both) / sum(
        int((mask | other).sum()) for mask, other in both
    )
    return {
        "labels as in bursts of 10": f"{statistics.mean(same):.1%}",
        "frames labelled moving": f"{statistics.mean(map(_is_moving, answers)):.1%}",
        "persons in a changed region": f"{inside / total:.1%} of {total}",
        "changed regions, part of the view": f"{statistics.mean(float(mask.float().mean()) for mask in masks):.1%}",
        "changed regions, overlap with those in bursts of 10 (IoU)": f"{shared:.2f}",
    }


def _holds(region: Box, x: float, y: float) -> bool:
    left, top, right, bottom = region
    return left <= x <= right and top <= y <= bottom


def _mask(regions: Sequence[Box]) -> torch.Tensor:
    """Which cells of a grid over the view the regions cover."""
    grid = torch.zeros(_GRID, _GRID, dtype=torch.bool)
    for left, top, right, bottom in regions:
        grid[round(top * _GRID) : round(bottom * _GRID), round(left * _GRID) : round(right * _GRID)] = True
    return grid
