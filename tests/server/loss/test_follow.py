"""`sectorwatch events --follow` beside two servers whose PostgreSQL is restarted."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path

from server.store import open_store
from tests.server.databases import Cluster
from tests.server.launched import Running
from tests.server.loss.load import Camera, Load, Servers, an_hour_ago
from tests.server.test_replicas import wait_until

BURSTS = 12


def shown(follower: Running) -> list[str]:
    """The ids of the events that it has shown so far, in order."""
    return [json.loads(line)["id"] for line in list(follower.output) if line.startswith("{")]


def announced(url: str) -> list[str]:
    with closing(open_store(url)) as store:
        return [logged.event.id for logged in store.events(after_seq=0)]


def test_it_shows_each_event_of_both_servers_once_and_in_order_across_a_restart_of_postgresql(
    tmp_path: Path, durable: tuple[Cluster, str], running: list[Running]
) -> None:
    cluster, url = durable
    servers, since_at = Servers(tmp_path, url, ["one", "two"], running), an_hour_ago()
    first = Camera(9, servers.addresses, since_at, lambda: None)
    for burst in range(BURSTS):
        first.send(burst)
    before = announced(url)
    assert before
    options = ["--follow", "--json", "--since", since_at.isoformat(), "--database", url]
    follower = Running(["server", "events", *options])
    running.append(follower)
    wait_until(lambda: len(shown(follower)) == len(before), "it shows the past, and follows")
    load = Load(servers.addresses, since_at, cameras=3, bursts=BURSTS)
    load.start()
    try:
        load.wait_for(BURSTS)
        cluster.stop("fast")
        follower.line("waiting$")
        cluster.start()
    finally:
        load.join()
    wait_until(lambda: len(shown(follower)) >= len(announced(url)), "it shows everything")
    assert shown(follower) == announced(url)
