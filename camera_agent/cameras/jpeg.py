"""A door to Pillow (`gate` is the other): making sure that bytes are a whole picture of the wanted form."""

from __future__ import annotations

import io

from PIL import Image, ImageDraw, UnidentifiedImageError

from camera_agent.cameras.failure import CameraFailure
from camera_agent.look import WIDTH, Grey, Seen, height_for
from camera_agent.masks import Form, in_pixels

_BROKEN = (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError)


def fit(data: bytes, form: Form) -> Seen:
    """`data` itself where it is a whole JPEG, not too wide, without masks and not too dear; else painted and encoded
    anew (without what else the file held: a preview in its EXIF would show what is masked).

    Raises `CameraFailure` for what is no image or is cut off: one broken frame would have the whole burst refused.
    """
    try:
        with Image.open(io.BytesIO(data)) as image:
            is_wide = 0 < form.max_width < image.width
            if image.format == "JPEG" and not is_wide and not form.masks and not form.is_thrifty:
                # Decoding at a fraction of the size still reads every byte: it finds a cut-off file, cheaply.
                size = (WIDTH, height_for(image.width, image.height))
                image.draft("L", size)
                return Seen(data, _grey(image, size))
            if is_wide:
                image.draft("RGB", _size(image, form))
            return encoded(image.convert("RGB"), form)
    except _BROKEN as error:
        raise CameraFailure(f"not a whole image: {error}") from error


def encoded(picture: Image.Image, form: Form) -> Seen:
    """A picture in RGB, which is painted over, in that form."""
    size = _size(picture, form)
    _paint(picture, form)
    if picture.size != size:
        picture = picture.resize(size, Image.Resampling.BOX)
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=form.quality)
    return Seen(out.getvalue(), _grey(picture, (WIDTH, height_for(*size))))


def _size(picture: Image.Image, form: Form) -> tuple[int, int]:
    """Not wider than the form allows."""
    if not 0 < form.max_width < picture.width:
        return picture.size
    return form.max_width, max(1, round(picture.height * form.max_width / picture.width))


def _paint(picture: Image.Image, form: Form) -> None:
    """Black out the masked parts and every pixel that their borders touch."""
    draw = ImageDraw.Draw(picture)
    for polygon in form.masks:
        corners = in_pixels(polygon, *picture.size)
        draw.polygon(corners, fill=0, outline=0)
        draw.line([*corners, corners[0]], fill=0, width=3)


def _grey(image: Image.Image, size: tuple[int, int]) -> Grey:
    small = image.convert("L").resize(size, Image.Resampling.BOX)
    return Grey(*size, small.tobytes())
