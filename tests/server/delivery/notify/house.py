"""A channel to a receiver, with a clock, cameras and pictures that a test sets."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import msgspec

from policies.events import Event, Kind, Provenance, event_id, instant, microseconds
from policies.occupancy import Occupancy
from server.camera_status.reports import CameraReport
from server.camera_status.status import Condition, SectorState
from server.delivery.notify.channel import NotifyChannel, make_notify
from server.delivery.surroundings import Surroundings
from server.domain.announcements import Announcement, Notice, Noticed, NoticeGiven
from server.domain.keeping import Erasure
from server.domain.records import LateBurst, LoggedEvent, What
from server.domain.times.local_time import LocalTime
from server.settings.channels import NotifySettings
from tests.stand_ins import ManualClock

OSLO = LocalTime(ZoneInfo("Europe/Oslo"))
NOON = datetime(2026, 11, 22, 17, 12, 0, tzinfo=UTC)
"""18:12 in Oslo, a Sunday."""


class House:
    """It is 18:12 in Oslo. `say` announces an event to the channel as the dispatcher does. Unless `settings` ask for
    pictures, no message waits for one.
    """

    def __init__(self, **settings: Any) -> None:
        self.clock = ManualClock(microseconds(NOON))
        self.zone: dict[str, LocalTime] = {}
        self.pictures: dict[str, bytes] = {}
        self.reports: list[CameraReport] = []
        self.console_url = ""
        self.erasures: list[Erasure] = []
        self._erased: set[str] = set()
        self.settings = msgspec.convert({"urls": ["env:PHONE"], "picture": False} | settings, NotifySettings)
        self._seq = itertools.count(1)
        self.channel = self.restarted(None)

    def restarted(self, memory: str | None) -> NotifyChannel:
        """The channel in another process, which gets what this one remembered."""
        self.channel = make_notify("phones", self.settings, self.around)
        self.channel.begin(memory)
        return self.channel

    @property
    def around(self) -> Surroundings:
        return Surroundings(
            version="1.2.3",
            clock=self.clock,
            reports=lambda _: self.reports,
            policy=lambda _: None,
            newest_frames=lambda _: {},
            picture=self.pictures.get,
            local_time=lambda site: self.zone.get(site, OSLO),
            waiting=lambda: 0,
            erasures=lambda: list(self.erasures),
            kept_events=self._kept,
            console_url=self.console_url,
        )

    def say(self, event: Event, what: What = "event", supersedes: Sequence[str] = ()) -> Event:
        self.channel.send(announcement(next(self._seq), event, what, supersedes))
        return event

    def erase(self, *events: Event) -> None:
        """Somebody erases the stretches of these events, which takes them out of the log."""
        self._erased |= {each.id for each in events}
        for each in events:
            at_us, number = microseconds(each.started_at), len(self.erasures) + 1
            stretch = (number, each.site, each.camera, at_us, at_us + 1)
            self.erasures.append(Erasure(*stretch, False, "owner", None, self.clock(), self.clock(), 1, 1, 0))

    def _kept(self, ids: Collection[str]) -> frozenset[str]:
        return frozenset(each for each in ids if not any(event_id.startswith(each) for event_id in self._erased))

    def notice(self, what: Noticed, detail: str = "says cat") -> None:
        seq = next(self._seq)
        self.channel.send(NoticeGiven(seq, Notice(seq, seq, self.clock(), what, "e" * 64, ("a",), detail)))

    def pass_(self, seconds: float, step_s: float = 1.0) -> None:
        """Time passes; the dispatcher refreshes the channel."""
        for _ in range(max(1, round(seconds / step_s))):
            self.clock.advance(step_s)
            self.channel.refresh()

    def came(self, at_s: float | None = None, **place: Any) -> Event:
        """A presence that begins now, or so long after 18:12."""
        return event("presence_started", self._s(at_s), **place)

    def left(self, began_s: float, at_s: float | None = None, **place: Any) -> Event:
        return event("presence_ended", began_s, self._s(at_s), **place)

    def _s(self, at_s: float | None) -> float:
        return (self.clock() - microseconds(NOON)) / 1e6 if at_s is None else at_s


def event(
    kind: Kind,
    at_s: float,
    ended_s: float | None = None,
    *,
    site: str = "north-yard",
    camera: str = "gate",
    sector: str | None = "table",
    label: str = "person",
    uncertainty_s: float = 0.5,
    **more: Any,
) -> Event:
    """An event so long after 18:12 in Oslo."""
    base_us = microseconds(NOON)
    start, end = (None if s is None else instant(base_us + round(s * 1e6)) for s in (at_s, ended_s))
    assert start is not None
    sha256 = more.pop("frames", (f"sha-{camera}-{at_s}",))
    return Event(
        id=event_id(kind, site, camera, sector, label, at_s, ended_s, more),
        kind=kind,
        site=site,
        camera=camera,
        label=label,
        sector=sector,
        started_at=start,
        ended_at=end,
        confirmed_at=end or start,
        time_uncertainty_s=uncertainty_s,
        votes={"eye": "for", "namer": "against"},
        provenance=Provenance(("b",), tuple(sha256), "e", "p", None),
        **more,
    )


def announcement(
    seq: int, event: Event, what: What = "event", supersedes: Sequence[str] = (), *, withdrawn: bool = False
) -> Announcement:
    """`withdrawn`: the event does not hold now, whatever is announced."""
    late = LateBurst("b", 1) if withdrawn or what == "withdrawn" else None
    return Announcement(seq, what, LoggedEvent(seq, event, False, 5 if late else None, "b", tuple(supersedes), late))


def camera(
    name: str, state: str = "ok", since_us: int | None = None, cause: str | None = None, **sectors: str | None
) -> CameraReport:
    """A camera of the north yard. `sectors` that are not watched, each with its cause."""
    since = None if since_us is None else instant(since_us)
    unobserved = tuple(
        SectorState(sector, target, Occupancy.UNOBSERVED, since, why)
        for sector, why in sectors.items()
        for target in ("person", "vehicle")
    )
    condition = Condition(state, cause, since)  # type: ignore[arg-type]
    return CameraReport("north-yard", name, condition, None, None, unobserved)
