"""Find nuisances: weak detections at the same place and hour on several days.

A spot is a group of overlapping boxes of one target. It recurs in an hour of the day if its detections there were weak
and lasted on enough days. A spot whose detections are mostly strong is no nuisance. Each run of such hours becomes a
proposed suppression. A fold shows which events it would have removed.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date
from statistics import median
from zoneinfo import ZoneInfo

from policies.events import instant
from policies.fusion.judge import relevant_judgement
from policies.geometry import bounds, iou
from policies.observation import Box, Observation
from policies.site.site_policy import CameraPolicy

OVERLAP = 0.5
"""IoU from which two boxes lie on the same spot; a proposed suppression uses the same."""

_SIGHTS_A_DAY = 3
_WEAK_SHARE = 0.8
_CELLS = (8, 6)
_MOST = 8


@dataclass(frozen=True, slots=True)
class Detection:
    """A candidate that was present in one frame; without a box, `box` is the bounding rectangle of its sector."""

    at_us: int
    target: str
    box: Box
    score: float


@dataclass(frozen=True, slots=True)
class Nuisance:
    """A proposed suppression: place, highest score, hours (by the site's clock; None: all), days and detections."""

    camera: str
    target: str
    box: Box
    max_score: float
    hours: tuple[int, int] | None
    days: int
    sights: int

    @property
    def name(self) -> str:
        """The name in the policy and in explanations; it changes only with place and hours."""
        x, y = (self.box[0] + self.box[2]) / 2, (self.box[1] + self.box[3]) / 2
        when = "" if self.hours is None else f" {self.hours[0]:02}-{self.hours[1]:02} h"
        return f"{self.target} at {x:.2f},{y:.2f}{when}"

    def as_toml(self) -> str:
        """The table to append to the site's policy."""
        between = "" if self.hours is None else f'between = ["{self.hours[0]:02}:00", "{self.hours[1]:02}:00"]\n'
        return (
            f"\n# seen weakly {self.sights} times on {self.days} days\n[[cameras.{self.camera}.suppress]]\n"
            f'name = "{self.name}"\nbox = {list(self.box)}\ntargets = ["{self.target}"]\n'
            f"max_score = {self.max_score}\n{between}"
        )


@dataclass(slots=True)
class _Spot:
    """Detections that lie on `seed`: the weak ones by hour, with local date, and the number of strong ones by hour."""

    seed: Box
    weak: dict[int, list[tuple[date, Detection]]] = field(default_factory=lambda: defaultdict(list))
    strong: Counter[int] = field(default_factory=Counter)


def detections(policy: CameraPolicy, observations: Iterable[Observation]) -> Iterator[Detection]:
    """Every candidate that is present under a policy, frame by frame."""
    areas = {sector.name: bounds(sector.polygon) for sector in policy.sectors}
    for seen in observations:
        for candidate in relevant_judgement(policy, seen).candidates:
            if candidate.present:
                box = areas[candidate.sectors[0]] if candidate.box is None else candidate.box
                yield Detection(seen.at_us, candidate.target, box, candidate.score)


def nuisances(policy: CameraPolicy, seen: Iterable[Detection], *, up_to: float, days: int) -> list[Nuisance]:
    """What recurs with scores of at most `up_to` on at least `days` days; the most frequent first."""
    zone = ZoneInfo(policy.place.timezone)
    spots: dict[tuple[str, int, int], list[_Spot]] = defaultdict(list)
    for detection in seen:
        local = instant(detection.at_us).astimezone(zone)
        spot = _spot_of(spots, detection)
        if detection.score > up_to:
            spot.strong[local.hour] += 1
        else:
            spot.weak[local.hour].append((local.date(), detection))
    proposals = [
        proposal
        for (target, _, _), group in spots.items()
        for spot in group
        for proposal in _proposals(policy, target, spot, days)
    ]
    return sorted(proposals, key=lambda each: (-each.sights, each.name))[:_MOST]


def _spot_of(spots: dict[tuple[str, int, int], list[_Spot]], detection: Detection) -> _Spot:
    """The spot with the best overlap, in the detection's cell of the frame or an adjacent cell; else a new spot."""
    box = detection.box
    x, y = int((box[0] + box[2]) / 2 * _CELLS[0]), int((box[1] + box[3]) / 2 * _CELLS[1])
    near = [s for i in (-1, 0, 1) for j in (-1, 0, 1) for s in spots.get((detection.target, x + i, y + j), ())]
    best = max(near, key=lambda spot: iou(spot.seed, box), default=None)
    if best is None or iou(best.seed, box) < OVERLAP:
        best = _Spot(box)
        spots[detection.target, x, y].append(best)
    return best


def _proposals(policy: CameraPolicy, target: str, spot: _Spot, days: int) -> Iterator[Nuisance]:
    """A proposal for each run of hours in which the spot recurs."""
    for run in _runs([hour for hour in range(24) if _recurs(spot, hour, days)]):
        weak = [dated for hour in run for dated in spot.weak[hour]]
        box = tuple(round(median(detection.box[edge] for _, detection in weak), 3) for edge in range(4))
        top = max(detection.score for _, detection in weak)
        hours = None if len(run) == 24 else (run[0], (run[-1] + 1) % 24)
        count = len({day for day, _ in weak})
        yield Nuisance(policy.camera, target, (box[0], box[1], box[2], box[3]), top, hours, count, len(weak))


def _recurs(spot: _Spot, hour: int, days: int) -> bool:
    weak = spot.weak.get(hour, [])
    lasting = sum(count >= _SIGHTS_A_DAY for count in Counter(day for day, _ in weak).values())
    return lasting >= days and len(weak) >= _WEAK_SHARE * (len(weak) + spot.strong[hour])


def _runs(hours: Sequence[int]) -> list[list[int]]:
    """Hours of the day as runs without a gap, also across midnight."""
    runs: list[list[int]] = []
    for hour in hours:
        if runs and runs[-1][-1] == hour - 1:
            runs[-1].append(hour)
        else:
            runs.append([hour])
    if len(runs) > 1 and runs[0][0] == 0 and runs[-1][-1] == 23:
        runs[0] = runs.pop() + runs[0]
    return runs
