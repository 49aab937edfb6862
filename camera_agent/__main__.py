"""The command `camera-agent`: run, once, validate, doctor, coverage.

Exit codes: 0 success, 1 failure (the message says why), 2 wrong arguments, 78 unusable settings (`EX_CONFIG` of
`sysexits.h`; the systemd unit does not restart on it).
"""

from __future__ import annotations

import argparse
import contextlib
import io
import logging
import os
import signal
import sys
import threading
from pathlib import Path
from types import FrameType, TracebackType
from typing import TextIO

from camera_agent.cli.low_memory import limit_memory

limit_memory()  # before any import that loads a numeric library

from camera_agent import __version__  # noqa: E402
from camera_agent.cli.validate import clear_token_advice, summary  # noqa: E402
from camera_agent.config.load import load_settings  # noqa: E402
from camera_agent.config.open_secrets import open_secrets  # noqa: E402
from camera_agent.config.settings import InvalidSettings, Settings  # noqa: E402
from camera_agent.imaging.frame import CameraFailure  # noqa: E402
from camera_agent.logs import start_logging  # noqa: E402

_EX_CONFIG = 78
_INTERRUPTED = 130
_log = logging.getLogger("camera_agent")


def command(arguments: list[str] | None = None) -> int:
    """Run one command; return the exit code."""
    options = make_parser().parse_args(arguments)
    start_logging(options.log, verbose=options.verbose)
    commands = {"run": _run, "once": _once, "validate": _validate, "doctor": _doctor, "coverage": _coverage}
    try:
        settings = load_settings(options.file)
        for camera in settings.cameras:
            if camera.advice is not None:
                _log.warning("address_unclear", extra={"camera": camera.name, "advice": camera.advice})
        return commands[options.command](settings, options)
    except InvalidSettings as error:
        sys.stderr.write(f"{error}\n")
        return _EX_CONFIG


def main() -> None:
    """`command` as a process. It does not wait for a camera that hangs in a driver; the spool is safe at any time."""
    _open_output()
    sys.excepthook, threading.excepthook = _log_crash, lambda crash: _log_crash(*crash[:3])
    try:
        code = _command_or_exit()
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
    except KeyboardInterrupt:
        os._exit(_INTERRUPTED)
    except OSError as error:
        if error.filename is not None:  # a file of the user's, which is no fault of the output
            raise
        if not isinstance(error, BrokenPipeError):  # `camera-agent doctor agent.toml | head -1` is no fault at all
            with contextlib.suppress(OSError):
                sys.stderr.write(f"camera-agent: the output cannot be written: {error.strerror}\n")
        os._exit(1)
    if threading.active_count() > 1:
        os._exit(code)
    sys.exit(code)


def _open_output() -> None:
    """What the terminal cannot show is escaped. Where an output is closed (`>&-`), writing to it is an error."""
    sys.stdout = sys.stdout or _closed_output()
    sys.stderr = sys.stderr or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, PTH123 - open to the end
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _closed_output() -> TextIO:
    """A file that can only be read: writing to it raises `OSError`, as to any closed output."""
    return io.TextIOWrapper(io.FileIO(os.open(os.devnull, os.O_RDONLY), "w"), encoding="utf-8")


def _command_or_exit() -> int:
    """`--help` and wrong arguments end in `SystemExit`, whose output is to be written like any other."""
    try:
        return command()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1


def _log_crash(kind: type[BaseException], error: BaseException | None, traceback: TracebackType | None) -> None:
    """Write an error that nothing caught to the log, which hides passwords; Python's own report does not."""
    if issubclass(kind, KeyboardInterrupt | SystemExit) or error is None:
        return
    _log.critical("crashed", exc_info=(kind, error, traceback))


def make_parser() -> argparse.ArgumentParser:
    """The parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="camera-agent", description="Takes timed bursts of stills and sends them to the server."
    )
    parser.add_argument("--version", action="version", version=f"camera-agent {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    run = commands.add_parser("run", help="take and send bursts until stopped")
    run.add_argument("--from-start", action="store_true", help="play recordings from their beginning again")
    once = commands.add_parser("once", help="take one burst, keep it in a folder, show the server's answer")
    once.add_argument("--camera", metavar="NAME", help="which camera (default: the first)")
    once.add_argument("--out", metavar="DIR", type=Path, help="folder for the frames (default: ./once-CAMERA)")
    validate = commands.add_parser("validate", help="check the settings and say what they mean")
    doctor = commands.add_parser("doctor", help="check disk, server, clock and cameras, and say what to do")
    coverage = commands.add_parser("coverage", help="what each schedule sees, and what it sends a day")
    coverage.add_argument("--frame-kb", type=float, default=60.0, help="size of a JPEG (default 60; see `doctor`)")
    coverage.add_argument("--active", type=float, default=0.05, help="part of the day with motion (default 0.05)")
    for command in (run, once, validate, doctor, coverage):
        command.add_argument("file", metavar="agent.toml", type=Path)
        command.add_argument("--verbose", action="store_true", help="log more")
        command.add_argument("--log", choices=("text", "json"), default="text", help="form of the log (default text)")
    return parser


def _run(settings: Settings, options: argparse.Namespace) -> int:
    from camera_agent.agent import Agent
    from camera_agent.state import StateUnusable

    stop = _stop_on_signals()
    _log.info(
        "agent_started",
        extra={
            "version": __version__,
            "site": settings.site,
            "server": settings.server.shown_url,
            "state": settings.state_folder,
        },
    )
    _warn_of_clear_token(settings)
    try:
        status = Agent(settings, stop).run(from_start=options.from_start)
    except StateUnusable as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 1 if status.state == "failed" else 0


def _once(settings: Settings, options: argparse.Namespace) -> int:
    from camera_agent.cli.once import run_once

    camera = settings.camera(options.camera)
    _warn_of_clear_token(settings)
    out = options.out or Path(f"once-{camera.name}")
    try:
        return 0 if run_once(settings, camera, out, _stop_on_signals(), sys.stdout) else 1
    except CameraFailure as failure:
        sys.stderr.write(f"camera {camera.name} ({camera.source}): {failure}\n")
    except OSError as error:
        if error.filename is None:  # the output is closed or full
            raise
        sys.stderr.write(f"{error.filename} cannot be used: {error.strerror}: check `state_dir` and `--out`\n")
    return 1


def _validate(settings: Settings, options: argparse.Namespace) -> int:
    for secret in open_secrets(options.file, settings):
        sys.stderr.write(f"warning: {secret}\n")
    sys.stdout.write("\n".join(summary(options.file, settings)) + "\n")
    return 0


def _doctor(settings: Settings, options: argparse.Namespace) -> int:
    from camera_agent.cli.doctor import examine

    is_well = True
    for finding in examine(settings, options.file):
        is_well &= finding.is_well
        sys.stdout.write(f"{'ok  ' if finding.is_well else 'NOT '} {finding.subject}: {finding.text}\n")
    return 0 if is_well else 1


def _coverage(settings: Settings, options: argparse.Namespace) -> int:
    from camera_agent.cli.coverage import report

    heartbeat_s = settings.server.heartbeat_s
    for camera in settings.cameras:
        lines = report(camera, frame_bytes=options.frame_kb * 1000, active=options.active, heartbeat_s=heartbeat_s)
        sys.stdout.write("\n".join(lines) + "\n")
    return 0


def _stop_on_signals() -> threading.Event:
    stop = threading.Event()

    def request_stop(number: int, frame: FrameType | None) -> None:
        stop.set()

    signal.signal(signal.SIGTERM, request_stop)
    signal.signal(signal.SIGINT, request_stop)
    return stop


def _warn_of_clear_token(settings: Settings) -> None:
    if advice := clear_token_advice(settings):
        _log.warning("token_in_clear", extra={"server": settings.server.shown_url, "advice": advice})


if __name__ == "__main__":
    main()
