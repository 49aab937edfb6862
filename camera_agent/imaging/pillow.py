"""A door to Pillow (`gate` is the other): making sure that bytes are a whole picture of the wanted form."""

from __future__ import annotations

import io

from PIL import ExifTags, Image, ImageDraw, UnidentifiedImageError

from camera_agent.imaging.failure import CameraFailure
from camera_agent.imaging.frame import WIDTH, Grey, Seen, height_for
from camera_agent.imaging.masks import Form, in_pixels

_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF")
"""What cameras give. Pillow knows forty more, and runs Ghostscript for one of them."""
_BROKEN = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What makes a picture of that EXIF orientation upright (Exif 2.3, tag 0x0112)."""
_ON_ITS_SIDE = frozenset(_TURNS[orientation] for orientation in range(5, 9))


def fit(data: bytes, form: Form) -> Seen:
    """`data` itself where it is a whole JPEG, not too wide, without masks and not too dear; else painted and encoded
    anew (without what else the file held: a preview in its EXIF would show what is masked). Width, masks and the small
    picture are of the picture as it is shown, turned as its EXIF says.

    Raises `CameraFailure` for what is no image or is cut off: one broken frame would have the whole burst refused.
    """
    try:
        with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
            turn = _TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
            shown = _turned(image.size, turn)
            is_kept = image.format == "JPEG" and not (_is_wide(shown, form) or form.masks or form.is_thrifty)
            goal = (WIDTH, height_for(*shown)) if is_kept else _size(shown, form)
            if is_kept or goal != shown:
                # Decoding at a fraction of the size still reads every byte: it finds a cut-off file, cheaply.
                image.draft("L" if is_kept else "RGB", _turned(goal, turn))
            upright = image if turn is None else image.transpose(turn)
            return Seen(data, _grey(upright, goal)) if is_kept else encoded(upright.convert("RGB"), form)
    except UnidentifiedImageError as error:  # its text names an object in memory
        raise CameraFailure(f"not a whole image: it begins with {data[:8]!r}") from error
    except _BROKEN as error:
        raise CameraFailure(f"not a whole image: {error}") from error


def encoded(picture: Image.Image, form: Form) -> Seen:
    """A picture in RGB, which is painted over, in that form."""
    size = _size(picture.size, form)
    _paint(picture, form)
    if picture.size != size:
        picture = picture.resize(size, Image.Resampling.BOX)
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=form.quality)
    return Seen(out.getvalue(), _grey(picture, (WIDTH, height_for(*size))))


def _turned(size: tuple[int, int], turn: Image.Transpose | None) -> tuple[int, int]:
    width, height = size
    return (height, width) if turn in _ON_ITS_SIDE else size


def _is_wide(size: tuple[int, int], form: Form) -> bool:
    return 0 < form.max_width < size[0]


def _size(size: tuple[int, int], form: Form) -> tuple[int, int]:
    """Not wider than the form allows."""
    width, height = size
    return (form.max_width, max(1, round(height * form.max_width / width))) if _is_wide(size, form) else size


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
