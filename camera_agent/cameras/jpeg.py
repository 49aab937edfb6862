"""The one door to Pillow: making sure that bytes are a whole JPEG of a bounded width."""

from __future__ import annotations

import io

from PIL import Image, UnidentifiedImageError

from camera_agent.cameras.failure import CameraFailure

_CHECK_SCALE = 8


def fit(data: bytes, *, quality: int, max_width: int) -> bytes:
    """`data` itself where it is a whole JPEG not wider than `max_width` (0: any width), else encoded anew.

    Raises `CameraFailure` for what is no image or is cut off: one broken frame would have the whole burst refused.
    """
    try:
        with Image.open(io.BytesIO(data)) as image:
            is_wide = 0 < max_width < image.width
            if image.format == "JPEG" and not is_wide:
                # Decoding at an eighth of the size still reads every byte: it finds a cut-off file, cheaply.
                image.draft("L", (image.width // _CHECK_SCALE, image.height // _CHECK_SCALE))
                image.load()
                return data
            height = max(1, round(image.height * max_width / image.width)) if is_wide else image.height
            width = max_width if is_wide else image.width
            image.draft("RGB", (width, height))
            smaller = image.convert("RGB").resize((width, height), Image.Resampling.BOX)
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise CameraFailure(f"not a whole image: {error}") from error
    out = io.BytesIO()
    smaller.save(out, "JPEG", quality=quality)
    return out.getvalue()
