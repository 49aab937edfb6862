"""An application with a real store and a small ensemble, and the requests of a client.

`BrightnessEnsemble` judges frames by their pixels, so that answers depend on the frames and their order, without
weights or torch.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from flask import Flask
from PIL import Image, UnidentifiedImageError

from policies.observation import Box, EnsembleInfo, ModelInfo, Prediction
from server.app import create_app
from server.domain.errors import TooLarge, Unprocessable
from server.domain.times.clock import Clock
from server.settings import ServerSettings
from tests.server import new_sqlite

NOW_US = 1_800_000_000_000_000
"""The server's clock in these tests: 2027-01-15T08:00:00Z."""

SITE = """
site = "north-yard"
"""

MAX_PIXELS = 1_000_000


class BrightnessEnsemble:
    """`light.v1` says bright or dark of each frame; `people` boxes a person in every bright one."""

    def __init__(self) -> None:
        self.ensemble_info = EnsembleInfo(
            "e" * 64,
            (
                ModelInfo("light.v1", frozenset({"bright", "dark"}), boxes=False),
                ModelInfo("people", frozenset({"person"}), boxes=True),
            ),
        )

    def only(self, model: str | None, within_s: float | None = None) -> BrightnessEnsemble:
        return self

    def answer(
        self, images: Sequence[bytes], crops: Mapping[str, Box] | None = None, enlarged: Sequence[Box] = ()
    ) -> list[dict[str, tuple[Prediction, ...] | None]]:
        return [self._of(_brightness(index, image)) for index, image in enumerate(images)]

    def _of(self, brightness: float) -> dict[str, tuple[Prediction, ...] | None]:
        bright = brightness > 0.5
        people = (Prediction("person", 0.9, (0.4, 0.4, 0.6, 0.8)),) if bright else ()
        return {"light.v1": (Prediction("bright" if bright else "dark", 0.8),), "people": people}


def _brightness(index: int, image: bytes) -> float:
    try:
        with Image.open(io.BytesIO(image)) as opened:
            if opened.width * opened.height > MAX_PIXELS:
                raise TooLarge(f"{opened.width}x{opened.height} pixels", frame=index)
            grey = opened.convert("L")
    except Image.DecompressionBombError as error:
        raise TooLarge(str(error), frame=index) from None
    except (UnidentifiedImageError, OSError) as error:
        raise Unprocessable(f"not an image that can be decoded: {error}", frame=index) from None
    histogram = grey.histogram()
    return sum(level * count for level, count in enumerate(histogram)) / (255 * sum(histogram))


def make_app(
    folder: Path, ensemble: BrightnessEnsemble | None = None, clock: Clock = lambda: NOW_US, **settings: Any
) -> Flask:
    """An application on a fresh database in `folder`, with one site; without `ensemble` it is still loading."""
    sites = folder / "sites"
    sites.mkdir(exist_ok=True)
    (sites / "north-yard.toml").write_text(SITE, encoding="utf-8")
    new_sqlite.provide(folder / "sectorwatch.sqlite")
    return create_app(ServerSettings(data_dir=folder, **settings), ensemble=ensemble, channels=[], clock=clock)


def jpeg(grey: int, size: tuple[int, int] = (64, 48)) -> bytes:
    """A JPEG of one shade of grey, 0..255."""
    return encoded(Image.new("RGB", size, (grey, grey, grey)), "JPEG")


def with_size(frame: bytes, width: int, height: int) -> bytes:
    """A JPEG whose header claims another size."""
    at = frame.index(b"\xff\xc0") + 5
    return frame[:at] + height.to_bytes(2, "big") + width.to_bytes(2, "big") + frame[at + 4 :]


def lossless_webp(width: int, height: int) -> bytes:
    """A WebP of one colour in 38 bytes, whose header claims this size (RFC 9649, section 3.4)."""
    bits = (0x2F).to_bytes(1, "little") + ((width - 1) | (height - 1) << 14).to_bytes(4, "little") + bytes(13)
    chunk = b"VP8L" + len(bits).to_bytes(4, "little") + bits
    return b"RIFF" + (len(chunk) + 4).to_bytes(4, "little") + b"WEBP" + chunk


def encoded(image: Image.Image, form: str) -> bytes:
    out = io.BytesIO()
    image.save(out, form)
    return out.getvalue()


def envelope(frames: Sequence[bytes], **changes: Any) -> dict[str, Any]:
    """The part `burst` for these frames, half a second apart, with `changes`."""
    return {
        "burst_id": "0197-burst-0001",
        "site": "north-yard",
        "camera": "gate",
        "reason": "schedule",
        "captured_at": "2027-01-15T07:59:00.000Z",
        "offsets_ms": [500 * index for index in range(len(frames))],
        "clock": {"synced": True},
        "frame_sha256": [hashlib.sha256(frame).hexdigest() for frame in frames],
    } | changes


def body(burst: object, frames: Sequence[bytes]) -> dict[str, Any]:
    """The multipart form, for Flask's test client: `burst` as a JSON part, and one part `file` per frame."""
    part = (io.BytesIO(json.dumps(burst).encode()), "burst.json", "application/json")
    return {"burst": part, "file": files(frames)}


def files(frames: Sequence[bytes]) -> list[tuple[io.BytesIO, str]]:
    return [(io.BytesIO(frame), f"{index}.jpg") for index, frame in enumerate(frames)]
