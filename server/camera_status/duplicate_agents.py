"""Two agents under one camera's name, as from a copied SD card: their frames would be taken for one view's.

Heartbeats tell runs of an agent apart. One that ended is not heard again; so where one is heard before and after
another one, both are alive.
"""

from __future__ import annotations

import threading
from typing import NamedTuple

from policies.events import microseconds
from server.camera_status.heartbeat import Heartbeat
from server.domain.clock import SECOND_US

_BEATS = 3
"""So many heartbeats long a run that fell silent may yet be alive."""

_Camera = tuple[str, str]
_Run = tuple[str | None, int]


class _Heard(NamedTuple):
    newest: _Run
    runs: dict[_Run, int]
    """Those that may be alive, and until when (us)."""
    since_us: int | None
    until_us: int
    """Two were found alive then, and that is believed until then."""


class DuplicateAgents:
    """What the heartbeats say of it; safe to use from several threads. Nothing is kept over a restart."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._heard: dict[_Camera, _Heard] = {}

    def heard(self, heartbeat: Heartbeat, now_us: int) -> bool:
        """Note a heartbeat; True where it is the first to show that its camera has two agents."""
        camera, run = (
            (heartbeat.site, heartbeat.camera),
            (heartbeat.agent.boot_id, microseconds(heartbeat.agent.started_at)),
        )
        until_us = now_us + int(_BEATS * heartbeat.agent.every_s * SECOND_US)
        with self._lock:
            was = self._heard.get(camera, _Heard(run, {}, None, 0))
            runs = {one: alive_us for one, alive_us in was.runs.items() if alive_us > now_us}
            is_back = run != was.newest and run in runs
            known_us = was.since_us if now_us < was.until_us else None
            if heartbeat.state == "stopped":
                runs.pop(run, None)
            else:
                runs[run] = until_us
            since_us = now_us if is_back and known_us is None else known_us
            self._heard[camera] = _Heard(run, runs, since_us, until_us if is_back else was.until_us)
            return is_back and known_us is None

    def since_us(self, site: str, camera: str, now_us: int) -> int | None:
        """Since when a camera is known to have two agents; None when it is not."""
        with self._lock:
            heard = self._heard.get((site, camera))
        return None if heard is None or now_us >= heard.until_us else heard.since_us
