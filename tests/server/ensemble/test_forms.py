"""A frame arrives in a network in the form its card asks for, and boxes find their way back."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms

from server.catalogue import InputForm
from server.ensemble.forms import normalised, onto_frame, row_of

FRAME = torch.from_numpy(np.random.default_rng(1).integers(0, 255, (3, 120, 200), dtype=np.uint8))


def test_stretch_gives_exactly_the_size() -> None:
    row = row_of(FRAME, InputForm("rgb", "stretch", (64, 32)))
    assert row.pixels.shape == (3, 32, 64)
    assert row.content == (0, 0, 1, 1)


def test_letterbox_keeps_the_aspect_and_pads_with_grey_to_a_multiple() -> None:
    row = row_of(FRAME, InputForm("rgb", "letterbox", (416, 416), multiple_of=32))
    assert row.pixels.shape == (3, 256, 416)  # 250 rows of picture, 6 of padding
    assert row.content == (0, 3 / 256, 1, 253 / 256)
    assert bool((row.pixels[:, :3] == 128).all())
    assert bool((row.pixels[:, 253:] == 128).all())


def test_shrink_never_enlarges() -> None:
    form = InputForm("rgb", "shrink", (100, 100))
    assert row_of(FRAME, form).pixels.shape == (3, 60, 100)
    assert row_of(FRAME[:, :50, :80], form).pixels.shape == (3, 50, 80)


def test_crop_takes_the_centre_after_the_shorter_side() -> None:
    row = row_of(FRAME, InputForm("rgb", "crop", (96, 96), shorter_side=120))
    assert torch.equal(row.pixels, FRAME[:, 12:108, 52:148])


@pytest.mark.parametrize("size", [(768, 576), (1280, 720), (640, 427), (427, 640), (300, 299)])
def test_a_centre_crop_is_where_torchvision_takes_it_to_the_pixel(size: tuple[int, int]) -> None:
    picture = Image.fromarray(
        np.random.default_rng(2).integers(0, 255, (size[1] // 8, size[0] // 8, 3), dtype=np.uint8)
    )
    picture = picture.resize(size, Image.Resampling.BICUBIC)
    theirs = np.asarray(transforms.CenterCrop(224)(transforms.Resize(256)(picture))).astype(int)
    frame = torch.from_numpy(np.array(picture)).permute(2, 0, 1)
    ours = row_of(frame, InputForm("rgb", "crop", (224, 224), shorter_side=256)).pixels.permute(1, 2, 0).numpy()
    assert np.abs(ours.astype(int) - theirs).max() <= 1


def test_grey_is_pillows_luma() -> None:
    grey = row_of(FRAME, InputForm("grey", "shrink", (768, 768))).pixels[0].numpy().astype(int)
    pillows = np.asarray(Image.fromarray(FRAME.permute(1, 2, 0).numpy()).convert("L")).astype(int)
    assert np.abs(grey - pillows).max() <= 1


def test_smaller_pictures_are_averages_as_pillows_are() -> None:
    row = row_of(FRAME, InputForm("rgb", "stretch", (50, 30)))
    picture = Image.fromarray(FRAME.permute(1, 2, 0).numpy()).resize((50, 30), Image.Resampling.BILINEAR)
    difference = row.pixels.permute(1, 2, 0).numpy().astype(int) - np.asarray(picture).astype(int)
    assert np.abs(difference).max() <= 1


def test_a_crop_is_the_part_of_the_frame_it_names() -> None:
    form = InputForm("rgb", "shrink", (768, 768))
    row = row_of(FRAME, form, crop=(0.25, 0.5, 0.75, 1.0), sector="yard")
    assert torch.equal(row.pixels, FRAME[:, 60:, 50:150])
    assert row.sector == "yard"


@pytest.mark.parametrize("crop", [(0.5, 0.5, 0.5, 0.5), (1.0, 1.0, 1.0, 1.0), (0.0, 0.0, 0.001, 0.001)])
def test_the_smallest_crop_is_one_pixel(crop: tuple[float, float, float, float]) -> None:
    row = row_of(FRAME, InputForm("rgb", "shrink", (768, 768)), crop=crop)
    assert row.pixels.shape == (3, 1, 1)


@pytest.mark.parametrize("size", [(1, 1), (1, 2000), (2000, 1), (33, 31)])
@pytest.mark.parametrize("fit", ["stretch", "letterbox", "shrink", "crop"])
def test_no_frame_is_too_odd_for_a_form(fit: str, size: tuple[int, int]) -> None:
    form = InputForm("rgb", fit, (64, 64), multiple_of=32, shorter_side=64)  # type: ignore[arg-type]
    row = row_of(torch.zeros(3, *size, dtype=torch.uint8), form)
    assert min(row.pixels.shape) >= 1


def test_normalisation_takes_mean_and_deviation_per_channel() -> None:
    form = InputForm("rgb", "stretch", (2, 2), mean=(10, 20, 30), std=(1, 2, 4))
    values = normalised(torch.full((1, 3, 2, 2), 50, dtype=torch.uint8), form)
    assert values[0, :, 0, 0].tolist() == [40, 15, 5]


def test_boxes_of_a_padded_row_are_brought_onto_the_frame_and_clipped() -> None:
    content = (0.0, 0.25, 1.0, 0.75)
    boxes = torch.tensor([[0.2, 0.25, 0.4, 0.5], [-0.1, 0.0, 0.5, 0.9]])
    expected = torch.tensor([[0.2, 0.0, 0.4, 0.5], [0.0, 0.0, 0.5, 1.0]])
    torch.testing.assert_close(onto_frame(boxes, content), expected)


WIDE = torch.zeros(3, 90, 160, dtype=torch.uint8)
WIDE[0, :, :20] = 200
"""Red at the left edge of a picture of 16:9, outside of the square in its centre."""


def of_crop(**more: str) -> InputForm:
    return InputForm("rgb", "crop", (64, 64), shorter_side=72, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("sector_fit", ["stretch", "letterbox"])
@pytest.mark.parametrize("crop", [(0.0, 0.0, 1.0, 1.0), (0.0, 0.5, 1.0, 1.0)])
def test_a_sector_keeps_its_edges_where_a_frame_loses_them(crop: tuple[float, ...], sector_fit: str) -> None:
    form = of_crop(sector_fit=sector_fit)
    assert int(row_of(WIDE, form).pixels.max()) == 0
    row = row_of(WIDE, form, crop=crop, sector="yard")  # type: ignore[arg-type]
    assert row.pixels.shape == (3, 64, 64)
    assert int(row.pixels[0, 32, 1]) == 200


def test_a_letterboxed_sector_keeps_its_shape_and_is_padded_to_exactly_the_size() -> None:
    row = row_of(WIDE, of_crop(sector_fit="letterbox"), sector="view")
    assert row.content == (0, 14 / 64, 1, 50 / 64)
    assert bool((row.pixels[:, :14] == 128).all())
    assert bool((row.pixels[:, 50:] == 128).all())
    upright = InputForm("rgb", "crop", (64, 96), shorter_side=96, sector_fit="letterbox")
    assert row_of(WIDE, upright, sector="view").pixels.shape == (3, 96, 64)


def test_how_sectors_are_fitted_changes_no_row_of_a_frame() -> None:
    rows = [row_of(FRAME, of_crop(sector_fit=fit)).pixels for fit in ("stretch", "letterbox")]
    assert torch.equal(*rows)
