"""What channels may ask of the server, joined from its parts."""

from __future__ import annotations

from functools import partial

from policies.site.site_policy import SitePolicy
from server import __version__
from server.camera_status.duplicate_agents import DuplicateAgents
from server.camera_status.reports import CameraReports
from server.camera_status.status import StatusThresholds
from server.delivery.surroundings import Surroundings
from server.domain.errors import ConfigurationError, RetryLater
from server.domain.times.clock import Clock, now_us
from server.domain.times.local_time import LocalTime, site_time, zone_of
from server.frames import view
from server.pipeline.chosen_sites import sites_of
from server.pipeline.site_policies import SitePolicies
from server.settings import ServerSettings
from server.store import Store


def surroundings(
    settings: ServerSettings, store: Store, sites: SitePolicies, clock: Clock, reports: CameraReports
) -> Surroundings:
    """Those of a server with these parts."""
    return Surroundings(
        version=__version__,
        clock=clock,
        reports=reports.all,
        policy=partial(_usable_policy, sites),
        newest_frames=store.frames.latest,
        picture=lambda sha256: view(store.frames.shelf, sha256, "full"),
        local_time=partial(local_time, sites, store),
        waiting=lambda: sum(state.backlog for state in store.channel_states()),
        erasures=store.retention.erasures,
        kept_events=store.kept_events,
        console_url=settings.console_url.rstrip("/"),
    )


def surroundings_alone(settings: ServerSettings, store: Store, clock: Clock = now_us) -> Surroundings:
    """Those of a process that serves nothing, such as a command."""
    thresholds = StatusThresholds(settings.late_after_s, settings.silent_after_s)
    reports = CameraReports(store.heartbeats, store.policy, clock, thresholds, DuplicateAgents())
    return surroundings(settings, store, sites_of(settings, store), clock, reports)


def local_time(sites: SitePolicies, store: Store, site: str) -> LocalTime:
    """The local time of a site: that of its policy, else the machine's."""
    try:
        text = sites.edition(site).text
    except (ConfigurationError, RetryLater):
        return site_time(store, site)
    return LocalTime(zone_of(text))


def _usable_policy(sites: SitePolicies, site: str) -> SitePolicy | None:
    """The site policy in force; None while there is none that can be used."""
    try:
        return sites.policy(site)
    except (ConfigurationError, RetryLater):
        return None
