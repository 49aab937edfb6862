"""Two agents that send as one camera, as after copying an SD card: their frames must not count as one view.

Each start of an agent is a run, which heartbeats name. A run that ended sends no more. So a run that is heard both
before and after another run is alive beside it.
"""

from __future__ import annotations

import threading
from typing import NamedTuple

from policies.events import microseconds
from server.camera_status.heartbeat import Heartbeat
from server.domain.times.clock import SECOND_US

_ALIVE_HEARTBEATS = 3
"""A run that misses this many heartbeats may still be alive."""

_Camera = tuple[str, str]
_Run = tuple[str | None, int]


class _Runs(NamedTuple):
    """The runs of a camera that may be alive, each with the instant until which it may be (us).

    `since_us` is when two of them were first known to be alive; that is believed until `until_us`.
    """

    newest: _Run
    alive: dict[_Run, int]
    since_us: int | None
    until_us: int


class DuplicateAgents:
    """Finds them from heartbeats. Safe to use from several threads. Nothing is kept over a restart."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._runs: dict[_Camera, _Runs] = {}

    def heard(self, heartbeat: Heartbeat, now_us: int) -> bool:
        """Note a heartbeat; True for the first one that shows that its camera has two agents."""
        camera = (heartbeat.site, heartbeat.camera)
        run = (heartbeat.agent.boot_id, microseconds(heartbeat.agent.started_at))
        until_us = now_us + int(_ALIVE_HEARTBEATS * heartbeat.agent.every_s * SECOND_US)
        with self._lock:
            before = self._runs.get(camera, _Runs(run, {}, None, 0))
            alive = {known: alive_us for known, alive_us in before.alive.items() if alive_us > now_us}
            is_back = run != before.newest and run in alive
            known_since_us = before.since_us if now_us < before.until_us else None
            if heartbeat.state == "stopped":
                alive.pop(run, None)
            else:
                alive[run] = until_us
            is_first = is_back and known_since_us is None
            since_us = now_us if is_first else known_since_us
            self._runs[camera] = _Runs(run, alive, since_us, until_us if is_back else before.until_us)
            return is_first

    def known(self, now_us: int) -> dict[_Camera, int]:
        """The cameras that are known to have two agents, each since when (us)."""
        with self._lock:
            return {
                camera: runs.since_us
                for camera, runs in self._runs.items()
                if runs.since_us is not None and now_us < runs.until_us
            }
