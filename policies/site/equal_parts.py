"""A site policy whose cameras share what is equal: a site of twenty cameras takes a fraction of the memory."""

from __future__ import annotations

from typing import TypeVar

import msgspec
from msgspec.structs import replace

from policies.site.site_policy import CameraPolicy, SitePolicy

T = TypeVar("T")


def with_equal_parts_shared(policy: SitePolicy) -> SitePolicy:
    """An equal policy, in which equal rules, polygons and groups of classes are one object each."""
    parts = _Parts()
    cameras = {name: parts.of_camera(camera) for name, camera in policy.cameras.items()}
    return replace(
        policy,
        targets=parts.one(policy.targets),
        rules=parts.one(policy.rules),
        cameras=cameras,
        other=parts.of_camera(policy.other),
    )


class _Parts:
    def __init__(self) -> None:
        self._known: dict[tuple[type, bytes], object] = {}

    def one(self, part: T) -> T:
        """The first part that is written alike: 1 and 1.0 are equal, and not the same in a digest."""
        known = self._known.setdefault((type(part), msgspec.json.encode(part, order="deterministic")), part)
        assert isinstance(known, type(part)), "the type is in the key"
        return known

    def of_camera(self, camera: CameraPolicy) -> CameraPolicy:
        sectors = (
            replace(sector, polygon=self.one(sector.polygon), rules=self.one(sector.rules)) for sector in camera.sectors
        )
        scheduled = (replace(entry, policy=self.of_camera(entry.policy)) for entry in camera.scheduled)
        return replace(
            camera,
            targets=self.one(camera.targets),
            rules=self.one(camera.rules),
            sectors=tuple(sectors),
            lines=self.one(camera.lines),
            apart=self.one(camera.apart),
            place=self.one(camera.place),
            scheduled=tuple(scheduled),
        )
