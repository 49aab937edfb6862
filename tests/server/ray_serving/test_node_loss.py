"""A node of a cluster of three dies under load. Takes most of a minute: a cluster starts, and a replica again."""

from __future__ import annotations

from pathlib import Path

from tests.benchmarks.serving.ray_node_loss import BACK_WITHIN_S, lose_a_node


def test_a_node_that_dies_costs_no_burst_changes_no_event_and_is_replaced_soon(tmp_path: Path) -> None:
    outcome = lose_a_node(tmp_path, cameras=8)
    assert outcome.logs_are_equal
    assert outcome.events > 0
    assert outcome.back_s < BACK_WITHIN_S, outcome
