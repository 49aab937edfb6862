"""A day as its page shows it, and what can be asked of it."""

from __future__ import annotations

from datetime import datetime
from typing import get_args
from urllib.parse import urlencode

import msgspec

from policies.events import Kind
from server.console.timeline.parts import LaneShown, Outage, VisitShown


class DayQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What of a day is shown; empty: all. `from`: rows from this time of the day on, `18:00`. `site`: by default one
    of those that you may read.
    """

    site: str = ""
    camera: str = ""
    sector: str = ""
    kind: str = ""
    target: str = ""
    begins: str = msgspec.field(name="from", default="")

    def address(self, day: str, **changes: str) -> str:
        """The address of a day with these filters and some others."""
        given = {"site": self.site, "camera": self.camera, "sector": self.sector, "kind": self.kind}
        given |= {"target": self.target, "from": self.begins} | changes
        return f"/day/{day}?{urlencode({name: value for name, value in given.items() if value})}"


class Choices(msgspec.Struct, frozen=True):
    """What can be asked for."""

    sites: tuple[str, ...] = ()
    cameras: tuple[str, ...] = ()
    sectors: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    kinds: tuple[str, ...] = get_args(Kind)


class Day(msgspec.Struct, frozen=True):
    """A day of a site, from `since` to before `until` in its zone.

    `lanes` are its sectors, `outages` the longest stretches in which cameras were not watched, and `other_outages`
    counts the shorter ones. `quiet` says of the night and of the day that nothing was, where nothing was. `visits` are
    those that the query asks for, from the clock time `begins` on where it names one; `more_from` is the instant from
    which the next page shows more, and `newest` the newest day before with an event, where there are no visits. `gone`
    says what is no longer kept. `/v1/live` has what came after `last`.
    """

    site: str
    day: str
    title: str
    zone: str
    since: datetime
    until: datetime
    previous: str
    following: str | None
    is_today: bool
    is_morning: bool
    well: int
    not_well: int
    choices: Choices
    lanes: tuple[LaneShown, ...]
    outages: tuple[Outage, ...]
    other_outages: int
    quiet: tuple[str, ...]
    gone: tuple[str, ...]
    begins: str
    visits: tuple[VisitShown, ...]
    more_from: str | None
    hours: tuple[tuple[str, int], ...]
    cells: int
    last: int
    newest: str | None

    @property
    def by_camera(self) -> list[tuple[str, list[LaneShown]]]:
        """The lanes of each camera."""
        found: dict[str, list[LaneShown]] = {}
        for lane in self.lanes:
            found.setdefault(lane.camera, []).append(lane)
        return list(found.items())
