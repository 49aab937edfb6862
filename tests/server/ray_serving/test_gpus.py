"""A GPU that replicas share. Ray counts GPUs by what it is told, so this needs none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from server.domain.errors import ConfigurationError
from server.ray_serving.replica import Replica
from tests.server.ray_serving.clusters import cluster, readiness, served_by, wait_until
from tests.server.ray_serving.shelves import FolderShelf


def test_four_quarters_share_a_gpu_a_fifth_waits_and_the_server_says_so(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"ensemble": "ray", "ray_gpus": 0.25, "ray_cpus": 0.1, "ray_min_replicas": 5}
    with cluster(1, gpus=1) as nodes:
        settings["ray_address"] = nodes.address
        with served_by(tmp_path / "server", FolderShelf(tmp_path).load, **settings) as (app, _channel, runtime):
            wait_until(lambda: "4 of 5 replicas" in readiness(app), "four replicas run")
            assert app.test_client().post("/batch").status_code == 503
            nodes.add_node(num_cpus=1, num_gpus=1)
            wait_until(lambda: not readiness(app), "the fifth runs too")
            assert len(runtime.service.current().handle.replicas.reports()) == 5  # type: ignore[attr-defined]


def test_the_models_of_a_replica_with_a_gpu_go_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigurationError, match='device = "cuda" needs a CUDA card'):
        Replica({"device": "cuda"}, ("frame-change",), "")
