"""One burst, taken now, put into a folder, sent, and shown: what a newcomer runs first and an installer on the
ladder.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any, TextIO

import msgspec

from camera_agent import atomic_files
from camera_agent.burst import Burst
from camera_agent.cameras import factory
from camera_agent.cameras.timeout_guard import Guarded
from camera_agent.capture.live import Capture
from camera_agent.capture.playback import Playback
from camera_agent.capture.schedule import Slots
from camera_agent.cli.doctor import how_to_get_a_token
from camera_agent.clock import SystemClock
from camera_agent.config.settings import CameraSettings, Settings
from camera_agent.imaging.failure import CameraFailure
from camera_agent.spool.entry import waiting_for
from camera_agent.state import camera_tokens
from camera_agent.uplink.http_client import Accepted, Later, Outcome, Poster, Receipt, Refused, Unauthorised
from camera_agent.wall_clock import Timekeeper

_MAX_CLASS_WIDTH = 24


class _NoRoomNeeded:
    """`once` keeps its burst itself."""

    def put(self, burst: Burst) -> bool:
        del burst
        return True

    def wait_for_room(self, size_bytes: int, timeout_s: float) -> bool:
        del size_bytes, timeout_s
        return True


def take_once(settings: Settings, camera: CameraSettings, stop: threading.Event) -> Burst:
    """One burst of `camera`: now for a live one, the first of a recording. Raises `CameraFailure`."""
    clock, why = SystemClock(), "no frame could be taken"
    if camera.is_recorded:
        atomic_files.make_own(settings.state_folder)
        footage = factory.footage(camera)
        playback = Playback(settings.site, camera, footage, _NoRoomNeeded(), settings.state_folder, clock, stop)
        burst = playback.first()
    else:
        live = Guarded(lambda: factory.live_camera(camera), timeout_s=camera.timeout_s)
        live.open()  # here, not within the burst, so that a failure is told as it is
        try:
            slots = Slots(clock.monotonic_s(), camera.every_s)
            capture = Capture(settings.site, camera, live, _NoRoomNeeded(), slots, clock, stop, is_open=True)
            burst, why = capture.take(0), capture.health.read().detail or why
        finally:
            live.close()
    if burst is None:
        raise CameraFailure(why)
    return burst


def run_once(settings: Settings, camera: CameraSettings, out: Path, stop: threading.Event, stream: TextIO) -> bool:
    """Take, write to `out`, send, show. True when the server took it. Raises `CameraFailure` and `OSError`."""
    burst = take_once(settings, camera, stop)
    out.mkdir(parents=True, exist_ok=True)
    for index, jpeg in enumerate(burst.frames):
        (out / f"{index:03d}.jpg").write_bytes(jpeg)
    (out / "burst.json").write_bytes(msgspec.json.format(msgspec.json.encode(burst.envelope), indent=2) + b"\n")
    taken_bytes = sum(len(jpeg) for jpeg in burst.frames)
    stream.write(f"{len(burst.frames)} frames of {camera.name} ({taken_bytes:,} bytes) are in {out}\n")
    outcome = _send(settings, camera, burst)
    if isinstance(outcome, Accepted):
        (out / "answer.json").write_bytes(msgspec.json.format(msgspec.json.encode(outcome.receipt), indent=2) + b"\n")
    stream.write(_told(settings, camera, burst, outcome))
    return isinstance(outcome, Accepted)


def table(offsets_ms: tuple[int, ...], receipt: Receipt) -> str:
    """One row per frame, one column per model, and the events below."""
    rows = [["frame", "at", *receipt.labels]]
    for index, offset_ms in enumerate(offsets_ms):
        said = [classes[index] if index < len(classes) else "?" for classes in receipt.labels.values()]
        rows.append([str(index), f"+{offset_ms / 1000:.3f} s", *(label[:_MAX_CLASS_WIDTH] or "-" for label in said)])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    lines.insert(1, "  ".join("-" * width for width in widths))
    events = [f"  {_event(event)}" for event in receipt.events]
    return "\n".join([*lines, "", f"events: {len(events) or 'none yet'}", *events, ""])


def _send(settings: Settings, camera: CameraSettings, burst: Burst) -> Outcome:
    """As `run` sends a burst that waits in memory."""
    poster = Poster(settings.server, Timekeeper(SystemClock()))
    try:
        return poster.post(waiting_for(burst, 0, settings.spool_folder, 0.0), camera_tokens(settings)[camera.name]())
    finally:
        poster.close()


def _told(settings: Settings, camera: CameraSettings, burst: Burst, outcome: Outcome) -> str:
    url = settings.server.url
    if isinstance(outcome, Accepted):
        was = "had it already" if outcome.known else "took it"
        return f"{url} {was}: burst {burst.envelope.burst_id}\n\n{table(burst.envelope.offsets_ms, outcome.receipt)}"
    if isinstance(outcome, Refused):
        return f"{url} refused it: {outcome.problem}\n"
    if isinstance(outcome, Unauthorised):
        how = how_to_get_a_token(settings, camera)
        return f"{url} does not know this camera's token: {outcome.problem}\n{how}\n"
    cause = outcome.cause if isinstance(outcome, Later) else "the burst is gone"
    return f"{url} did not take it: {cause}\n"


def _event(event: dict[str, Any]) -> str:
    where = [
        f"{key}={event[key]}"
        for key in ("sector", "from_sector", "to_sector", "line", "direction", "label")
        if event.get(key)
    ]
    return " ".join([str(event.get("started_at", "")), str(event.get("kind", "?")), *where])
