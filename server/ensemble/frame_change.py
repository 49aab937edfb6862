"""Finds where a frame differs from its neighbours in time: evidence for movement.

The difference of two frames is first corrected for light: for a gain and an offset over the whole view (exposure),
fitted by least squares without the pixels that do not fit, and for a gain that varies slowly (clouds, lamps), the
median over a wide neighbourhood. The rest must exceed a least relative change and a multiple of its own spread, so
that noise raises the threshold, and so does rain, in which frames are compared without what is thin and bright. White
pixels are ignored: they are saturated. A weak change, below the threshold, is of a thing where it is connected with
one that exceeds the threshold (hysteresis; J. Canny, TPAMI 1986).

The difference of two frames shows a moving thing twice, where it was and where it is. `moving_things` finds from all
differences of a burst where it is in each frame (R. Jain, H. Nagel, TPAMI 1979). `focus` tells what is close to the
lens from what is in the scene.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache, reduce
from itertools import combinations, product
from pathlib import Path
from typing import NamedTuple

import msgspec
import torch
import torch.nn.functional as F  # noqa: N812 (the name everybody reads)
from torch import Tensor, nn

from server.catalogue import ModelCard
from server.ensemble.detections import Detections, no_detections
from server.ensemble.focus import Focus
from server.ensemble.moving_things import (
    CELL,
    CELL_SHARE,
    NEAR,
    REACH,
    Change,
    Things,
    in_cells,
    largest_near,
    things_in,
)
from server.ensemble.scene_evidence import scene_evidence

VERSIONS = {"frame-change": 8}
"""Raise it when any frames give another answer."""

MOVING, STILL = 0, 1
"""Indices into the card's classes."""

_DARK = 12.0  # grey levels added before anything is relative, against the noise of dark pixels
_WHITE = 250.0
_THIN = 2  # pixels: what is thinner is noise
_GAINS = (0.2, 5.0)
_FIT_ROUNDS = 4
_FIT_STEP = 3
"""The fit looks at every third pixel of every third row."""
_LIGHT_CELL = 8
_NEIGHBOURS = 3  # a side of the neighbourhood, in cells of 8 x 8 pixels
_LIGHT_NEAR, _LIGHT_EDGES = 2, 0.25
"""A lamp changes how bright things are evenly: within so many pixels, by no more than this part of the change."""
_NIGHT = 60.0
"""Grey levels. Beams of lamps are looked for where half of the view is darker: they show on dark ground only."""
_RAIN, _RAISED = 0.002, 0.5
"""Rain and snow change many places, most of them thin. Where thin changes cover this part of the view or more, the
threshold is higher by the second part, and by less where they cover less.
"""
_RAIN_OF_CHANGES = 0.12
"""Where they are also this part of all that changes, frames are compared without what is thin and bright: else it may
be far things that are thin.
"""
_WEAK = 0.5
"""By day, a weak change is at least this part of a threshold. Thin changes raise it: where there are so many that
it may rain, and at night, nothing below the threshold counts.
"""
_SHAKEN = 0.05
"""A camera that shakes moves the picture by less, in parts of its longer side."""
_SPREAD = 1.4826  # from the median of absolute values to a standard deviation


class Parameters(msgspec.Struct, frozen=True):
    """The `parameters` of the card: a share of the brightness, a multiple of the noise, cells of 4 x 4 pixels."""

    least_change: float
    noise_factor: float
    least_cells: int


class FrameChange(NamedTuple):
    """One frame's answer: `label` (MOVING or STILL) of the whole view, its score in 0..1, and the changed regions.

    `evidence` is that of the scene, with the first frame alone.
    """

    label: int
    score: float
    regions: Detections
    evidence: str | None = None


class Difference(NamedTuple):
    """How many times its threshold each pixel [h, w] of a frame differs from another frame. A weak change has the
    strength `weak` or more.
    """

    strength: Tensor
    weak: float


class Compared(NamedTuple):
    """How many times its threshold each pixel [h, w] of two frames differs from the other one. A weak change has the
    strength `weak` or more. `rains`: it rains or snows.
    """

    one: Tensor
    other: Tensor
    weak: float
    rains: bool


class FrameChangeNet(nn.Module):
    """Labels the frames of a request, in the order of time. A row is uint8 or float [1, h, w], grey in 0..255.

    A frame is moving when it differs from the frame before, and the first when it differs from the second. A frame
    whose neighbours have another size is still.
    """

    def __init__(self, parameters: Parameters) -> None:
        super().__init__()
        self.settings = parameters

    def forward(self, rows: Sequence[Tensor]) -> list[FrameChange]:
        """One answer per row. The score is s / (1 + s), where s is the change in units of a pixel's threshold."""
        answers: list[FrameChange] = []
        start = 0
        for end in range(1, len(rows) + 1):
            if end == len(rows) or rows[end].shape != rows[start].shape:
                answers += self._run(torch.stack(tuple(rows[start:end])).float())
                start = end
        if answers:
            alike = [
                row for row in rows[: REACH + 1] if row.shape == rows[0].shape
            ]  # of any part of a request, as many
            answers[0] = answers[0]._replace(evidence=scene_evidence(torch.stack(alike).float()))
        return answers

    def _run(self, frames: Tensor) -> list[FrameChange]:
        """Frames of one size, [T, 1, h, w]."""
        if len(frames) == 1:
            return [FrameChange(STILL, 1.0, no_detections(frames.device))]
        smooth = _means_near(frames[:, 0])
        white = largest_near(frames[:, 0]) >= _WHITE
        fades = [torch.hann_window(size, periodic=False) for size in smooth.shape[1:]]  # the edges are no edges
        spectra = torch.fft.rfft2((smooth - smooth.mean((1, 2), keepdim=True)) * torch.outer(*fades))
        of_pair: dict[tuple[int, int], Difference] = {}
        shifts: dict[tuple[int, int], tuple[int, int]] = {}
        without_drops = cache(lambda: _means_near(_without_drops(frames[:, 0])))
        for one, other in combinations(range(len(frames)), 2):
            if other - one <= REACH:
                shift = _shift(smooth[one], smooth[other], spectra[one], spectra[other])
                shifts[one, other] = shift
                first, second, weak, rains = self._compared(smooth[one], _shifted(smooth[other], shift))
                if rains:
                    dry = without_drops()
                    first, second, *_ = self._compared(dry[one], _shifted(dry[other], shift))
                back = (-shift[0], -shift[1])
                first = _shown(first.masked_fill_(white[one], 0.0), shift)
                second = _shown(_shifted(second, back).masked_fill(white[other], 0.0), back)
                of_pair[one, other], of_pair[other, one] = Difference(first, weak), Difference(second, weak)
        changes = [_change(place, of_pair) for place in range(len(frames))]
        focus = Focus(frames[:, 0], shifts)
        found = zip(changes, things_in(changes, focus), strict=True)
        return [self._answer(change, things, focus, place) for place, (change, things) in enumerate(found)]

    def _compared(self, one: Tensor, other: Tensor) -> Compared:
        """How many times its threshold each pixel of a frame is outside of what is around it in the other one, and each
        pixel of the other one likewise.
        """
        if one.mean() < other.mean():  # a brighter frame cannot be made darker: its white hides how bright things are
            found = self._compared(other, one)
            return found._replace(one=found.other, other=found.one)
        other = _exposed_like(other, one) + _DARK
        one = one + _DARK
        light = _slow_light(torch.log(one / other))
        other = other * torch.exp(light)
        noise = (one - other).abs_().median() * (_SPREAD * self.settings.noise_factor)
        least = torch.maximum(noise, torch.minimum(one, other) * self.settings.least_change)
        strengths = _outside(one, other).div_(least), _outside(other, one).div_(least)
        changed = torch.stack(strengths) > 1
        thin = sum(int((each & ~_without_thin(each)).sum()) for each in changed)
        part = thin / changed.numel()
        rains = part >= _RAIN and thin >= _RAIN_OF_CHANGES * int(changed.sum())
        rain = min(part / _RAIN, 1.0)
        for strength in strengths:
            strength.div_(1 + _RAISED * rain)
        if one.median() >= _NIGHT + _DARK:
            return Compared(*strengths, _WEAK + (1 - _WEAK) * rain, rains)
        is_light = _is_light(torch.log(one / other))
        first, second = (strength.masked_fill_(is_light, 0.0) for strength in strengths)
        return Compared(first, second, 1.0, rains)

    def _answer(self, change: Change, things: Things, focus: Focus, place: int) -> FrameChange:
        found = self._found(things)
        if not found.any():  # what comes and stays at once has no way
            change = Change(change.since, change.since, _without_thin(change.since > 1), None)
            things = next(things_in([change], focus, place))
            found = self._found(things)
        regions = _regions(change, things, found & ~things.is_soft)
        if regions.scores.numel() == 0:
            return FrameChange(STILL, 1 / (1 + float(in_cells(change.since).max())), regions)
        return FrameChange(MOVING, float(regions.scores.max()), regions)

    def _found(self, things: Things) -> Tensor:
        """Of which things a frame shows enough [n]."""
        least = self.settings.least_cells
        return (things.cells >= least) & (things.pixels >= least * CELL_SHARE * CELL**2) & ~things.is_streak


def _regions(change: Change, things: Things, chosen: Tensor) -> Detections:
    """The chosen things; boxes in 0..1, best score first."""
    height, width = change.since.shape
    found = torch.nonzero(chosen).flatten()
    scores = (things.strength / (1 + things.strength))[found].float()
    order = torch.argsort(scores, descending=True, stable=True)
    boxes = things.boxes[found] / torch.tensor((width, height, width, height))
    return Detections(boxes[order], scores[order], torch.full((len(found),), MOVING))


def _change(place: int, of_pair: Mapping[tuple[int, int], Difference]) -> Change:
    """How a frame differs from those near it. At an end of the burst only the nearest one counts: in a longer time, a
    thing goes a longer way, and the side from which it came is not known there.
    """
    before, after = (
        [of_pair[place, other] for other in span if (place, other) in of_pair]
        for span in (range(place - 1, place - 1 - REACH, -1), range(place + 1, place + 1 + REACH))
    )
    since = torch.stack([each.strength for each in before or after]).amin(0)
    if not (before and after):
        before, after = before[:1], after[:1]
    sides = [
        _without_thin(torch.stack([each.strength > each.weak for each in side]).any(0)) if side else None
        for side in (before, after)
    ]
    return Change(since, torch.stack([each.strength for each in before + after]).amax(0), *sides)


def _outside(frame: Tensor, other: Tensor) -> Tensor:
    """By how much each pixel is brighter or darker than all that are near in the other frame."""
    return torch.maximum(frame - largest_near(other), -largest_near(-other) - frame).clamp_(min=0.0)


def _means_near(frames: Tensor) -> Tensor:
    """The mean around each pixel [..., h, w], one pixel to any side; quicker than `avg_pool2d`, to the last bit."""
    height, width = frames.shape[-2:]
    wide, inside = (F.pad(each, (1,) * 4) for each in (frames, torch.ones_like(frames[0])))
    sums, counts = (
        reduce(torch.add, (each[..., y : y + height, x : x + width] for y, x in product(range(3), repeat=2)))
        for each in (wide, inside)
    )
    return sums / counts


def _without_thin(changed: Tensor) -> Tensor:
    """The changed pixels without what is thinner than _THIN pixels: those that squares of such pixels cover."""
    for axis in (0, 1):
        for _ in range(_THIN - 1):
            size = changed.shape[axis] - 1
            changed = changed.narrow(axis, 0, size) & changed.narrow(axis, 1, size)
    changed = F.pad(changed, (_THIN - 1,) * 4)
    for axis in (0, 1):
        for _ in range(_THIN - 1):
            size = changed.shape[axis] - 1
            changed = changed.narrow(axis, 0, size) | changed.narrow(axis, 1, size)
    return changed


def _without_drops(frames: Tensor) -> Tensor:
    """Frames [T, h, w] without what is brighter than around it and thinner than three pixels, as drops and flakes are
    (grey opening; J. Serra, Image Analysis and Mathematical Morphology, 1982).
    """
    return largest_near(-largest_near(-frames))


def _shift(one: Tensor, other: Tensor, spectrum: Tensor, spectrum_of_other: Tensor) -> tuple[int, int]:
    """By how many pixels down and to the right `other` lies on `one`, where the camera shook (phase correlation; C.
    Kuglin, D. Hines, 1975); none where that explains nothing.
    """
    cross = spectrum * spectrum_of_other.conj()
    place = int(torch.fft.irfft2(cross / cross.abs().clamp_(min=1e-6), s=one.shape).argmax())
    height, width = one.shape
    down, right = place // width, place % width
    down, right = down - height * (2 * down > height), right - width * (2 * right > width)
    if (down, right) == (0, 0) or max(abs(down), abs(right)) > max(height, width) * _SHAKEN:
        return 0, 0
    is_better = (_shifted(other, (down, right)) - one).abs().median() < (other - one).abs().median()
    return (down, right) if is_better else (0, 0)


def _shifted(frame: Tensor, shift: tuple[int, int]) -> Tensor:
    """The frame, moved down and to the right, its edges repeated."""
    if shift == (0, 0):
        return frame
    rows, columns = (
        (torch.arange(size) - step).clamp_(0, size - 1) for size, step in zip(frame.shape, shift, strict=True)
    )
    return frame[rows][:, columns]


def _shown(strength: Tensor, shift: tuple[int, int]) -> Tensor:
    """The strength, zero in the strips that the other frame, shifted so, does not show."""
    for axis, step in enumerate(shift):
        if step:
            reach = min(abs(step) + NEAR, strength.shape[axis])
            strength.narrow(axis, 0 if step > 0 else strength.shape[axis] - reach, reach).zero_()
    return strength


def _exposed_like(frame: Tensor, other: Tensor) -> Tensor:
    """`frame` with the gain and offset that make it equal to `other`, except where something moved."""
    x, y = (each[::_FIT_STEP, ::_FIT_STEP].flatten() for each in (frame, other))
    places = torch.arange(len(x))
    gain, offset = x.new_tensor(1.0), x.new_tensor(0.0)
    for _ in range(_FIT_ROUNDS):
        inside, target = (each.index_select(0, places) for each in (x, y))
        centred = inside - inside.mean()
        gain = ((centred * target).sum() / centred.square().sum().clamp_(min=1.0)).clamp_(*_GAINS)
        offset = target.mean() - gain * inside.mean()
        misfit = (y - gain * x - offset).abs_()
        places = torch.nonzero(misfit <= 2 * misfit.median()).flatten()
    return (gain * frame + offset).clamp_(0, 255)


def _slow_light(change: Tensor) -> Tensor:
    """The part of a change that varies slowly: medians over about a quarter of the view, interpolated."""
    cells = F.avg_pool2d(change[None, None], _LIGHT_CELL, ceil_mode=True, count_include_pad=False)
    around = F.unfold(F.pad(cells, (_NEIGHBOURS // 2,) * 4, mode="replicate"), _NEIGHBOURS)
    slow = around.median(1).values.view_as(cells)
    return F.interpolate(slow, change.shape, mode="bilinear", align_corners=False)[0, 0]


def _is_light(change: Tensor) -> Tensor:
    """Where a change [h, w], as a logarithm, has no edge nearby: the beam of a lamp on a road, not a thing."""
    around = F.avg_pool2d(change[None, None], 2 * _LIGHT_NEAR + 1, 1, _LIGHT_NEAR, count_include_pad=False)
    edges = F.max_pool2d((change - around).abs(), 2 * _LIGHT_NEAR + 1, 1, _LIGHT_NEAR)[0, 0]
    return edges < change.abs() * _LIGHT_EDGES


def build(card: ModelCard, weights: Path | None) -> FrameChangeNet:
    """The network of `card`, in evaluation mode. It has no weights."""
    return FrameChangeNet(card.parameters_as(Parameters)).eval()
