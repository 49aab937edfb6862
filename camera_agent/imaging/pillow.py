"""Pictures through Pillow: checks that bytes are a whole picture, and encodes it where needed."""

from __future__ import annotations

import io

from PIL import ExifTags, Image, ImageDraw, UnidentifiedImageError

from camera_agent.imaging.frame import DamagedPicture, EncodedPicture, FrameFormat, Thumbnail, thumbnail_size
from camera_agent.imaging.jpeg_edges import find_jpeg
from camera_agent.imaging.masks import Polygons, in_pixels

_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF")
"""What cameras send. Pillow reads forty more, and runs Ghostscript for one of them."""
_BROKEN = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)
_TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF orientation (Exif 2.3, tag 0x0112) -> what makes the picture upright. From 5 on, the sides are swapped."""
_FIRST_SIDEWAYS = 5


def encode_bytes(data: bytes, frame_format: FrameFormat) -> EncodedPicture:
    """`data` unchanged where it is a whole JPEG that fits the format and has no masks; else painted and encoded anew.

    A JPEG without its end marker, or with stray bytes before its start, is mended unless the format is strict. Width,
    masks and thumbnail refer to the picture as EXIF orients it. Encoding drops the EXIF data, whose preview would show
    what is masked. Raises `DamagedPicture` for bytes that are not a whole picture: one broken frame would have the
    whole burst refused.
    """
    found = find_jpeg(data)
    try:
        if found is None:
            return _encode(data, data, frame_format)
        if found.fault and frame_format.is_strict:
            raise DamagedPicture(f"not a whole image: {found.fault}, and `strict_jpeg` is set")
        if found.other is not None and _pixels(found.tested) != _pixels(found.other):
            raise DamagedPicture("not a whole image: it ends before its last scan does")
        return _encode(found.sent, found.tested, frame_format)._replace(is_mended=found.fault is not None)
    except UnidentifiedImageError as error:  # its text names an object in memory
        raise DamagedPicture(f"not a whole image: it begins with {data[:8]!r}") from error
    except _BROKEN as error:
        raise DamagedPicture(f"not a whole image: {error}") from error


def _encode(data: bytes, decodable: bytes, frame_format: FrameFormat) -> EncodedPicture:
    """`data` or a new JPEG of it. `decodable` has the same picture, and Pillow raises where it is not whole."""
    with Image.open(io.BytesIO(decodable), formats=_FORMATS) as image:
        orientation = _orientation(image)
        is_sideways = orientation >= _FIRST_SIDEWAYS
        shown = image.size[::-1] if is_sideways else image.size
        sent = frame_format.size(*shown)
        is_kept = image.format == "JPEG" and sent == shown and not frame_format.masks
        is_kept = is_kept and not frame_format.always_encode
        wanted = thumbnail_size(*shown) if is_kept else sent
        if is_kept or sent != shown:
            # Decoding at a fraction of the size is cheap, and still reads every byte: it notices a cut-off file.
            image.draft("L" if is_kept else "RGB", wanted[::-1] if is_sideways else wanted)
        upright = image.transpose(_TRANSPOSE[orientation]) if orientation in _TRANSPOSE else image
        if is_kept:
            return EncodedPicture(data, _thumbnail(upright, wanted))
        return encode_image(upright.convert("RGB"), frame_format)


def _orientation(image: Image.Image) -> int:
    """1 to 8, as the server reads it (`server.domain.pictures.image_info`); 1 where there is none."""
    try:
        value = image.getexif().get(ExifTags.Base.Orientation)
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001 - Pillow raises anything on damaged metadata, which no viewer minds
        return 1
    return next((orientation for orientation in range(1, 9) if orientation == value), 1)


def _pixels(jpeg: bytes) -> bytes:
    with Image.open(io.BytesIO(jpeg), formats=_FORMATS) as image:
        return image.tobytes()


def encode_image(picture: Image.Image, frame_format: FrameFormat) -> EncodedPicture:
    """An RGB picture as JPEG. The masks are painted into `picture` itself."""
    size = frame_format.size(*picture.size)
    _paint(picture, frame_format.masks)
    if picture.size != size:
        picture = picture.resize(size, Image.Resampling.BOX)
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=frame_format.quality)
    return EncodedPicture(out.getvalue(), _thumbnail(picture, thumbnail_size(*size)))


def _paint(picture: Image.Image, masks: Polygons) -> None:
    """Black out the masked parts and every pixel that their borders touch."""
    draw = ImageDraw.Draw(picture)
    for polygon in masks:
        corners = in_pixels(polygon, *picture.size)
        draw.polygon(corners, fill=0, outline=0)
        draw.line([*corners, corners[0]], fill=0, width=3)


def _thumbnail(image: Image.Image, size: tuple[int, int]) -> Thumbnail:
    small = image.convert("L").resize(size, Image.Resampling.BOX)
    return Thumbnail(*size, small.tobytes())
