"""`camera-agent once`: takes one burst, keeps it in a folder, sends it, and shows the server's answer."""

from __future__ import annotations

import threading
from contextlib import closing
from pathlib import Path
from typing import TextIO

import msgspec

from camera_agent import atomic_files
from camera_agent.burst import Burst
from camera_agent.cameras import factory
from camera_agent.cameras.timeout_guard import TimeoutGuard
from camera_agent.capture.live import LiveCapture
from camera_agent.capture.playback import Playback
from camera_agent.capture.schedule import Slots
from camera_agent.cli.answer import answer_lines
from camera_agent.cli.doctor import how_to_get_a_token, how_to_match_the_token
from camera_agent.cli.site_policy import fetch_report
from camera_agent.clock import Clock
from camera_agent.config.settings import CameraSettings, Settings
from camera_agent.imaging.frame import CameraFailure
from camera_agent.spool.entry import entry_of_burst
from camera_agent.state import camera_tokens
from camera_agent.uplink.http_client import Accepted, HttpClient, Outcome, Refused, RetryLater, Unauthorised
from camera_agent.wall_clock import WallClock


def take_once(settings: Settings, camera: CameraSettings, stop: threading.Event) -> Burst:
    """One burst of `camera`: now for a live one, the first one of a recording. Raises `CameraFailure`."""
    if camera.is_recorded:
        return _first_of_recording(settings, camera, stop)
    clock = Clock()
    with closing(TimeoutGuard(lambda: factory.live_camera(camera), timeout_s=camera.timeout_s)) as guard:
        guard.open()  # opened here, so that a failure is raised and not retried
        slots = Slots(clock.monotonic_s(), camera.every_s)
        capture = LiveCapture(settings.site, camera, guard, lambda burst: None, slots, clock, stop, is_open=True)
        if (burst := capture.take(0)) is None:
            raise CameraFailure(capture.health.read().detail or "no frame could be taken")
        return burst


def run_once(settings: Settings, camera: CameraSettings, out: Path, stop: threading.Event, stream: TextIO) -> bool:
    """Take, write to `out`, send, show. Returns whether the server accepted. Raises `CameraFailure` and `OSError`."""
    burst = take_once(settings, camera, stop)
    out.mkdir(parents=True, exist_ok=True)
    for index, jpeg in enumerate(burst.frames):
        (out / f"{index:03d}.jpg").write_bytes(jpeg)
    _write_json(out / "burst.json", burst.envelope)
    size_bytes = sum(len(jpeg) for jpeg in burst.frames)
    stream.write(f"{len(burst.frames)} frames of {camera.name} ({size_bytes:,} bytes) are in {out}\n")
    outcome = _send(settings, camera, burst)
    if isinstance(outcome, Accepted):
        _write_json(out / "answer.json", outcome.receipt)
    stream.write(f"{settings.server.shown_url} {_describe(settings, camera, burst, outcome)}\n")
    if isinstance(outcome, Accepted):
        report = fetch_report(settings, camera, WallClock(Clock()))
        stream.write("".join(f"{line}\n" for line in (report.lines() if report else ())))
    return isinstance(outcome, Accepted)


def _first_of_recording(settings: Settings, camera: CameraSettings, stop: threading.Event) -> Burst:
    atomic_files.make_private(settings.state_folder)
    playback = Playback(
        settings.site,
        camera,
        factory.recording(camera),
        lambda burst: None,
        lambda size_bytes, timeout_s: True,
        settings.state_folder,
        Clock(),
        stop,
    )
    if (burst := playback.first()) is None:
        raise CameraFailure("no frame could be taken")
    return burst


def _send(settings: Settings, camera: CameraSettings, burst: Burst) -> Outcome:
    """As `run` sends a burst that waits in memory."""
    with closing(HttpClient(settings.server, WallClock(Clock()))) as client:
        token = camera_tokens(settings)[camera.name]()
        return client.send_burst(entry_of_burst(burst, 0, settings.spool_folder, 0.0), token)


def _describe(settings: Settings, camera: CameraSettings, burst: Burst, outcome: Outcome) -> str:
    if isinstance(outcome, Accepted):
        verb = "already had it" if outcome.known else "accepted it"
        shown = "\n".join(answer_lines(burst.envelope.offsets_ms, outcome.receipt))
        return f"{verb}: burst {burst.envelope.burst_id}\n\n{shown}"
    if isinstance(outcome, Refused):
        return f"refused it: {outcome.problem}"
    if isinstance(outcome, Unauthorised):
        advice = how_to_match_the_token if outcome.is_of_another else how_to_get_a_token
        return f"does not accept this camera's token: {outcome.problem}\n{advice(settings, camera)}"
    cause = outcome.cause if isinstance(outcome, RetryLater) else "the burst is gone"
    return f"did not accept it: {cause}"


def _write_json(path: Path, document: msgspec.Struct) -> None:
    path.write_bytes(msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n")
