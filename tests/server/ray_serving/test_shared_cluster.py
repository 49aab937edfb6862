"""Two servers on one PostgreSQL and one Ray cluster share the replicas of their ensemble."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from server.app.runtime import Runtime
from server.ray_serving import cluster as of_server
from server.serving.swap import Swap
from tests.server import databases
from tests.server.ray_serving.clusters import cluster, readiness, served_by, wait_until
from tests.server.ray_serving.shelves import FolderShelf
from tests.server.web_client import files, jpeg


def replicas(runtime: Runtime) -> list[str]:
    """Where those are that answer this server."""
    return [report.replica for report in runtime.service.current().handle.replicas.reports()]  # type: ignore[attr-defined]


def applications(runtime: Runtime) -> set[str]:
    """The digests of the ensembles on the cluster."""
    found = runtime.service.engine._cluster._applications()  # type: ignore[union-attr]
    return {name.removeprefix("ens-") for name in found}


def answers(app: Flask) -> str:
    """The ensemble of an answer."""
    answer = app.test_client().post("/batch", data={"file": files([jpeg(1)])})
    assert answer.status_code == 200, answer.get_data(as_text=True)
    return answer.headers["X-Ensemble"]


def test_swap_rollback_and_stop_of_one_server_leave_the_other_its_replicas(
    postgresql: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    databases.renew(postgresql, is_migrated=True)
    for name in ("_OURS_UNUSED_S", "_UNUSED_S", "_SWEEP_S"):
        monkeypatch.setattr(of_server, name, 2.0)
    shelf = FolderShelf(tmp_path)
    first, second = shelf.digest("a", "b"), shelf.digest("c")
    settings: dict[str, Any] = {"ensemble": "ray", "ray_cpus": 0.1, "database_url": postgresql}
    with cluster(2) as nodes:
        settings["ray_address"] = nodes.address
        with served_by(tmp_path / "two", shelf.load, instance="two", **settings) as (app, _, two):
            with served_by(tmp_path / "one", shelf.load, instance="one", **settings) as (other_app, _, one):
                wait_until(lambda: not readiness(app) and not readiness(other_app), "both are ready")
                shared = replicas(one)
                assert (replicas(two), len(shared), applications(one)) == (shared, 1, {first})
                assert one.service.swap(Swap(("c",))).ensemble == second
                wait_until(lambda: answers(app) == answers(other_app) == second, "both serve the other one")
                assert replicas(one) == replicas(two)
                one.service.rollback()
                wait_until(lambda: answers(app) == answers(other_app) == first, "both are back")
                assert replicas(one) == replicas(two) == shared, "nothing was deployed again"
            two.service.swap(Swap(("d",)))
            wait_until(lambda: applications(two) == {first, shelf.digest("d")}, "what nobody uses goes")
            two.service.rollback()
            assert (answers(app), replicas(two)) == (first, shared), "the other server deployed it, and is gone"
