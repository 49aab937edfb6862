"""`camera-agent doctor`: what an installer on a ladder wants to know, one line each, with what to do about it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from typing import NamedTuple

import msgspec

from camera_agent.cameras import factory
from camera_agent.cameras.health import EVEN_BELOW, Health
from camera_agent.cameras.timeout_guard import Guarded
from camera_agent.clock import SystemClock
from camera_agent.config.settings import CameraSettings, Settings
from camera_agent.imaging.failure import CameraFailure
from camera_agent.imaging.frame import tones
from camera_agent.state import camera_tokens
from camera_agent.uplink.http_client import Poster
from camera_agent.wall_clock import Timekeeper

_KEEP_RIGHT = "`sudo timedatectl set-ntp true`, or have the server in reach; until then no event is sure of its time"
_ELSEWHERE = frozenset({301, 302, 303, 307, 308, 404, 405, 501})


class Finding(NamedTuple):
    """What was looked at, whether it is well, and what was found."""

    subject: str
    is_well: bool
    told: str


def examine(settings: Settings) -> Iterator[Finding]:
    """Look at everything that a run needs, cheapest first. Takes no burst and changes nothing."""
    yield _state(settings)
    time = Timekeeper(SystemClock())
    yield from (_server(settings, camera, time) for camera in settings.cameras)
    yield _clock(time)
    yield from (_camera(camera) for camera in settings.cameras)


def _state(settings: Settings) -> Finding:
    folder = settings.spool_folder
    while not os.path.exists(folder):  # noqa: PTH110 - `Path.exists` may raise
        folder = folder.parent
    if not folder.is_dir():
        return Finding("disk", False, f"{folder} is a file, and a folder is wanted: choose another state_dir")
    if not os.access(folder, os.W_OK):
        return Finding("disk", False, f"{folder} cannot be written: choose another state_dir, or give it to this user")
    free = shutil.disk_usage(folder).free
    is_enough = free >= settings.spool.max_bytes
    advice = "" if is_enough else f"; spool.max_bytes is {settings.spool.max_bytes / 1e6:,.0f} MB: make it smaller"
    return Finding("disk", is_enough, f"{free / 1e6:,.0f} MB free for the spool{advice}")


def _server(settings: Settings, camera: CameraSettings, time: Timekeeper) -> Finding:
    """A heartbeat that says only whose it is, so that nothing is kept: if the token is right, the rest is missed."""
    poster = Poster(settings.server, time)
    try:
        token = camera_tokens(settings)[camera.name]()
        answer = poster.beat(msgspec.json.encode({"site": settings.site, "camera": camera.name}), token)
    except OSError as error:
        return Finding("server", False, f"the token of {camera.name} cannot be read: {error}")
    finally:
        poster.close()
    url = settings.server.url
    if answer.status == 0:
        return Finding("server", False, f"{url}: {answer.problem}")
    if answer.status in (401, 403):
        whose = f"camera {camera.name} of site {settings.site}"
        what = "does not know the token" if answer.status == 401 else "says that the token is another's, not"
        told = f"{url} {what} of {whose}: {how_to_get_a_token(settings, camera)}"
        return Finding("server", False, told)
    if answer.status >= 500:
        return Finding("server", False, f"{url} answers HTTP {answer.status} {answer.problem}")
    if answer.status in _ELSEWHERE:
        told = (
            f"{url} answers HTTP {answer.status}, as no Sectorwatch server does: mind `server.url` (https? the port?)"
        )
        return Finding("server", False, told)
    whose = f", and takes the token for camera {camera.name} of site {settings.site}" if token else ""
    return Finding("server", True, f"{url} answers{whose}")


def how_to_get_a_token(settings: Settings, camera: CameraSettings) -> str:
    """For whoever was told that there is none, or not the right one."""
    place = camera.token_file or settings.server.token_file or "`token_file`"
    command = f"sectorwatch tokens add --site {settings.site} --camera {camera.name}"
    return f"`{command}` on the server prints one, to be put into {place}"


def _clock(time: Timekeeper) -> Finding:
    reading = time.reading()
    if reading.synced:
        return Finding("clock", True, f"kept right, within {reading.uncertainty_s or 0:.3f} s")
    if reading.is_known:
        return Finding("clock", True, f"not kept right; the server's is used, within {reading.uncertainty_s:.0f} s")
    return Finding("clock", False, f"not kept right, and no server tells the time: {_KEEP_RIGHT}")


def _camera(camera: CameraSettings) -> Finding:
    name = f"camera {camera.name}"
    if camera.is_recorded:
        footage = factory.footage(camera)
        try:
            footage.open()
            return Finding(name, True, f"{camera.source}: {footage.duration_s():.0f} s of footage")
        except (CameraFailure, OSError) as failure:
            return Finding(name, False, f"{camera.source}: {failure}")
        finally:
            footage.close()
    live = Guarded(lambda: factory.live_camera(camera), timeout_s=camera.timeout_s)
    health = Health(0.0, stuck_after_s=camera.stuck_after_s)
    try:
        live.open()
        first, second = live.still(camera.form), live.still(camera.form)
        health.saw(second)
    except CameraFailure as failure:
        return Finding(name, False, f"{camera.source}: {failure}")
    finally:
        live.close()
    mean, spread = tones(second.grey)
    told = f"{camera.source}: {len(second.jpeg) / 1000:.0f} kB a frame, brightness {mean:.0f}, contrast {spread:.0f}"
    if first.jpeg == second.jpeg:
        told += f"; two frames {second.at_s - first.at_s:.1f} s apart are the same: is it a still?"
    if spread < EVEN_BELOW:
        told += "; one even tone: is something on the lens, or is it night?"
    return Finding(name, spread >= EVEN_BELOW, told)
