"""Ray clusters of this machine alone, without dashboard and small."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from server.app.runtime import Runtime

QUICK = {
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "2000",
    "RAY_health_check_failure_threshold": "3",
}
"""When Ray takes a node for dead, as deploy/README.md sets it: after 3 s instead of 15."""

_STORE_BYTES = 80_000_000
_LOADED_S = 240.0


@contextmanager
def cluster(*nodes: float) -> Iterator[Any]:
    """A cluster whose nodes have so many processors, the first one its head, at its `address`."""
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled"} | QUICK
    try:
        from ray.cluster_utils import Cluster
    except ModuleNotFoundError as error:
        pytest.fail(f"{error.name} is not installed: pip install 'sectorwatch[ray]'")
    of_node = {"include_dashboard": False, "object_store_memory": _STORE_BYTES}
    made = Cluster(initialize_head=True, head_node_args=of_node | {"num_cpus": nodes[0]})
    try:
        for processors in nodes[1:]:
            made.add_node(num_cpus=processors, object_store_memory=_STORE_BYTES)
        yield made
    finally:
        made.shutdown()


def loaded(runtime: Runtime) -> None:
    """Start a server, and wait until it has loaded its ensemble: on a cluster, new processes do."""
    failed: list[Exception] = []
    runtime.start(on_failure=failed.append)
    for thread in list(runtime._threads):
        if thread.name == "sectorwatch-loading":
            thread.join(_LOADED_S)
            assert not thread.is_alive(), "the ensemble is still loading"
    assert not failed, failed
