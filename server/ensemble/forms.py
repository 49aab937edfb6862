"""Input forms: brings a frame, or a sector's crop of it, to a row of a network's batch.

Each form is applied once per frame, for all models that share it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812 (the name everybody reads)
from torch import Tensor

from policies.observation import Box
from server.catalogue.card import InputForm

VERSIONS = {"stretch": 1, "shrink": 1, "letterbox": 1, "crop": 1}
"""Of each fit. Raise the one whose rows change, and all when resizing, grey or normalisation change."""

CENTRE_VERSIONS = {"boxes of the centre": 1}
"""Of the way from the centre of a frame, which `crop` shows, back to the frame; detectors alone take it."""

_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601, as JPEG has it
WHOLE: Box = (0.0, 0.0, 1.0, 1.0)


def versions(form: InputForm) -> dict[str, int]:
    """The version of each fit that makes rows of this form. Stretched sectors are part of `crop`."""
    fits = (form.fit,) if form.sector_fit == "stretch" else (form.fit, form.sector_fit)
    return {fit: VERSIONS[fit] for fit in fits}


class Row(NamedTuple):
    """One row of a batch before normalisation.

    `pixels` is uint8 [C, h, w]. `content` is the box of the image in it, without padding, in 0..1 of the row; it
    reaches beyond the row where that shows the centre only. `sector` is the sector whose crop this is, None for the
    whole view. `crop` is the part of the frame that was brought to the row.
    """

    pixels: Tensor
    content: Box
    sector: str | None
    crop: Box = WHOLE

    @property
    def pixels_across(self) -> float:
        """How many of its pixels the frame's whole width would have."""
        return self.pixels.shape[-1] * (self.content[2] - self.content[0]) / (self.crop[2] - self.crop[0])


def row_of(frame: Tensor, form: InputForm, *, crop: Box = WHOLE, sector: str | None = None) -> Row:
    """A frame, uint8 RGB [3, H, W], brought to `form`; `crop`, in 0..1 of the frame, is cut out first.

    Where the form would cut off the sides of a sector, the form's `sector_fit` applies, so that a thing at the edge
    of a long sector counts.
    """
    pixels, shown = (frame, WHOLE) if crop == WHOLE else _cropped(frame, crop)
    would_cut = sector is not None and form.fit == "crop"
    bring = _SECTOR_FITS[form.sector_fit] if would_cut else _FITS[form.fit]
    brought, content = bring(pixels[None], form)
    return Row(_COLOURS[form.colour](brought)[0], content, sector, shown)


def normalised(pixels: Tensor, form: InputForm) -> Tensor:
    """Rows, uint8 [N, C, h, w] -> input of a network, `(value - mean) / std` in the form's `dtype`, channels last."""
    mean, std = (
        torch.tensor(values, dtype=torch.float32, device=pixels.device).view(1, -1, 1, 1)
        for values in (form.mean, form.std)
    )
    values = pixels.float().sub_(mean).div_(std).to(getattr(torch, form.dtype))
    return values.contiguous(memory_format=torch.channels_last)


def onto_frame(boxes: Tensor, content: Box, crop: Box = WHOLE) -> Tensor:
    """Boxes [K, 4] in 0..1 of a padded row -> in 0..1 of the frame, clipped to what the row shows of it, `crop`."""
    origin, extent = _origin_and_extent(boxes, content)
    shown = ((boxes - origin) / extent).clamp_(0, 1)
    if crop == WHOLE:
        return shown
    origin, extent = _origin_and_extent(boxes, crop)
    return shown * extent + origin


def _origin_and_extent(like: Tensor, box: Box) -> tuple[Tensor, Tensor]:
    left, top, right, bottom = box
    sides = (right - left, bottom - top)
    return like.new_tensor((left, top, left, top)), like.new_tensor((*sides, *sides))


def _cropped(frame: Tensor, crop: Box) -> tuple[Tensor, Box]:
    """The pixels that `crop` touches, at least one, and where they lie in 0..1 of the frame."""
    height, width = frame.shape[-2:]
    left, top = min(int(crop[0] * width), width - 1), min(int(crop[1] * height), height - 1)
    right, bottom = max(left + 1, -int(-crop[2] * width // 1)), max(top + 1, -int(-crop[3] * height // 1))
    return frame[:, top:bottom, left:right], (left / width, top / height, right / width, bottom / height)


def _stretch(pixels: Tensor, form: InputForm) -> tuple[Tensor, Box]:
    return _resized(pixels, form.size, form.resample), WHOLE


def _shrink(pixels: Tensor, form: InputForm) -> tuple[Tensor, Box]:
    height, width = pixels.shape[-2:]
    factor = min(1.0, form.size[0] / width, form.size[1] / height)
    return _resized(pixels, (max(1, round(width * factor)), max(1, round(height * factor))), form.resample), WHOLE


def _letterbox(pixels: Tensor, form: InputForm) -> tuple[Tensor, Box]:
    return _padded(pixels, form, form.multiples)


def _letterbox_to_size(pixels: Tensor, form: InputForm) -> tuple[Tensor, Box]:
    return _padded(pixels, form, form.size)


def _padded(pixels: Tensor, form: InputForm, multiples: tuple[int, int]) -> tuple[Tensor, Box]:
    """As large as fits into the form's size, then padded to the next multiples of width and height."""
    height, width = pixels.shape[-2:]
    factor = min(form.size[0] / width, form.size[1] / height)
    if form.fit == "letterbox" and form.shorter_side:
        factor = min(factor, form.shorter_side / min(width, height))
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    full = tuple(-(-side // multiple) * multiple for side, multiple in zip(size, multiples, strict=True))
    left, top = ((whole - side) // 2 for whole, side in zip(full, size, strict=True))
    padding = (left, full[0] - size[0] - left, top, full[1] - size[1] - top)
    content = (left / full[0], top / full[1], (left + size[0]) / full[0], (top + size[1]) / full[1])
    return F.pad(_resized(pixels, size, form.resample), padding, value=form.pad), content


def _crop_centre(pixels: Tensor, form: InputForm) -> tuple[Tensor, Box]:
    """The pixels of torchvision's `Resize` and `CenterCrop`: the longer side is truncated, and half a pixel of the
    offset is rounded to even.
    """
    assert form.shorter_side is not None
    height, width = pixels.shape[-2:]
    shorter, longer = min(height, width), int(form.shorter_side * max(height, width) / min(height, width))
    size = (form.shorter_side, longer) if width == shorter else (longer, form.shorter_side)
    resized = _resized(pixels, size, form.resample)
    left, top = round((size[0] - form.size[0]) / 2), round((size[1] - form.size[1]) / 2)
    content = (
        -left / form.size[0],
        -top / form.size[1],
        (size[0] - left) / form.size[0],
        (size[1] - top) / form.size[1],
    )
    return resized[..., top : top + form.size[1], left : left + form.size[0]], content


def _resized(pixels: Tensor, size: tuple[int, int], resample: str) -> Tensor:
    """Bilinear or bicubic; a reduction averages over all pixels, as in Pillow."""
    width, height = size
    if tuple(pixels.shape[-2:]) == (height, width):
        return pixels
    return F.interpolate(pixels, (height, width), mode=resample, align_corners=False, antialias=True)


def _grey(pixels: Tensor) -> Tensor:
    """RGB uint8 [1, 3, H, W] -> luma uint8 [1, 1, H, W]."""
    red, green, blue = pixels.float().unbind(1)
    return red.mul_(_LUMA[0]).add_(green, alpha=_LUMA[1]).add_(blue, alpha=_LUMA[2]).round_().byte()[:, None]


_COLOURS: dict[str, Callable[[Tensor], Tensor]] = {
    "rgb": lambda pixels: pixels,
    "bgr": lambda pixels: pixels.flip(1),
    "grey": _grey,
}
_FITS = {"stretch": _stretch, "shrink": _shrink, "letterbox": _letterbox, "crop": _crop_centre}
_SECTOR_FITS = {"stretch": _stretch, "letterbox": _letterbox_to_size}
"""Of sectors, where the form of a frame is `crop`: every row has the form's size."""
