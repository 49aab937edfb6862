"""What a server does on a cluster that it shares: it deletes nothing that another one uses."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from policies.observation import EnsembleInfo, ModelInfo
from server.domain.errors import ConfigurationError, RetryLater
from server.ray_serving import cluster as of_server
from server.ray_serving import wire
from server.ray_serving.cluster import Cluster
from server.ray_serving.messages import Deployment, Seen
from server.settings import ServerSettings

INFO = EnsembleInfo("d" * 64, (ModelInfo("a", frozenset({"person"}), boxes=True),))
NAME = "ens-" + "d" * 64


class ScriptedLink:
    """A cluster whose applications are `seen`. One is `deployed_as`. `called` are the methods."""

    is_open = True

    def __init__(self) -> None:
        self.seen: dict[str, Seen] = {}
        self.deployed_as = Seen("DEPLOYING", "no room for it", 1, 2)
        self.called: list[str] = []
        self.deployed: list[Deployment] = []

    def call(self, method: str, *given: Any, within_s: float) -> Any:
        if method == "applications":
            return msgspec.to_builtins(self.seen)
        self.called.append(method)
        if method == "deploy":
            self.deployed.append(msgspec.msgpack.decode(given[0], type=Deployment))
            self.seen[NAME] = self.deployed_as
        return wire.encode(wire.Inspected("n:1", INFO, None)) if method == "inspect" else None


@pytest.fixture
def link(monkeypatch: pytest.MonkeyPatch) -> ScriptedLink:
    made = ScriptedLink()
    monkeypatch.setattr(of_server, "Link", lambda: made)
    monkeypatch.setattr(of_server, "_READY_S", 0.0)
    return made


def cluster(**settings: Any) -> Cluster:
    return Cluster(ServerSettings(ensemble="ray", **settings), took=lambda _model, _seconds: None)


def test_an_application_of_another_server_that_is_unwell_stays(link: ScriptedLink) -> None:
    link.seen[NAME] = Seen("UNHEALTHY", "a node died", 0, 1)
    with pytest.raises(RetryLater, match=f"0 of 1 replicas of {NAME} run on the Ray cluster: a node died"):
        cluster().load(["a"])
    assert link.called == ["inspect"]


def test_the_first_ensemble_waits_for_room_where_it_is(link: ScriptedLink) -> None:
    with pytest.raises(RetryLater, match=f"1 of 2 replicas of {NAME} run .* no room for it"):
        cluster(ray_min_replicas=2).load(["a"])
    assert link.called == ["inspect", "deploy"]


def test_what_cannot_run_is_deleted_by_who_deployed_it(link: ScriptedLink) -> None:
    link.deployed_as = Seen("DEPLOY_FAILED", "MemoryError", 0, 1)
    with pytest.raises(ConfigurationError, match="MemoryError"):
        cluster().load(["a"])
    assert link.called == ["inspect", "deploy", "delete"]


def test_a_replica_is_deployed_with_what_the_settings_say(link: ScriptedLink) -> None:
    with pytest.raises(RetryLater):
        cluster(ray_gpus=0.25, ray_cpus=2.0, ray_min_replicas=1, ray_max_replicas=4, ray_queued_images=16).load(["a"])
    [asked] = link.deployed
    assert (asked.gpus, asked.cpus, asked.least, asked.most, asked.queued_images) == (0.25, 2.0, 1, 4, 16)
    assert asked.terms["inference_threads"] == 2
