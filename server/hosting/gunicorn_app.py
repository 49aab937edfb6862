"""Gunicorn as the host of the application: its settings, each with its reason, and the life of a worker.

`sectorwatch serve` calls `host`. `deploy/gunicorn.conf.py` gives the same settings to a `gunicorn` that is started by
hand; add `-k gthread` behind a proxy that buffers requests. The master imports neither torch nor the models. Everything
heavy starts in `post_worker_init`, after the fork: a process that has computed with torch cannot be forked, because the
child waits for ever for OpenMP threads it did not inherit (benoitc/gunicorn#2478).
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

from flask import Flask
from gunicorn.app.base import BaseApplication
from gunicorn.glogging import Logger

from server.app import create_app, runtime_of
from server.domain.errors import ConfigurationError, RetryLater, SectorwatchError
from server.hosting.gunicorn_worker import Worker
from server.hosting.orphan import Lifeline
from server.hosting.self_signed import Pair
from server.monitoring.logs import logging_config
from server.serving.machine import share_heaps, torch_environment
from server.settings import ServerSettings, processors
from server.web.admission import PATIENT

log = logging.getLogger(__name__)

AppFactory = Callable[[ServerSettings], Flask]

EXIT_CONFIG = 78
"""`EX_CONFIG` of sysexits.h: a restart does not help until somebody changes the configuration."""

_BOOT_ERROR = 3
"""Gunicorn's own: a worker that exits with it stops the master instead of being restarted."""

_LATER_ERROR = 4
"""The same, for a fault that another start may find mended."""

_EXIT_CODES = {_BOOT_ERROR: EXIT_CONFIG, _LATER_ERROR: 1}

_TMPFS = Path("/dev/shm")  # noqa: S108  a heartbeat without content, not a temporary file
_SPARE_CONNECTIONS = 384
"""Those of 256 cameras between their bursts, and 128 that have not brought a request (`gunicorn_worker`)."""
_ANSWERS_WITHIN_S = 2.0
_GIVES_UP_WITHIN_S = 0.5


def gunicorn_options(settings: ServerSettings) -> dict[str, Any]:
    """Gunicorn's settings for a server with `settings`."""
    threads = settings.threads + (1 + PATIENT) * settings.admission_limit
    return {
        "bind": [f"[{settings.host}]:{settings.port}" if ":" in settings.host else f"{settings.host}:{settings.port}"],
        # One worker: each would hold its own copy of the models. Threads wait for the ensemble and the database.
        "workers": 1,
        # Gunicorn's gthread with deadlines for slow clients and a lingering close for refused ones.
        "worker_class": "server.hosting.gunicorn_worker.Worker",
        # More threads than uploads in work, received, and waiting to be, so that the application refuses the rest and
        # answers probes. Beyond its threads, gthread queues requests unseen.
        "threads": threads,
        "worker_connections": threads + _SPARE_CONNECTIONS,
        "keepalive": 15,
        # See the module's docstring.
        "preload_app": False,
        # A client could name another path in a header than the one that a proxy on this machine has checked.
        "forwarder_headers": "",
        # With gthread this watches the accepting thread only; it never ends a long request.
        "timeout": 60,
        # SIGTERM: no new connection; the worker finishes admitted uploads and exits.
        "graceful_timeout": settings.graceful_timeout_s,
        # A restart reloads the models, which with one worker is an outage.
        "max_requests": 0,
        # The heartbeat file must not sit on a slow disk.
        "worker_tmp_dir": str(_TMPFS) if _TMPFS.is_dir() and os.access(_TMPFS, os.W_OK) else None,
        # Unused, and it would be a file in the home folder.
        "control_socket_disable": True,
        "raw_env": [f"{name}={value}" for name, value in torch_environment().items()],
        "logconfig_dict": logging_config(settings.log_style, settings.log_level, access=settings.access_log),
        "accesslog": "-" if settings.access_log else None,
        "logger_class": Logger if settings.access_log else _NoAccessLog,
        "access_log_format": "request method=%(m)s path=%(U)s status=%(s)s bytes=%(B)s ms=%(M)s client=%(h)s",
        "on_starting": _on_starting,
        "when_ready": _when_ready,
        "post_fork": _post_fork,
        "post_worker_init": _post_worker_init,
        "worker_exit": _worker_exit,
    }


def host(settings: ServerSettings, listener: socket.socket, make_app: AppFactory = create_app) -> None:
    """Serve on `listener` until SIGTERM or SIGINT, then exit.

    The exit code is EXIT_CONFIG if the ensemble cannot be loaded, and 1 if a port is taken. `make_app` is called in the
    worker, after the fork.
    """
    master = os.getpid()
    try:
        _Gunicorn(settings, listener, make_app).run()
    except SystemExit as exit_:
        if os.getpid() != master or exit_.code not in _EXIT_CODES:
            raise
        raise SystemExit(_EXIT_CODES[exit_.code]) from None


class _Gunicorn(BaseApplication):  # type: ignore[misc]  # gunicorn is untyped
    """Gunicorn without its command line, which would put the working folder in front of `server` in `sys.path`."""

    def __init__(self, settings: ServerSettings, listener: socket.socket, make_app: AppFactory) -> None:
        self._settings = settings
        self._listener = listener
        self._make_app = make_app
        super().__init__()

    def load_config(self) -> None:
        for name, value in (gunicorn_options(self._settings) | {"bind": f"fd://{self._listener.fileno()}"}).items():
            self.cfg.set(name, value)

    def load(self) -> Flask:
        return self._make_app(self._settings)


class _NoAccessLog(Logger):  # type: ignore[misc]
    """Gunicorn's log without request lines, which it formats even when its level discards them."""

    def access(self, *_request: Any) -> None:
        pass


def _on_starting(server: Any) -> None:
    server.lifeline = Lifeline()


def _post_fork(server: Any, worker: Any) -> None:
    server.lifeline.watch(partial(_give_up_ports, worker))


def _give_up_ports(worker: Any) -> None:
    """For a worker without a master: let another server have the ports, and end after the last answer."""
    if not worker.booted:  # it has accepted nothing yet
        os._exit(os.EX_TEMPFAIL)
    runtime = runtime_of(worker.wsgi)
    runtime.drain()
    closed = threading.Event()
    worker.method_queue.defer(worker.stop_listening, closed)
    runtime.close_ports()
    if not closed.wait(_GIVES_UP_WITHIN_S):
        log.error("the accepting thread does not answer: this worker ends at once")
        logging.shutdown()
        os._exit(os.EX_SOFTWARE)


def _when_ready(_server: Any) -> None:
    """Ignore SIGHUP, from a closing terminal or a habitual `kill -HUP`.

    Gunicorn would start a second worker, for which neither `admin_port` nor memory is free; and SIGHUP reloads nothing.
    """
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


def _post_worker_init(worker: Any) -> None:
    for number in (signal.SIGHUP, signal.SIGINT):  # a terminal sends Ctrl-C to all, and the master signals anyway
        signal.signal(number, signal.SIG_IGN)
    share_heaps(processors())
    runtime = runtime_of(worker.wsgi)
    try:
        _secure(worker, runtime.settings)
    except ConfigurationError as error:
        _stop_server(error, "server not started")
    runtime.start(on_failure=_stop_server, on_stuck=_restart_worker)
    signal.signal(signal.SIGTERM, draining_first(runtime.drain, signal.getsignal(signal.SIGTERM)))


def _secure(worker: Any, settings: ServerSettings) -> None:
    """Start TLS. Raises ConfigurationError where it would have no deadlines, or be missing against the settings."""
    if not isinstance(worker, Worker):
        if settings.is_https:
            raise ConfigurationError(
                f"the server's own worker alone speaks HTTPS with {settings.tls_files[0]}: start Gunicorn without -k, "
                "or take that certificate away and let the proxy speak HTTPS"
            )
    elif worker.cfg.is_ssl:
        raise ConfigurationError(
            "Gunicorn's certfile and keyfile have no deadlines for slow clients: leave them out, and set the server's "
            "tls_cert and tls_key"
        )
    elif settings.is_https:
        worker.secure(Pair(*settings.tls_files))


def draining_first(drain: Callable[[], None], then: Any) -> Callable[[int, FrameType | None], None]:
    """A signal handler that makes the server unready, then runs the previous handler `then`."""

    def handle(number: int, frame: FrameType | None) -> None:
        drain()
        if callable(then):
            then(number, frame)

    return handle


def _restart_worker() -> None:
    """End this worker because its engine is stuck, which Gunicorn cannot see; Gunicorn starts another."""
    threading.Event().wait(_ANSWERS_WITHIN_S)  # meanwhile, waiting requests are answered with 503
    logging.shutdown()
    os._exit(os.EX_SOFTWARE)


def _worker_exit(_server: Any, worker: Any) -> None:
    app = getattr(worker, "wsgi", None)
    if app is not None:
        runtime_of(app).stop()


def _stop_server(error: Exception, what: str = "ensemble not loaded") -> None:
    """End this worker and the server with it: another worker would fail in the same way, for ever."""
    if isinstance(error, RetryLater):
        log.error("server not started", extra={"detail": error.detail})
    elif isinstance(error, SectorwatchError):
        log.error(what, extra={"detail": error.detail})
    else:
        log.error(what, exc_info=error)
    logging.shutdown()
    os._exit(_LATER_ERROR if isinstance(error, RetryLater) else _BOOT_ERROR)
