"""What channels may ask of the server."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from policies.site.site_policy import SitePolicy
from server.camera_status.reports import CameraReport
from server.domain.keeping import Erasure
from server.domain.pictures.kept_frames import KeptFrame
from server.domain.times.clock import Clock
from server.domain.times.local_time import LocalTime


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a channel may ask of the server that it runs in.

    `reports` gives the present condition of every camera (of a site). `policy` gives the site policy in force; None for
    a site without one. `newest_frames` gives the newest kept frame of each camera (of a site) by site and camera,
    `picture` a kept frame's bytes by its SHA-256, None where it is not kept. `local_time` gives the time zone of a
    site, `waiting` how many announcements wait on all channels. `erasures` gives the notes of all erasures,
    `kept_events` those of some ids of events, or of their first digits, of which the log still has an event.
    `console_url` is where a person opens the console, without a slash at its end; empty: unknown.
    """

    version: str
    clock: Clock
    reports: Callable[[str | None], Sequence[CameraReport]]
    policy: Callable[[str], SitePolicy | None]
    newest_frames: Callable[[str | None], Mapping[tuple[str, str], KeptFrame]]
    picture: Callable[[str], bytes | None]
    local_time: Callable[[str], LocalTime]
    waiting: Callable[[], int]
    erasures: Callable[[], Sequence[Erasure]]
    kept_events: Callable[[Collection[str]], frozenset[str]]
    console_url: str = ""
