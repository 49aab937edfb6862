"""`/now`: each camera with its newest kept picture, the state of its sectors, and what is wrong if something is."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from typing import Literal

import msgspec

from policies.events import instant, microseconds
from policies.site.site_policy import CameraPolicy
from server.camera_status.heartbeat import Heartbeat
from server.camera_status.reports import CameraReport
from server.console.access import Viewer
from server.console.context import Context
from server.console.drawing import Outline, outlines
from server.console.pages import Pages
from server.domain.errors import ConfigurationError, RetryLater, Unknown
from server.domain.pictures.kept_frames import KeptFrame
from server.domain.times.clock import SECOND_US
from server.domain.times.local_time import LocalTime
from server.web.openapi import Twin


class NowQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which cameras: of one site, or of all."""

    site: str | None = None


class SectorNow(msgspec.Struct, frozen=True):
    """A sector and a target: its state, since when, and why it is unobserved."""

    sector: str
    target: str
    state: Literal["occupied", "clear", "unobserved"]
    since: datetime | None
    since_local: str
    cause: str | None


class Shown(msgspec.Struct, frozen=True):
    """A kept picture: the instant of its frame, and how old it is (s)."""

    sha256: str
    at: datetime
    at_local: str
    age_s: float


class AgentNow(msgspec.Struct, frozen=True):
    """What the newest heartbeat says of the agent. `bytes_a_day` is the mean since its start."""

    version: str | None
    heard_s_ago: float
    waiting_bursts: int
    waiting_bytes: int
    camera_bytes: int
    started_at: datetime
    bytes_a_day: float | None


class CameraNow(msgspec.Struct, frozen=True):
    """A camera. `cause` is the one thing to look at, where it is not well. `burst_s_ago`: age of its newest frame."""

    site: str
    camera: str
    condition: Literal["ok", "late", "silent"]
    cause: str | None
    since: datetime | None
    burst_s_ago: float | None
    picture: Shown | None
    sectors: tuple[SectorNow, ...]
    outlines: tuple[Outline, ...]
    agent: AgentNow | None

    @property
    def is_well(self) -> bool:
        return self.condition == "ok" and self.cause is None

    @property
    def has_old_picture(self) -> bool:
        """Whether newer frames came than the one that is shown, by more than a second."""
        if self.picture is None or self.burst_s_ago is None:
            return False
        return self.picture.age_s > self.burst_s_ago + 1

    @property
    def groups(self) -> list[tuple[str, list[SectorNow]]]:
        """The sectors that are in the same state since the same time for the same reason, for a page that says it once:
        the targets, and their sectors.
        """
        alike: dict[tuple[object, ...], list[SectorNow]] = {}
        for each in self.sectors:
            alike.setdefault((each.target, each.state, each.since, each.cause), []).append(each)
        return [(some[0].target, some) for some in alike.values()]


class SiteNow(msgspec.Struct, frozen=True):
    """A site: its zone, its cameras, and the faults of its policy file."""

    site: str
    zone: str
    cameras: tuple[CameraNow, ...]
    faults: tuple[str, ...]


class Now(msgspec.Struct, frozen=True):
    """Every site that the viewer reads, at the instant `at` of the server. `/v1/live` has what came after `last`."""

    at: datetime
    last: int
    well: int
    not_well: int
    sites: tuple[SiteNow, ...]


TWIN = Twin("/v1/now", "showNow", "Show every camera now.", NowQuery, Now)


def add(pages: Pages, context: Context) -> None:
    """Register the page."""

    @pages.page("/now", twin=TWIN, template="now.html", query=NowQuery, is_live=True)
    def now(viewer: Viewer, query: NowQuery) -> Now:
        if query.site is not None:
            viewer.to_read(query.site)
        now_us, last = context.clock(), context.store.last_seq(viewer.sites)
        reports = [each for each in context.reports(query.site) if viewer.reads(each.site)]
        pictures = context.store.frames.latest(query.site)
        known = {each.site for each in reports} | {each for each in context.sites.sites() if viewer.reads(each)}
        if query.site is not None and query.site not in known:
            raise Unknown(f"no site `{query.site[:64]}` that you may read")
        sites = sorted(known if query.site is None else {query.site})
        shown = tuple(_site(context, site, reports, pictures, now_us) for site in sites)
        well = sum(each.is_well for site in shown for each in site.cameras)
        return Now(instant(now_us), last, well, sum(len(site.cameras) for site in shown) - well, shown)


def _site(
    context: Context,
    site: str,
    reports: list[CameraReport],
    pictures: Mapping[tuple[str, str], KeptFrame],
    now_us: int,
) -> SiteNow:
    local = context.local_time(site)
    cameras = tuple(
        _camera(each, pictures.get((site, each.camera)), _policy(context, site, each.camera), local, now_us)
        for each in reports
        if each.site == site
    )
    return SiteNow(site, local.name, cameras, context.sites.standing(site).faults)


def _policy(context: Context, site: str, camera: str) -> CameraPolicy | None:
    """The policy in force, None while there is none that can be used."""
    with suppress(ConfigurationError, RetryLater):
        return context.sites.policy(site).camera(camera)
    return None


def _camera(
    report: CameraReport, picture: KeptFrame | None, policy: CameraPolicy | None, local: LocalTime, now_us: int
) -> CameraNow:
    sectors = tuple(
        SectorNow(
            each.sector,
            each.target,
            each.state.value,
            each.since,
            "" if each.since is None else _local(microseconds(each.since), local, now_us),
            each.cause,
        )
        for each in report.sectors
    )
    condition, last = report.condition, report.last_burst
    return CameraNow(
        report.site,
        report.camera,
        condition.state,
        condition.cause,
        condition.since,
        None if last is None else _seconds(now_us, last.last_at),
        None if picture is None else _shown(picture, local, now_us),
        sectors,
        () if policy is None else tuple(_coloured(outline, sectors) for outline in outlines(policy)),
        None if report.last_heartbeat is None else _agent(report.last_heartbeat.heartbeat, now_us, report),
    )


def _local(at_us: int, local: LocalTime, now_us: int) -> str:
    """`18:12:04` today, else with the date."""
    is_today = local.at(at_us).date() == local.at(now_us).date()
    return local.clock(at_us) if is_today else local.dated(at_us)


def _coloured(outline: Outline, sectors: tuple[SectorNow, ...]) -> Outline:
    """The sector with its state: occupied if any target is there, unobserved if no target is observed."""
    states = [each.state for each in sectors if each.sector == outline.name]
    rank = ("occupied", "clear", "unobserved")
    return msgspec.structs.replace(outline, state=min(states, key=rank.index, default="unobserved"))


def _shown(picture: KeptFrame, local: LocalTime, now_us: int) -> Shown:
    at = instant(picture.at_us)
    return Shown(picture.sha256, at, local.dated(picture.at_us), _seconds(now_us, at))


def _agent(heartbeat: Heartbeat, now_us: int, report: CameraReport) -> AgentNow:
    assert report.last_heartbeat is not None
    counts = heartbeat.counts
    sent = counts.uploaded_bytes if counts.camera_bytes is None else counts.camera_bytes
    days = (heartbeat.agent.sent_at - heartbeat.agent.started_at).total_seconds() / 86_400
    return AgentNow(
        heartbeat.agent.version,
        _seconds(now_us, report.last_heartbeat.received_at),
        heartbeat.waiting.bursts,
        heartbeat.waiting.bytes,
        sent,
        heartbeat.agent.started_at,
        sent / days if days > 1 / 24 else None,
    )


def _seconds(now_us: int, at: datetime) -> float:
    return (now_us - microseconds(at)) / SECOND_US
