"""The upkeep goes on after the server that does it is killed: two real servers on one PostgreSQL."""

from __future__ import annotations

import json
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from server.domain.burst import Limits, decode_burst
from server.domain.times.clock import now_us
from server.pipeline.pipeline import Pipeline
from server.pipeline.site_policies import Sites
from server.store import Store, open_store
from tests.server import databases
from tests.server.launched import Running
from tests.server.loss.load import Servers, walker
from tests.server.test_replicas import wait_until
from tests.server.web_client import BrightnessEnsemble, envelope

NAMES = {"one", "two"}
BELIEVED_S = 4.0
HOUR_US = 3_600_000_000


@pytest.fixture
def database(postgresql: str) -> str:
    databases.renew(postgresql, is_migrated=True)
    return postgresql


def keeper_of(store: Store) -> str:
    keeper = store.fleet.standing().with_upkeep()
    return "" if keeper is None else keeper.name


def hold_a_burst(url: str, sites: Path) -> None:
    """Store a burst as a server does whose clock is an hour behind: ahead of that, and due by the servers' clocks."""
    at = (datetime.now(UTC) - timedelta(minutes=10)).isoformat().replace("+00:00", "Z")
    frames = [walker(step) for step in range(4)]
    burst = decode_burst(json.dumps(envelope(frames, captured_at=at)).encode(), frames, Limits())
    with closing(open_store(url, lambda: now_us() - HOUR_US)) as store:
        Pipeline(BrightnessEnsemble(), store, Sites(sites), lambda: now_us() - HOUR_US).process(burst)


def test_the_other_server_admits_a_held_burst_when_the_one_that_does_the_upkeep_is_killed(
    tmp_path: Path, database: str, running: list[Running]
) -> None:
    servers = Servers(tmp_path, database, sorted(NAMES), running, believed_s=BELIEVED_S)
    with closing(open_store(database)) as store:
        wait_until(lambda: keeper_of(store) != "", "one does the upkeep")
        killed = keeper_of(store)
        servers.processes[killed].end()
        hold_a_burst(database, tmp_path / "one" / "sites")
        [other] = NAMES - {killed}
        wait_until(lambda: keeper_of(store) == other, "the other does the upkeep")
        wait_until(lambda: store.marked() == [], "the burst is admitted")
        assert [head.camera for head in store.cameras()] == ["gate"]
    assert any("does the upkeep" in line for line in servers.processes[other].output)
