"""Bursts of a yard with two halves, and the parts that judge them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from policies.observation import Box, ModelInfo, Prediction
from server.domain.burst import Burst, Limits, decode_burst
from server.pipeline.pipeline import Pipeline
from server.pipeline.site_policies import Sites
from server.store import Store
from tests.policies.stories import TWO_HALVES
from tests.stand_ins import ManualClock, ScriptedEnsemble

START_US = 1_795_330_800_000_000
"""2026-11-22T07:00:00Z."""

EYE = ModelInfo("eye", frozenset({"person", "car"}), boxes=True)
NAMER = ModelInfo("namer", frozenset({"person", "road"}), boxes=False)

YARD = TWO_HALVES


class Yard:
    """A site folder with one policy, an ensemble that knows the pictures, and a pipeline around a store."""

    def __init__(self, folder: Path, store: Store, clock: ManualClock, policy: str = YARD) -> None:
        self.folder = folder
        self.folder.mkdir(exist_ok=True)
        self.write(policy)
        self.clock = clock
        self.store = store
        self.ensemble = ScriptedEnsemble([EYE])
        self.sites = Sites(folder)
        self.wakes = 0
        self.pipeline = Pipeline(self.ensemble, store, self.sites, clock, committed=self._wake)

    def _wake(self) -> None:
        self.wakes += 1

    def write(self, policy: str, name: str = "yard.toml") -> None:
        (self.folder / name).write_text(policy, encoding="utf-8")

    def picture(self, *feet: float, at_s: float = 0.0) -> bytes:
        """A picture of people whose feet stand at these x (y = 0.8), which the ensemble knows.

        No two pictures of a living camera are the same: `at_s` makes them differ.
        """
        image = f"picture {feet} {at_s}".encode()
        self.ensemble.teach(image, {"eye": tuple(person_at(x) for x in feet)})
        return image

    def walk(
        self,
        number: int,
        path: Callable[[float], float | None],
        at_s: float,
        frames: int = 4,
        every_s: float = 0.5,
    ) -> Burst:
        """One burst of a person at `path(t)` (None: nobody), t in seconds since START_US, from `at_s` on."""
        instants = [at_s + i * every_s for i in range(frames)]
        images = [self.picture(*([] if path(t) is None else [path(t)]), at_s=t) for t in instants]
        return burst(number, images, at_s, every_s)

    def walked(self, path: Callable[[float], float | None], until_s: float, per_burst: int = 4) -> list[Burst]:
        """The whole history of a path as bursts of `per_burst` frames, two frames a second, without a gap."""
        length_s = per_burst * 0.5
        return [self.walk(n, path, n * length_s, per_burst) for n in range(round(until_s / length_s))]


def person_at(x: float, score: float = 0.9) -> Prediction:
    box: Box = (round(x - 0.03, 5), 0.6, round(x + 0.03, 5), 0.8)
    return Prediction("person", score, box)


def across(t: float) -> float | None:
    """Walks in from the left after 2 s and out to the right after 18 s."""
    return None if t < 2 or t > 18 else round(0.05 + (t - 2) * 0.056, 4)


def there_and_back(t: float) -> float | None:
    """Walks to the east half and back again, from 1 s to 25 s."""
    if t < 1 or t > 25:
        return None
    return round(0.1 + min(t - 1, 25 - t) * 0.06, 4)


def burst(
    number: int,
    images: Sequence[bytes],
    at_s: float,
    every_s: float = 0.5,
    *,
    camera: str = "gate",
    burst_id: str | None = None,
) -> Burst:
    """A burst as it comes off the wire; its frames follow each other every `every_s` from START_US + `at_s`."""
    told = {
        "burst_id": burst_id or f"burst-{number:05d}",
        "site": "yard",
        "camera": camera,
        "captured_at": _rfc3339(START_US + round(at_s * 1_000_000)),
        "offsets_ms": [round(i * every_s * 1000) for i in range(len(images))],
        "frame_sha256": [hashlib.sha256(image).hexdigest() for image in images],
    }
    return decode_burst(msgspec.json.encode(told), list(images), Limits())


def _rfc3339(at_us: int) -> str:
    from policies.events import instant

    return instant(at_us).isoformat()
