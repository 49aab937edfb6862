"""Ray clusters of this machine alone, without dashboard and small, and servers that use them."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from flask import Flask

from server.app import create_app, runtime_of
from server.app.runtime import Runtime
from server.serving.loading import Load
from server.settings import ServerSettings
from tests.server import new_sqlite
from tests.server.web_client import NOW_US, SITE
from tests.stand_ins import RecordingChannel

QUICK = {
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "2000",
    "RAY_health_check_failure_threshold": "3",
    "RAY_SERVE_REPLICA_AUTOSCALING_METRIC_PUSH_INTERVAL_S": "1",
}
"""Ray takes a node for dead after 3 s instead of 15, as deploy/README.md sets it, and hears of queues every second
instead of ten.
"""

QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled"}
PATIENCE_S = 180.0
"""A head on a busy machine takes half a minute to start."""

_STORE_BYTES = 80_000_000
_AGENTS = ("dashboard-agent-grpc-port", "dashboard-agent-listen-port", "metrics-export-port", "runtime-env-agent-port")
"""Ports that Ray otherwise chooses, and waits for in vain on a busy machine."""

_LOADED_S = 240.0


@contextmanager
def cluster(*nodes: float, gpus: float = 0) -> Iterator[Any]:
    """A cluster whose nodes have so many processors, the first one its head, at its `address`.

    The head has `gpus` by its own account: Ray counts them, whether there are any or not.
    """
    os.environ |= QUIET | QUICK
    try:
        from ray.cluster_utils import Cluster
    except ModuleNotFoundError as error:
        pytest.fail(f"{error.name} is not installed: pip install 'sectorwatch[ray]'")
    of_node = {"include_dashboard": False, "object_store_memory": _STORE_BYTES}
    made = Cluster(initialize_head=True, head_node_args=of_node | {"num_cpus": nodes[0], "num_gpus": gpus})
    try:
        for processors in nodes[1:]:
            made.add_node(num_cpus=processors, object_store_memory=_STORE_BYTES)
        yield made
    finally:
        made.shutdown()


class Head:
    """The head of a cluster, in processes of its own. It can be killed and started again at its `address`."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))
        port, *of_agents = _free_ports(1 + len(_AGENTS))
        self.address = f"127.0.0.1:{port}"
        self._environment = os.environ | QUIET | QUICK
        options = {
            "port": port,
            "node-ip-address": "127.0.0.1",
            "num-cpus": 2,
            "object-store-memory": _STORE_BYTES,
            "include-dashboard": "false",
            "temp-dir": self._folder,
        } | dict(zip(_AGENTS, of_agents, strict=True))
        self._command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block"]
        self._command += [f"--{name}={value}" for name, value in options.items()]
        self._killed = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """As a service manager does: a head that ends, as it may on a busy machine, is started again."""
        self._killed.clear()
        self._thread = threading.Thread(target=self._keep)
        self._thread.start()

    def kill(self) -> None:
        """SIGKILL for the head and everything on it."""
        if self._thread is None:
            return
        self._killed.set()
        while self._thread.is_alive():
            self._kill_processes()
            self._thread.join(0.1)
        self._thread = None

    def remove(self) -> None:
        self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _keep(self) -> None:
        while not self._killed.is_set():
            subprocess.run(
                self._command,
                env=self._environment,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                check=False,
            )
            self._kill_processes()

    def _kill_processes(self) -> None:
        """Those that name the folder, which is the head's alone, and their children."""
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if any(str(self._folder) in part for part in process.cmdline()):
                    for each in (*process.children(recursive=True), process):
                        each.kill()


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        free = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [int(each.getsockname()[1]) for each in free]


@contextmanager
def served_by(folder: Path, loading: Load, **settings: Any) -> Iterator[tuple[Flask, RecordingChannel, Runtime]]:
    """A server in `folder` that was started, and is loading; `loading` makes its ensemble of the models `a` and `b`."""
    (folder / "sites").mkdir(parents=True)
    (folder / "sites" / "north-yard.toml").write_text(SITE, encoding="utf-8")
    if "database_url" not in settings:
        new_sqlite.provide(folder / "sectorwatch.sqlite")
    given: dict[str, Any] = {"models": ("a", "b"), "inference_threads": 1, "golden_every_s": 0.0} | settings
    channel = RecordingChannel()
    app = create_app(
        ServerSettings(data_dir=folder, keep_frames="none", **given),
        channels=[channel],
        clock=lambda: NOW_US,
        loading=loading,
    )
    runtime = runtime_of(app)
    try:
        runtime.start(on_failure=lambda error: pytest.fail(str(error)))
        yield app, channel, runtime
    finally:
        runtime.stop()


def readiness(app: Flask) -> str:
    """What `/readyz` says is wrong; empty: the server is ready."""
    answer = app.test_client().get("/readyz")
    return "" if answer.status_code == 200 else str(answer.get_json()["detail"])


def wait_until(is_so: Callable[[], object], what: str) -> None:
    until_s = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < until_s, f"not yet: {what}"
        threading.Event().wait(0.1)


def loaded(runtime: Runtime) -> None:
    """Start a server, and wait until it has loaded its ensemble: on a cluster, new processes do."""
    failed: list[Exception] = []
    runtime.start(on_failure=failed.append)
    for thread in list(runtime._threads):
        if thread.name == "sectorwatch-loading":
            thread.join(_LOADED_S)
            assert not thread.is_alive(), "the ensemble is still loading"
    assert not failed, failed
