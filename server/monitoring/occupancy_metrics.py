"""What is observed, in Prometheus' format: the state of each sector, and for how long each camera left one unobserved.

`OccupancyMetrics` holds a picture of all cameras that the server makes every few seconds; a scrape reads no database.
Each server over one database gives the same states, so a query takes their maximum and not their sum.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from policies.occupancy import Occupancy
from server.camera_status.status import Condition, SectorState

MAX_SECTORS = 3000
_OTHER = "other"
_Camera = tuple[str, str]
_Sector = tuple[str, str, str, str]


class WatchedCamera(Protocol):
    """A camera with its condition and the states of its sectors, as `GET /v1/cameras` lists it."""

    @property
    def site(self) -> str: ...

    @property
    def camera(self) -> str: ...

    @property
    def condition(self) -> Condition: ...

    @property
    def sectors(self) -> Sequence[SectorState]: ...


class OccupancyMetrics:
    """A collector of two metrics, bounded: sectors after the first MAX_SECTORS count together as `other`.

    `sectorwatch_sector_occupancy`: 1 for the state that a sector has for a target, 0 for the two others. Among
    `other` it is the number of sectors in that state. No series while the states are unknown.

    `sectorwatch_unobserved_seconds_total`: how long, since this server started, at least one sector of the camera was
    unobserved. A silent camera without a sector counts as well, and so does the time in which the states are unknown.
    """

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._lock = threading.Lock()
        self._sectors: set[_Sector] = set()
        self._labelled: set[_Camera] = set()
        self._cameras: set[_Camera] = set()
        self._counts: dict[_Sector, dict[Occupancy, int]] = {}
        self._unobserved_s: dict[_Camera, float] = {}

    def known(self, cameras: Iterable[tuple[_Camera, WatchedCamera]], elapsed_s: float) -> None:
        """The cameras now, each with the labels it counts under, `elapsed_s` after the last call."""
        with self._lock:
            counts: dict[_Sector, dict[Occupancy, int]] = {}
            others: Counter[Occupancy] = Counter()
            unobserved: dict[_Camera, bool] = {}
            for names, camera in cameras:
                unobserved[names] = unobserved.get(names, False) or is_unobserved(camera)
                if names not in self._labelled and len(self._sectors) >= MAX_SECTORS:
                    others.update([sector.state for sector in camera.sectors])
                    continue
                for sector in camera.sectors:
                    labels = self._labels((*names, sector.sector, sector.target))
                    count = counts.setdefault(labels, dict.fromkeys(Occupancy, 0))
                    count[sector.state] += 1
            if others:
                among = counts.setdefault((_OTHER, _OTHER, _OTHER, _OTHER), dict.fromkeys(Occupancy, 0))
                counts[_OTHER, _OTHER, _OTHER, _OTHER] = {state: among[state] + others[state] for state in Occupancy}
            self._counts, self._cameras = counts, set(unobserved)
            for names, is_blind in unobserved.items():
                self._add(names, elapsed_s if is_blind else 0.0)

    def unknown(self, elapsed_s: float) -> None:
        """The states could not be read for the last `elapsed_s`."""
        with self._lock:
            self._counts = {}
            for names in self._cameras:
                self._add(names, elapsed_s)

    def collect(self) -> Iterator[Metric]:
        occupancy = GaugeMetricFamily(
            f"{self._prefix}_sector_occupancy",
            "1 for the state that a sector has for a target; among `other`, the number of sectors in that state.",
            labels=("site", "camera", "sector", "target", "state"),
        )
        unobserved = CounterMetricFamily(
            f"{self._prefix}_unobserved_seconds",
            "Time in which at least one sector of the camera was unobserved, since this server started.",
            labels=("site", "camera"),
        )
        with self._lock:
            for labels, count in self._counts.items():
                for state, number in count.items():
                    occupancy.add_metric((*labels, state.value), number)
            for names, seconds in self._unobserved_s.items():
                unobserved.add_metric(names, seconds)
        yield occupancy
        yield unobserved

    def _labels(self, sector: _Sector) -> _Sector:
        if sector not in self._sectors and len(self._sectors) >= MAX_SECTORS:
            return _OTHER, _OTHER, _OTHER, _OTHER
        self._sectors.add(sector)
        self._labelled.add(sector[:2])
        return sector

    def _add(self, names: _Camera, seconds: float) -> None:
        self._unobserved_s[names] = self._unobserved_s.get(names, 0.0) + seconds


def is_unobserved(camera: WatchedCamera) -> bool:
    """Whether a sector of the camera is unobserved, or no sector of it is known and it is silent."""
    if not camera.sectors:
        return camera.condition.state == "silent"
    return any(sector.state is Occupancy.UNOBSERVED for sector in camera.sectors)
