"""Known nuisances: false detections that keep coming back, by their place, their hours and their weak score."""

from __future__ import annotations

import msgspec

from policies.geometry import iou
from policies.observation import Box
from policies.site.schedule import Place, When


class Suppression(msgspec.Struct, frozen=True):
    """A known nuisance: a candidate that lies on it is absent, in its hours, unless its score is high.

    It covers things of `targets` (none: of all) whose box has an IoU of at least `overlap` with `box` and whose score
    is at most `max_score`. Such a thing never begins a track; a track that has begun elsewhere may go on through it.
    """

    name: str
    box: Box
    overlap: float
    targets: tuple[str, ...]
    max_score: float
    when: When = When()

    def covers(self, place: Place, at_us: int, target: str, box: Box, score: float) -> bool:
        """Whether a thing seen at an instant (us) is this nuisance."""
        if score > self.max_score or (self.targets and target not in self.targets):
            return False
        return iou(self.box, box) >= self.overlap and self.when.holds(place, at_us)
