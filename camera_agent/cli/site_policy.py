"""What the server makes of the file of the camera's site, as `once` and `doctor` show it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import msgspec

from camera_agent.config.settings import CameraSettings, Settings
from camera_agent.logs import visible
from camera_agent.state import camera_tokens
from camera_agent.uplink.http_client import HttpClient
from camera_agent.wall_clock import WallClock

_IN_FORCE = {
    "file": "in force as it is",
    "last_good": "the last good policy stays in force",
    "none": "no policy is in force",
}


class Report(msgspec.Struct, frozen=True):
    """The answer of `GET /v1/site-policy`. `faults`: why the newest file cannot be used. `remarks`: what of it can be
    used, and is probably not meant.
    """

    site: str
    file: str | None = None
    in_force: str = "file"
    faults: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()

    @property
    def is_well(self) -> bool:
        return not self.faults and not self.remarks and self.in_force == "file"

    @property
    def heading(self) -> str:
        """What judges the site's cameras."""
        name = self.file or f"no file for site {self.site}"
        return visible(f"{name}: {_IN_FORCE.get(self.in_force, self.in_force)}")

    def lines(self) -> Iterator[str]:
        """For a person: nothing where all is well."""
        if self.is_well:
            return
        yield ""
        yield f"the server's site policy: {self.heading}"
        yield from (f"  fault: {visible(fault)}" for fault in self.faults)
        yield from (f"  mind: {visible(remark)}" for remark in self.remarks)


_report = msgspec.json.Decoder(Report)


def fetch_report(settings: Settings, camera: CameraSettings, wall_clock: WallClock) -> Report | None:
    """None where the server does not say: a server before version 0.3.0, or one that does not answer."""
    try:
        token = camera_tokens(settings)[camera.name]()
    except OSError:  # reported where the token is used
        return None
    with closing(HttpClient(settings.server, wall_clock)) as client:
        content = client.fetch_site_policy(settings.site, camera.name, token)
    try:
        return _report.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
