"""The command `camera-agent`: run, once, validate, doctor, coverage.

Exit codes: 0 done, 1 not done (the message says why), 2 wrong arguments, 78 a configuration that cannot be used
(`EX_CONFIG` of `sysexits.h`; systemd's unit does not restart on it).
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import threading
from pathlib import Path
from types import FrameType

from camera_agent.cli.low_memory import stay_small

stay_small()  # before anything below loads a numeric library

from camera_agent import __version__  # noqa: E402
from camera_agent.config.load import load_settings  # noqa: E402
from camera_agent.config.settings import CameraSettings, InvalidSettings, Settings  # noqa: E402
from camera_agent.imaging.failure import CameraFailure  # noqa: E402
from camera_agent.logs import line, start_logging  # noqa: E402

_EX_CONFIG = 78
_log = logging.getLogger("camera_agent")


def command(arguments: list[str] | None = None) -> int:
    """Run one command; return the exit code."""
    options = _parser().parse_args(arguments)
    start_logging(verbose=options.verbose)
    try:
        settings = load_settings(options.file)
        if options.command == "validate":
            return _validate(options.file, settings)
        commands = {"run": _run, "once": _once, "doctor": _doctor, "coverage": _coverage}
        return commands[options.command](settings, options)
    except InvalidSettings as error:
        sys.stderr.write(f"{error}\n")
        return _EX_CONFIG


def main() -> None:
    """`command` as a process. Does not wait for a camera that hangs in a driver: the spool is safe at any instant."""
    try:
        code = command()
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
    except BrokenPipeError:  # `camera-agent doctor agent.toml | head -1`
        os._exit(1)
    if threading.active_count() > 1:
        os._exit(code)
    sys.exit(code)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="camera-agent", description="Takes timed bursts of stills and sends them to the server."
    )
    parser.add_argument("--version", action="version", version=f"camera-agent {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    run = commands.add_parser("run", help="take and send bursts until stopped")
    run.add_argument("--from-start", action="store_true", help="play recordings again from their beginning")
    once = commands.add_parser("once", help="take one burst, keep it in a folder, show what the server says")
    once.add_argument("--camera", metavar="NAME", help="which camera (default: the first)")
    once.add_argument("--out", metavar="DIR", type=Path, help="folder for the frames (default: ./once-CAMERA)")
    validate = commands.add_parser("validate", help="check the file and say what it means")
    doctor = commands.add_parser("doctor", help="look at disk, server, clock and cameras, and say what to do")
    coverage = commands.add_parser("coverage", help="what each schedule sees, and what it sends a day")
    coverage.add_argument("--frame-kb", type=float, default=60.0, help="of one JPEG (default 60; `doctor` measures it)")
    coverage.add_argument("--active", type=float, default=0.05, help="part of the day with motion (default 0.05)")
    for command in (run, once, validate, doctor, coverage):
        command.add_argument("file", metavar="agent.toml", type=Path)
        command.add_argument("--verbose", action="store_true", help="log more")
    return parser


def _run(settings: Settings, options: argparse.Namespace) -> int:
    from camera_agent.agent import Agent
    from camera_agent.state import StateUnusable

    stop = _stop_on_signals()
    server = settings.server
    _log.info(
        line(
            "agent_started",
            version=__version__,
            site=settings.site,
            server=server.url,
            state=settings.state_folder,
        )
    )
    if server.url.startswith("http://") and _has_token(settings) and not _is_loopback(server.url):
        _log.warning(line("token_in_clear", server=server.url, advice="use https, or a network that you trust"))
    try:
        status = Agent(settings, stop).run(from_start=options.from_start)
    except StateUnusable as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 1 if status.state == "failed" else 0


def _once(settings: Settings, options: argparse.Namespace) -> int:
    from camera_agent.cli.once import run_once

    camera = settings.camera(options.camera)
    out = options.out or Path(f"once-{camera.name}")
    try:
        is_taken = run_once(settings, camera, out, _stop_on_signals(), sys.stdout)
    except CameraFailure as failure:
        sys.stderr.write(f"camera {camera.name} ({camera.source}): {failure}\n")
        return 1
    except OSError as error:
        sys.stderr.write(f"{error.filename} cannot be used: {error.strerror}: mind `state_dir` and `--out`\n")
        return 1
    return 0 if is_taken else 1


def _doctor(settings: Settings, options: argparse.Namespace) -> int:
    from camera_agent.cli.doctor import examine

    del options
    is_well = True
    for finding in examine(settings):
        is_well &= finding.is_well
        sys.stdout.write(f"{'ok  ' if finding.is_well else 'NOT '} {finding.subject}: {finding.told}\n")
    return 0 if is_well else 1


def _coverage(settings: Settings, options: argparse.Namespace) -> int:
    from camera_agent.cli.coverage import report

    for camera in settings.cameras:
        told = report(
            camera,
            frame_bytes=options.frame_kb * 1000,
            active=options.active,
            heartbeat_s=settings.server.heartbeat_s,
        )
        sys.stdout.write("\n".join(told) + "\n")
    return 0


def _validate(file: Path, settings: Settings) -> int:
    token = "with a token" if _has_token(settings) else "without a token"
    lines = [
        f"{file} is valid",
        f"  site {settings.site} -> {settings.server.url} ({token})",
        f"  state in {settings.state_folder}",
        f"  spool in {settings.spool_folder}, up to {settings.spool.max_bytes:,} bytes",
    ]
    lines += [f"  camera {camera.name}: {camera.source}; {_said(camera)}" for camera in settings.cameras]
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


def _said(camera: CameraSettings) -> str:
    """When a camera takes what."""
    bursts = f"{camera.burst.frames} frames {camera.spacing_s:g} s apart"
    off = f"; off outside {', '.join(camera.hours)}" if camera.hours else ""
    if camera.gate is not None:
        looks, quiet_s = camera.gate.looks_per_s, camera.gate.quiet_every_s
        return f"gate at {looks:g} looks a second, then {bursts}; quiet, one every {quiet_s:g} s{off}"
    blind_s = camera.every_s - camera.burst.frames * camera.spacing_s
    gap = f"blind for {blind_s:g} s between bursts" if blind_s > 1e-6 else "no blind time"
    return f"{bursts} every {camera.every_s:g} s, {gap}{off}"


def _stop_on_signals() -> threading.Event:
    stop = threading.Event()

    def ask(number: int, frame: FrameType | None) -> None:
        del number, frame
        stop.set()

    signal.signal(signal.SIGTERM, ask)
    signal.signal(signal.SIGINT, ask)
    return stop


def _has_token(settings: Settings) -> bool:
    from camera_agent.state import camera_tokens

    try:
        return any(read() for read in camera_tokens(settings).values())
    except OSError:  # there is one, which the uplink will not be able to read
        return True


def _is_loopback(url: str) -> bool:
    from urllib.parse import urlsplit

    host = urlsplit(url).hostname or ""
    return host in ("localhost", "::1") or host.startswith("127.")


if __name__ == "__main__":
    main()
