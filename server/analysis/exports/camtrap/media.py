"""Rows of `media`: frames whose pictures are kept. They are copied into the package, or named by a server's address."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Protocol

from policies.events import event_id, instant
from server.analysis.exports.camtrap.columns import Row, written
from server.analysis.exports.camtrap.observations import deployment_of
from server.domain.pictures.kept_frames import KeptFrame
from server.domain.records import BurstFacts
from server.frames import media_type

_ENDINGS = {"image/jpeg": "jpg", "image/png": "png", "image/webp": "webp", "image/bmp": "bmp"}
_BY_TIME = ("schedule", "heartbeat")
"""Reasons of bursts that nothing in the view gave."""
_MOST = 1_000_000
"""No camera has so many frames in an hour."""


class Past(Protocol):
    def bursts(self, site: str, camera: str, since_us: int, until_us: int) -> list[BurstFacts]: ...


class Frames(Protocol):
    def find(
        self, site: str, camera: str, since_us: int | None, until_us: int | None, limit: int
    ) -> list[KeptFrame]: ...
    def image(self, sha256: str) -> bytes | None: ...


class Store(Protocol):
    @property
    def past(self) -> Past: ...
    @property
    def frames(self) -> Frames: ...


class Medium(NamedTuple):
    """A kept frame with its row."""

    frame: KeptFrame
    id: str
    row: Row


@dataclass
class Pictures:
    """Where pictures go: into a folder, or nowhere where the server at `address` shows them.

    It counts: `found`, `lost` (a row without a picture), and the ways in which they were taken.
    """

    store: Store
    folder: Path
    address: str | None = None
    found: int = 0
    lost: int = 0
    methods: set[str] = field(default_factory=set)

    def media(self, site: str, camera: str, since_us: int, until_us: int) -> Iterator[Medium]:
        """The kept frames of an hour of a camera, in order; their pictures are written. Raises OSError."""
        frames = self.store.frames.find(site, camera, since_us, until_us, _MOST)
        bursts = self.store.past.bursts(site, camera, since_us, until_us) if frames else []
        for frame in frames:
            image = self.store.frames.image(frame.sha256)
            type_ = "" if image is None else media_type(image)
            if image is None or not type_.startswith("image/"):
                self.lost += 1
                continue
            self.found += 1
            yield self._medium(frame, image, type_, _method(bursts, frame.at_us))

    def _medium(self, frame: KeptFrame, image: bytes, type_: str, method: str | None) -> Medium:
        name = f"{instant(frame.at_us):%Y%m%dT%H%M%S.%fZ}-{frame.sha256[:8]}.{_ENDINGS.get(type_, 'img')}"
        path = Path("media") / frame.site / frame.camera / name
        if self.address is None:
            (self.folder / path).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            (self.folder / path).write_bytes(image)
        if method is not None:
            self.methods.add(method)
        media_id = event_id(frame.site, frame.camera, frame.at_us, frame.sha256)
        row = {
            "mediaID": media_id,
            "deploymentID": deployment_of(frame.site, frame.camera),
            "captureMethod": method,
            "timestamp": written(frame.at_us),
            "filePath": path.as_posix() if self.address is None else f"{self.address}/v1/frames/{frame.sha256}",
            "filePublic": "false",
            "fileName": name,
            "fileMediatype": type_,
        }
        return Medium(frame, media_id, row)


def _method(bursts: Sequence[BurstFacts], at_us: int) -> str | None:
    """How the frame of an instant was taken; None where its burst is no longer kept."""
    place = bisect_right(bursts, at_us, key=lambda burst: burst.first_at_us)
    near = next((burst for burst in reversed(bursts[:place]) if at_us <= burst.last_at_us), None)
    if near is None:
        return None
    return "timeLapse" if near.reason in _BY_TIME else "activityDetection"
