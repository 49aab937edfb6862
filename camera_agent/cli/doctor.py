"""`camera-agent doctor`: checks disk, server, clock and cameras, and says what to do about each fault."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import msgspec

from camera_agent.cameras import factory
from camera_agent.cameras.camera import whole_frame
from camera_agent.cameras.health import LEAST_CONTRAST
from camera_agent.cameras.timeout_guard import TimeoutGuard
from camera_agent.cli.site_policy import fetch_report
from camera_agent.cli.validate import clear_token_advice
from camera_agent.clock import Clock
from camera_agent.config.open_secrets import open_secrets
from camera_agent.config.settings import CameraSettings, Settings
from camera_agent.imaging.frame import CameraFailure, DamagedPicture, tones
from camera_agent.logs import visible
from camera_agent.state import camera_tokens
from camera_agent.uplink.http_client import HttpClient
from camera_agent.wall_clock import WallClock

_SYNCHRONISE = (
    "run `sudo timedatectl set-ntp true`, or make the server reachable; until then no event is sure of its time"
)
_WANTS_TLS = 426
OLDEST_SERVER = (0, 2)
"""The release before this one, with which the tests try this agent."""
_VERSION = re.compile(r"(\d+)\.(\d+)(?!.*\+checkout)")
_OTHER_SERVER = frozenset({301, 302, 303, 307, 308, 404, 405, 501})


class Finding(NamedTuple):
    """What was checked, whether it is well, and what to know or do."""

    subject: str
    is_well: bool
    text: str


def examine(settings: Settings, file: Path | None = None) -> Iterator[Finding]:
    """Check everything that a run needs, cheapest first. Takes no burst and changes nothing.

    `file` is the settings file, whose mode is checked.
    """
    yield _check_disk(settings)
    if advice := clear_token_advice(settings):
        yield Finding("token", True, f"mind: {advice}")
    if file is not None:
        yield from (Finding("secrets", False, secret) for secret in open_secrets(file, settings))
    wall_clock = WallClock(Clock())
    for camera in settings.cameras:
        yield (found := _check_server(settings, camera, wall_clock))
        if found.is_well:
            yield from _check_site_policy(settings, camera, wall_clock)
    yield from _check_version(settings, wall_clock)
    yield _check_clock(wall_clock)
    yield from (_check_recording(camera) if camera.is_recorded else _check_live(camera) for camera in settings.cameras)


def how_to_get_a_token(settings: Settings, camera: CameraSettings) -> str:
    """Advice for a missing or wrong token."""
    if camera.token or (settings.server.token and not camera.token_file):
        place = f"`token` of {'camera ' + camera.name if camera.token else '[server]'} in the settings file"
    else:
        place = camera.token_file or settings.server.token_file or "`token_file`"
    command = f"sectorwatch tokens add --site {settings.site} --camera {camera.name}"
    return f"`{command}` on the server prints one; put it into {place}"


def how_to_match_the_token(settings: Settings, camera: CameraSettings) -> str:
    """Advice for a token that is another camera's."""
    ours = f"`site` (now `{settings.site}`) and the camera's `name` (now `{camera.name}`)"
    return f"either set {ours} in the settings file to those of the token, or {how_to_get_a_token(settings, camera)}"


def _check_disk(settings: Settings) -> Finding:
    folder = settings.spool_folder
    while not os.path.exists(folder):  # noqa: PTH110 - `Path.exists` may raise
        folder = folder.parent
    if not folder.is_dir():
        return Finding("disk", False, f"{folder} is a file, not a folder: choose another state_dir")
    if not os.access(folder, os.W_OK):
        return Finding("disk", False, f"{folder} cannot be written: choose another state_dir, or give it to this user")
    free = shutil.disk_usage(folder).free
    is_enough = free >= settings.spool.max_bytes
    advice = "" if is_enough else f"; spool.max_bytes is {settings.spool.max_bytes / 1e6:,.0f} MB: make it smaller"
    return Finding("disk", is_enough, f"{free / 1e6:,.0f} MB free for the spool{advice}")


def _check_server(settings: Settings, camera: CameraSettings, wall_clock: WallClock) -> Finding:
    """Send an incomplete heartbeat, which is not stored: a right token gets an error about the missing fields."""
    try:
        token = camera_tokens(settings)[camera.name]()
    except OSError as error:
        return Finding("server", False, f"the token of {camera.name} cannot be read: {error}")
    document = msgspec.json.encode({"site": settings.site, "camera": camera.name})
    with closing(HttpClient(settings.server, wall_clock)) as client:
        answer = client.send_heartbeat(document, token)
    url, name = settings.server.shown_url, f"camera {camera.name} of site {settings.site}"
    if answer.status == 0:
        return Finding("server", False, f"{url}: {answer.problem}")
    if answer.status == 401:
        text = f"{url} does not know the token of {name}: {how_to_get_a_token(settings, camera)}"
        return Finding("server", False, text)
    if answer.status == 403:
        text = f"{url} answers HTTP 403 {answer.problem}: {how_to_match_the_token(settings, camera)}"
        return Finding("server", False, text)
    if answer.status >= 500 or answer.status == _WANTS_TLS:
        return Finding("server", False, f"{url} answers HTTP {answer.status} {answer.problem}")
    if answer.status in _OTHER_SERVER:
        text = (
            f"{url} answers HTTP {answer.status}: this is no Sectorwatch server; check `server.url` (https? the port?)"
        )
        return Finding("server", False, text)
    return Finding("server", True, f"{url} answers" + (f", and accepts the token for {name}" if token else ""))


def _check_version(settings: Settings, wall_clock: WallClock) -> Iterator[Finding]:
    """A server older than the release before this agent's; nothing where it does not say."""
    with closing(HttpClient(settings.server, wall_clock)) as client:
        version = client.fetch_version()
    found = _VERSION.match(version)
    if found is not None and (int(found[1]), int(found[2])) < OLDEST_SERVER:
        needed = ".".join(map(str, OLDEST_SERVER))
        is_old = f"has version {visible(version)}, and this agent needs {needed}: upgrade the server"
        yield Finding("server", False, f"{settings.server.shown_url} {is_old}")


def _check_site_policy(settings: Settings, camera: CameraSettings, wall_clock: WallClock) -> Iterator[Finding]:
    """What the server makes of the site's file; nothing from a server that does not say."""
    if (report := fetch_report(settings, camera, wall_clock)) is None:
        return
    subject = f"site policy of {camera.name}"
    yield Finding(subject, report.in_force == "file" and not report.faults, report.heading)
    yield from (Finding(subject, False, visible(fault)) for fault in report.faults)
    yield from (Finding(subject, True, f"mind: {visible(remark)}") for remark in report.remarks)


def _check_clock(wall_clock: WallClock) -> Finding:
    offset = wall_clock.offset()
    if offset.uncertainty_s is None:
        return Finding("clock", False, f"not synchronised, and no server tells the time: {_SYNCHRONISE}")
    if offset.synced:
        return Finding("clock", True, f"synchronised, within {offset.uncertainty_s:.3f} s")
    return Finding("clock", True, f"not synchronised; the server's time is used, within {offset.uncertainty_s:.0f} s")


def _check_recording(camera: CameraSettings) -> Finding:
    name = f"camera {camera.name}"
    try:
        with closing(factory.recording(camera)) as recording:
            recording.open()
            return Finding(name, True, f"{camera.source}: {recording.duration_s():.0f} s of footage")
    except (CameraFailure, OSError) as failure:
        return Finding(name, False, f"{camera.source}: {failure}")


def _check_live(camera: CameraSettings) -> Finding:
    name = f"camera {camera.name}"
    damaged: list[DamagedPicture] = []
    try:
        with closing(TimeoutGuard(lambda: factory.live_camera(camera), timeout_s=camera.timeout_s)) as guard:
            guard.open()
            first, second = (whole_frame(guard, camera.frame_format, damaged.append) for _ in range(2))
    except CameraFailure as failure:
        return Finding(name, False, f"{camera.source}: {failure}")
    mean, contrast = tones(second.thumbnail)
    text = f"{camera.source}: {len(second.jpeg) / 1000:.0f} kB a frame, brightness {mean:.0f}, contrast {contrast:.0f}"
    if first.jpeg == second.jpeg:
        text += f"; two frames {second.at_s - first.at_s:.1f} s apart are identical: is it a still picture?"
    if damaged:
        text += f"; {len(damaged)} damaged pictures were passed over ({damaged[-1]}): is the connection weak?"
    if second.is_mended:
        text += "; its JPEGs have a faulty start or end, which the agent mends"
    if contrast < LEAST_CONTRAST:
        text += "; one even tone: is something on the lens, or is it night?"
    return Finding(name, contrast >= LEAST_CONTRAST, text)
