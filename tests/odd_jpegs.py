"""JPEGs as cheap cameras send them: whole pictures with faulty edges, and pictures that only look whole."""

from __future__ import annotations

import io
import itertools

from PIL import Image

EOI = b"\xff\xd9"
SIZES = [(160, 120), (333, 217)]
ENCODERS: dict[str, dict[str, object]] = {
    "baseline": {},
    "optimised tables": {"optimize": True},
    "not subsampled": {"subsampling": 0},
    "restart markers": {"restart_marker_blocks": 3},
    "progressive": {"progressive": True},
    "progressive with restart markers": {"progressive": True, "restart_marker_rows": 1},
}


def scene(size: tuple[int, int] = (160, 120), mode: str = "RGB") -> Image.Image:
    """A picture with detail down to its last row and column."""
    width, height = size
    ramps = [Image.linear_gradient("L").resize(size).rotate(turn) for turn in (0, 90, 180)]
    picture = Image.merge("RGB", ramps)
    for left, top in itertools.product(range(0, width, 12), range(0, height, 12)):
        picture.paste((left * 7 % 256, top * 5 % 256, (left + top) % 256), (left, top, left + 6, top + 6))
    return picture.convert(mode)


def jpeg(size: tuple[int, int] = (160, 120), mode: str = "RGB", **options: object) -> bytes:
    out = io.BytesIO()
    scene(size, mode).save(out, "JPEG", **options)  # type: ignore[arg-type]
    return out.getvalue()


def with_faulty_edges(whole: bytes) -> dict[str, bytes]:
    """The same picture under each fault that a viewer passes over."""
    bare = whole.removesuffix(EOI)
    return {
        "no end marker": bare,
        "half an end marker": bare + b"\xff",
        "FF padding": bare + b"\xff" * 600,
        "zeros for an end marker": bare + bytes(4096),
        "a line end for an end marker": bare + b"\r\n",
        "a blank line before": b"\r\n" + whole,
        "a stray FF before": b"\xff" + whole,
        "a blank line and FFs before": b"\r\n\xff\xff" + whole,
        "a bare line end before, and no end marker": b"\n" + bare,
    }


def with_odd_tails(whole: bytes) -> dict[str, bytes]:
    """The same picture with more behind its end marker: nothing to mend."""
    return {"zeros": whole + bytes(4096), "another JPEG": whole + whole, "a maker's block": whole + b"DHAV\0\1" * 50}


def cut(whole: bytes, every: float = 0.02) -> list[bytes]:
    """The picture cut at each such part of its length, without its last hundredth."""
    return [whole[: int(len(whole) * every * step)] for step in range(1, int(0.99 / every) + 1)]
