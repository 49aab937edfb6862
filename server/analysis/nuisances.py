"""The nuisance ledger: what is seen weakly again and again, at the same place and hour, day after day.

A spot is a pile of boxes of one target that lie on one another. It recurs in an hour of the day if it was there, weakly
and for more than a moment, on enough different days; whatever is mostly seen firmly there is no nuisance. Each run of
such hours becomes a suppression that may be proposed. What it would have removed is for the fold to say.
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
"""IoU from which two boxes lie on the same spot; that of a proposed suppression, too."""

_SIGHTS_A_DAY = 3
_WEAK_SHARE = 0.8
_CELLS = (8, 6)
_MOST = 8


@dataclass(frozen=True, slots=True)
class Sight:
    """Something that counted as present in one frame; `box` is the bounding rectangle of a sector without a box."""

    at_us: int
    target: str
    box: Box
    score: float


@dataclass(frozen=True, slots=True)
class Nuisance:
    """A proposed suppression: its place, how weak it is, its hours (by the site's clock; None: all) and how often."""

    camera: str
    target: str
    box: Box
    max_score: float
    hours: tuple[int, int] | None
    days: int
    sights: int

    @property
    def name(self) -> str:
        """Stable as long as place and hours are; what the policy and explanations call it."""
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
    """Boxes that lie on `seed`: the weak ones by hour and local date, and how many in each hour were firm."""

    seed: Box
    weak: dict[int, list[tuple[date, Sight]]] = field(default_factory=lambda: defaultdict(list))
    firm: Counter[int] = field(default_factory=Counter)


def sights(policy: CameraPolicy, observations: Iterable[Observation]) -> Iterator[Sight]:
    """All that counts as present under a policy, frame by frame."""
    areas = {sector.name: bounds(sector.polygon) for sector in policy.sectors}
    for seen in observations:
        for candidate in relevant_judgement(policy, seen).candidates:
            if candidate.present:
                box = areas[candidate.sectors[0]] if candidate.box is None else candidate.box
                yield Sight(seen.at_us, candidate.target, box, candidate.score)


def nuisances(policy: CameraPolicy, seen: Iterable[Sight], *, up_to: float, days: int) -> list[Nuisance]:
    """What recurs weakly (with a score of at most `up_to`) on at least so many days; the most frequent first."""
    zone = ZoneInfo(policy.place.timezone)
    spots: dict[tuple[str, int, int], list[_Spot]] = defaultdict(list)
    for sight in seen:
        local = instant(sight.at_us).astimezone(zone)
        spot = _spot_of(spots, sight)
        if sight.score > up_to:
            spot.firm[local.hour] += 1
        else:
            spot.weak[local.hour].append((local.date(), sight))
    found = [
        one for (target, _, _), piled in spots.items() for spot in piled for one in _of(policy, target, spot, days)
    ]
    return sorted(found, key=lambda one: (-one.sights, one.name))[:_MOST]


def _spot_of(spots: dict[tuple[str, int, int], list[_Spot]], sight: Sight) -> _Spot:
    """The spot a sight lies on best, in its cell of the frame or one beside it; a new one if it lies on none."""
    box = sight.box
    x, y = int((box[0] + box[2]) / 2 * _CELLS[0]), int((box[1] + box[3]) / 2 * _CELLS[1])
    near = [s for i in (-1, 0, 1) for j in (-1, 0, 1) for s in spots.get((sight.target, x + i, y + j), ())]
    most, best = 0.0, None
    for spot in near:
        fit = iou(spot.seed, box)
        if fit > most:
            most, best = fit, spot
    if best is None or most < OVERLAP:
        best = _Spot(box)
        spots[sight.target, x, y].append(best)
    return best


def _of(policy: CameraPolicy, target: str, spot: _Spot, days: int) -> Iterator[Nuisance]:
    """The spot's runs of hours in which it recurs, each as a proposal."""
    for run in _runs([hour for hour in range(24) if _recurs(spot, hour, days)]):
        piled = [one for hour in run for one in spot.weak[hour]]
        box = tuple(round(median(sight.box[edge] for _, sight in piled), 3) for edge in range(4))
        top = max(sight.score for _, sight in piled)
        hours = None if len(run) == 24 else (run[0], (run[-1] + 1) % 24)
        count = len({day for day, _ in piled})
        yield Nuisance(policy.camera, target, (box[0], box[1], box[2], box[3]), top, hours, count, len(piled))


def _recurs(spot: _Spot, hour: int, days: int) -> bool:
    weak = spot.weak.get(hour, [])
    each_day = Counter(day for day, _ in weak)
    lasting = sum(count >= _SIGHTS_A_DAY for count in each_day.values())
    return lasting >= days and len(weak) >= _WEAK_SHARE * (len(weak) + spot.firm[hour])


def _runs(hours: Sequence[int]) -> list[list[int]]:
    """Hours of the day as runs without a gap, over midnight."""
    runs: list[list[int]] = []
    for hour in hours:
        if runs and runs[-1][-1] == hour - 1:
            runs[-1].append(hour)
        else:
            runs.append([hour])
    if len(runs) > 1 and runs[0][0] == 0 and runs[-1][-1] == 23:
        runs[0] = runs.pop() + runs[0]
    return runs
