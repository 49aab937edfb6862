"""The cluster in the place of an engine: what waits there, and a thread that looks after its applications."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Protocol

from server.domain.errors import SectorwatchError
from server.engine import Load
from server.ray_serving.remote_ensemble import RemoteEnsemble
from server.ray_serving.tally import Tally

log = logging.getLogger(__name__)

_EVERY_S = 1.0
_AGAIN_S = 3.0


class Tended(Protocol):
    """A cluster that wants to be looked after."""

    def tend(self) -> None:
        """Ask the replicas for their reports, deploy again what is gone, delete what nobody uses."""
        ...

    def leave(self) -> None:
        """Give up the connection; the applications stay."""
        ...


class RemoteEngine:
    """Answers by the replicas of a cluster. Constructing starts nothing."""

    def __init__(self, first: RemoteEnsemble, cluster: Tended, tally: Tally) -> None:
        self.first = first
        self._cluster = cluster
        self._tally = tally
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def handle(self, ensemble: RemoteEnsemble, /) -> RemoteEnsemble:
        """The ensemble itself: its replicas have queues of their own."""
        return ensemble

    def start(self, on_stuck: Callable[[], None]) -> None:
        """Look after the cluster from now on. `on_stuck` is never called: a restart of the server helps no cluster."""
        self._thread = threading.Thread(target=self._tend, name="sectorwatch-ray", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread and the connection. The applications stay, for other servers and for the next start."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()
        self._cluster.leave()

    def load(self) -> Load:
        return self._tally.load()

    def refuse_if_full(self, client: str = "") -> None:
        """Raises RetryLater when a request of one image of `client` would be refused now."""
        self._tally.refuse_if_full(client)

    def _tend(self) -> None:
        last = ""
        while not self._stopping.wait(_AGAIN_S if last else _EVERY_S):
            try:
                self._cluster.tend()
            except Exception as error:  # noqa: BLE001  the next time may find it mended
                why = error.detail if isinstance(error, SectorwatchError) else f"{type(error).__name__}: {error}"
                if why != last:
                    log.warning("the Ray cluster is not looked after", extra={"cause": why})
                last = why
            else:
                if last:
                    log.info("the Ray cluster is looked after again")
                last = ""
