"""What the pages know of the server."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from server.camera_status.reports import CameraReport
from server.delivery.care import ChannelCare
from server.domain.ensemble_protocol import Ensemble
from server.domain.times.clock import Clock
from server.domain.times.local_time import LocalTime
from server.pipeline.site_policies import SitePolicies
from server.pipeline.site_versions import SiteVersions
from server.replays import Replays
from server.settings import ServerSettings
from server.store import Store


@dataclass(frozen=True, slots=True)
class Context:
    """The parts of the server that pages read.

    `reports` gives the condition of the cameras of a site (None: of all). `ensemble` raises RetryLater until one is
    loaded. `card` gives the public fields of a model's card, `local_time` the time zone of a site. `wants_next` takes a
    stretch of a site (from, to before; us) that the viewer is likely to ask for next.
    """

    store: Store
    sites: SitePolicies
    settings: ServerSettings
    clock: Clock
    replays: Replays
    reports: Callable[[str | None], Sequence[CameraReport]]
    ensemble: Callable[[], Ensemble]
    card: Callable[[str], Mapping[str, object]]
    versions: SiteVersions
    local_time: Callable[[str], LocalTime]
    channels: ChannelCare
    wants_next: Callable[[str, int, int], None]
