"""Privacy masks: no masked pixel is kept or sent."""

from __future__ import annotations

import io
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from camera_agent.imaging.frame import FrameFormat
from camera_agent.imaging.masks import mask_digest
from camera_agent.imaging.opencv import encode_picture
from camera_agent.imaging.pillow import encode_bytes

WINDOW = ((0.25, 0.25), (0.75, 0.25), (0.75, 0.75), (0.25, 0.75))
SECRET = (40, 60, 120, 180)
"""Inside the window, in the pixels of a 160 x 240 picture: left, top, right, bottom."""


def picture(secret: int) -> np.ndarray:
    image = np.full((240, 160, 3), 100, np.uint8)
    image[60:180, 40:120] = secret
    return image


def by_opencv(secret: int, form: FrameFormat) -> tuple[bytes, bytes]:
    encoded = encode_picture(picture(secret), form)
    return encoded.jpeg, encoded.thumbnail.pixels


def by_pillow(secret: int, form: FrameFormat) -> tuple[bytes, bytes]:
    out = io.BytesIO()
    Image.fromarray(picture(secret)).save(out, "PNG")
    encoded = encode_bytes(out.getvalue(), form)
    return encoded.jpeg, encoded.thumbnail.pixels


@pytest.mark.parametrize("made", [by_opencv, by_pillow])
@pytest.mark.parametrize("max_width", [0, 97])
def test_pictures_that_differ_only_under_the_mask_give_the_same_bytes(made: object, max_width: int) -> None:
    form = FrameFormat(masks=(WINDOW,), max_width=max_width)
    assert made(0, form) == made(255, form)  # type: ignore[operator]
    unmasked = FrameFormat(max_width=max_width)
    assert made(0, unmasked) != made(255, unmasked)  # type: ignore[operator]


def test_a_masked_snapshot_keeps_no_metadata_of_the_cameras_file() -> None:
    out = io.BytesIO()
    exif = Image.Exif()
    exif[0x010E] = "preview of the window"
    Image.fromarray(picture(255)).save(out, "JPEG", exif=exif)
    assert b"preview of the window" in out.getvalue()
    assert b"preview of the window" not in encode_bytes(out.getvalue(), FrameFormat(masks=(WINDOW,))).jpeg


def test_the_masked_part_is_black_and_the_rest_as_it_was() -> None:
    jpeg, _ = by_opencv(255, FrameFormat(masks=(WINDOW,), quality=95))
    seen = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_GRAYSCALE)
    assert seen[64:176, 44:116].max() < 8
    assert np.abs(seen[:50].astype(int) - 100).max() < 8


def test_the_digest_of_masks_does_not_depend_on_their_spelling() -> None:
    other = (*WINDOW[:3], (0.25, 0.750001))
    assert mask_digest(()) is None
    assert mask_digest((WINDOW,)) == mask_digest((tuple((x / 1, y * 1.0) for x, y in WINDOW),))
    assert len({mask_digest((WINDOW,)), mask_digest((other,)), mask_digest((WINDOW, other))}) == 3


def test_bursts_of_a_masked_camera_carry_the_digest_and_no_masked_pixel(
    tmp_path: Path, server: object, write_settings: object, start_agent: object
) -> None:
    (tmp_path / "stills").mkdir()
    for number in range(4):
        cv2.imwrite(str(tmp_path / f"stills/{number}.jpg"), picture(255))
    text = (
        'folder = "stills"\npictures_per_s = 1\nspeed = 0\nburst = { frames = 2 }\n'
        f"masks = [{[list(corner) for corner in WINDOW]}]"
    )
    assert start_agent("run", write_settings(text)).wait() == 0  # type: ignore[operator]
    bursts = list(server.bursts.values())  # type: ignore[attr-defined]
    assert [seen.envelope["mask_digest"] for seen in bursts] == [mask_digest((WINDOW,))] * 2
    for frame in (frame for seen in bursts for frame in seen.frames):
        assert cv2.imdecode(np.frombuffer(frame, np.uint8), cv2.IMREAD_GRAYSCALE)[64:176, 44:116].max() < 8
