"""Tells that a camera, or some of its sectors, are not watched for long, and when they are again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from policies.events import microseconds
from policies.occupancy import Occupancy
from server.camera_status.reports import CameraReport
from server.camera_status.status import SectorState
from server.delivery.choice import Choice
from server.delivery.notify import wording
from server.delivery.notify.happenings import is_camera_muted, is_sector_muted
from server.delivery.notify.memory import Memory, Unwatched
from server.delivery.notify.post import Line, Post
from server.domain.times.clock import SECOND_US
from server.settings.channels import NotifySettings

_EVERY_US = 10 * SECOND_US
_PLANNED = frozenset({"outside_hours", "finished"})
"""Causes that somebody wanted: hours in the agent's settings, and the end of a recording."""


class _Trouble(NamedTuple):
    """A camera or a sector that is not watched: its name for people, since when (us), and why."""

    site: str
    place: str
    since_us: int
    cause: str | None


class Watch:
    """Looks at the cameras. `began_us`: since when this process does; a server that was down waits for their bursts."""

    def __init__(
        self,
        memory: Memory,
        settings: NotifySettings,
        post: Post,
        reports: Callable[[str | None], Sequence[CameraReport]],
        began_us: int,
    ) -> None:
        self._memory = memory
        self._settings = settings
        self._choice = Choice.of(settings)
        self._post = post
        self._reports = reports
        self._began_us = began_us
        self._looked_us: int | None = None

    def look(self, now_us: int) -> None:
        """Look at all cameras, at most every ten seconds."""
        if not self._settings.unobserved_after_s:
            return
        if self._looked_us is not None and 0 <= now_us - self._looked_us < _EVERY_US:
            return
        self._looked_us = now_us
        reports = [
            each
            for each in self._reports(None)
            if self._choice.takes_site(each.site) and not is_camera_muted(self._settings.mute, each.site, each.camera)
        ]
        current = dict(pair for report in reports for pair in self._troubles(report))
        self._note(current, now_us)
        self._tell(current, now_us)
        self._end(current, {f"{each.site}/{each.camera}": each.condition.state == "ok" for each in reports}, now_us)

    def _troubles(self, report: CameraReport) -> Iterable[tuple[str, _Trouble]]:
        site, camera, condition = report.site, report.camera, report.condition
        if condition.state == "late" or condition.cause in _PLANNED:
            return
        if condition.state == "silent":
            since = condition.since
            since_us = self._known_us(f"{site}/{camera}") if since is None else microseconds(since)
            yield f"{site}/{camera}", _Trouble(site, camera, since_us, condition.cause)
            return
        for sector in report.sectors:
            if sector.state is not Occupancy.UNOBSERVED or not self._is_wanted(site, camera, sector):
                continue
            name = f"{site}/{camera}/{sector.sector}"
            since_us = self._known_us(name) if sector.since is None else microseconds(sector.since)
            yield name, _Trouble(site, f"{camera}/{sector.sector}", since_us, sector.cause)

    def _is_wanted(self, site: str, camera: str, sector: SectorState) -> bool:
        settings = self._settings
        if settings.targets and sector.target not in settings.targets:
            return False
        return not is_sector_muted(settings.mute, site, camera, sector.sector, sector.target)

    def _known_us(self, name: str) -> int:
        known = self._memory.unwatched.get(name)
        return (self._looked_us or 0) if known is None else known.since_us

    def _note(self, current: dict[str, _Trouble], now_us: int) -> None:
        for name, trouble in current.items():
            if name not in self._memory.unwatched:
                is_known = not self._memory.has_looked
                self._memory.unwatched[name] = Unwatched(min(trouble.since_us, now_us), is_known=is_known)
        self._memory.has_looked = True

    def _tell(self, current: dict[str, _Trouble], now_us: int) -> None:
        after_us = round(self._settings.unobserved_after_s * SECOND_US)
        groups: dict[tuple[str, str | None], list[tuple[Unwatched, _Trouble]]] = {}
        for name, trouble in current.items():
            noted = self._memory.unwatched[name]
            if noted.is_known or noted.is_reported or now_us - max(noted.since_us, self._began_us) < after_us:
                continue
            groups.setdefault((trouble.site, trouble.cause), []).append((noted, trouble))
        for (site, cause), troubles in groups.items():
            since_us = min(noted.since_us for noted, _ in troubles)
            since = wording.clock(self._post.local(site), since_us, now_us)
            text = wording.not_watched([trouble.place for _, trouble in troubles], site, since, cause)
            counted_as = f"{troubles[0][1].place} not watched"
            fate = self._post.put(Line(text, site, now_us, counted_as), now_us)
            for noted, _ in troubles:
                noted.is_reported = fate != "dropped"

    def _end(self, current: dict[str, _Trouble], is_well: dict[str, bool], now_us: int) -> None:
        """Tell what is watched again: only a camera whose bursts come shows it."""
        again: dict[str, list[tuple[str, int]]] = {}
        for name, noted in list(self._memory.unwatched.items()):
            site, camera, *sector = name.split("/", 2)
            if name in current or is_well.get(f"{site}/{camera}") is False:
                continue
            del self._memory.unwatched[name]
            if noted.is_reported and f"{site}/{camera}" in is_well:
                again.setdefault(site, []).append(("/".join([camera, *sector]), noted.since_us))
        for site, places in again.items():
            since = wording.clock(self._post.local(site), min(since_us for _, since_us in places), now_us)
            text = wording.watched_again([place for place, _ in places], site, since)
            self._post.put(Line(text, site, now_us), now_us)
