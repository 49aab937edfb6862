"""An uplink with a spool, a stand-in server and a manual clock."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from camera_agent.config.settings import ServerSettings
from camera_agent.network.backoff import Backoff
from camera_agent.spool.spool import Spool
from camera_agent.status import Status, StatusCounters
from camera_agent.uplink.http_client import HttpClient
from camera_agent.uplink.uplink import Uplink
from camera_agent.wall_clock import WallClock
from tests.camera_agent.conftest import HandClock
from tests.camera_agent.spool.test_spool import spool_in
from tests.camera_agent.stand_in import StandIn


def client_of(url: str, clock: HandClock) -> HttpClient:
    return HttpClient(ServerSettings(url=url, connect_timeout_s=5.0, read_timeout_s=5.0), WallClock(clock))


class Bench:
    """A spool, an uplink that is stepped, and a stand-in server."""

    def __init__(self, folder: Path, server: StandIn, clock: HandClock) -> None:
        self.clock = clock
        server.unix_s = clock.unix_s
        self.spool: Spool = spool_in(folder)
        self.tally = StatusCounters(Status())
        self.stop = threading.Event()
        self.client = client_of(server.url, clock)
        self.tokens: dict[str, Callable[[], str | None]] = {}
        self.uplink = Uplink(
            self.spool,
            self.client,
            self.tokens,
            self.tally,
            clock,
            self.stop,
            retry=Backoff(first_s=1.0, max_s=60.0, uniform=lambda low, high: high),
            token_retry=lambda: Backoff(first_s=30.0, max_s=600.0, uniform=lambda low, high: high),
            camera_retry=lambda: Backoff(first_s=1.0, max_s=60.0, uniform=lambda low, high: high),
        )

    def send(self) -> float:
        return self.uplink.send_next()


@pytest.fixture
def bench(tmp_path: Path, server: StandIn, clock: HandClock) -> Bench:
    return Bench(tmp_path, server, clock)
