"""A server that is killed under load, and a PostgreSQL that is restarted under it, cost no burst and change no event.

Two real servers, and a PostgreSQL that writes to its disk before it answers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from tests.server import databases
from tests.server.databases import Cluster
from tests.server.launched import Running
from tests.server.loss.load import Load, Servers, an_hour_ago, is_all_sent, logs
from tests.server.loss.server import Line
from tests.server.test_replicas import wait_until

CAMERAS, BURSTS = 4, 25
BEFORE = 24
"""Bursts that are accepted before the loss, of a hundred."""


def assert_in_order(lines: Sequence[Line]) -> None:
    """Nothing is left out. What was sent and not yet saved as sent may come again, with all that followed it."""
    newest = lines[0].seq - 1
    before = newest
    for line in lines:
        assert line.seq == before + 1 or line.seq <= newest, f"{before}, then {line.seq}"
        before, newest = line.seq, max(newest, line.seq)


def assert_unharmed(
    folder: Path, url: str, servers: Servers, load: Load, undisturbed: Callable[[Load], dict[str, object]]
) -> None:
    wait_until(lambda: is_all_sent(url), "all is sent")
    found = logs(url)
    assert found == undisturbed(load)
    assert len(found) == CAMERAS
    assert_in_order(servers.lines)
    announced = {line.event for line in servers.lines} - {""}
    assert announced == {event.id for camera in found.values() for event, _late, _withdrawn in camera}
    printed = "".join(servers.output)
    assert "Traceback" not in printed, printed[printed.index("Traceback") :][:10_000]


@pytest.fixture
def undisturbed(tmp_path: Path, running: list[Running], postgresql: str) -> Callable[[Load], dict[str, object]]:
    """Sends what a load sent to one server of its own; the log of that."""

    def send(load: Load) -> dict[str, object]:
        databases.renew(postgresql, is_migrated=True)
        alone = Servers(tmp_path / "alone", postgresql, ["alone"], running)
        again = Load(alone.addresses, load.cameras[0].since_at, CAMERAS, BURSTS)
        again.start()
        again.join()
        assert again.failed == []
        return dict(logs(postgresql))

    return send


@pytest.fixture
def loaded(tmp_path: Path, running: list[Running], durable: tuple[Cluster, str]) -> Iterator[tuple[Servers, Load]]:
    """Two servers under load, some of which they have answered."""
    servers = Servers(tmp_path, durable[1], ["one", "two"], running)
    load = Load(servers.addresses, an_hour_ago(), CAMERAS, BURSTS)
    load.start()
    load.wait_for(BEFORE)
    try:
        yield servers, load
    finally:
        load.done.set()
        load.join()


def test_one_of_two_servers_is_killed(
    tmp_path: Path,
    durable: tuple[Cluster, str],
    loaded: tuple[Servers, Load],
    undisturbed: Callable[[Load], dict[str, object]],
) -> None:
    servers, load = loaded
    servers.processes["one"].end()
    load.join()
    assert 0 in {failure.status for failure in load.failed}
    assert_unharmed(tmp_path, durable[1], servers, load, undisturbed)


@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_postgresql_is_stopped_and_starts_again(
    mode: str,
    tmp_path: Path,
    durable: tuple[Cluster, str],
    loaded: tuple[Servers, Load],
    undisturbed: Callable[[Load], dict[str, object]],
) -> None:
    servers, load = loaded
    cluster, url = durable
    cluster.stop(mode)
    load.wait_for_failures(CAMERAS)
    cluster.start()
    load.join()
    assert {failure.status for failure in load.failed} == {503}
    assert_unharmed(tmp_path, url, servers, load, undisturbed)
