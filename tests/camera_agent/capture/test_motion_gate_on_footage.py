"""The gate on footage of people: at most a fifth of the bytes, and every event."""

from __future__ import annotations

from pathlib import Path

import pytest

from server.ensemble import load_ensemble
from tests.benchmarks.agent.gate import Judge, Scene, lost, played, scene, sent_bytes


@pytest.fixture(scope="module")
def passage(vtest: str) -> Scene:
    """400 s, with people in the last 20."""
    return scene(Path(vtest), passages=1)


def test_at_five_per_cent_activity_the_gate_sends_less_than_a_fifth_of_the_bytes(passage: Scene) -> None:
    assert passage.activity == pytest.approx(0.05)
    assert sent_bytes(played(passage, is_gated=True)) <= sent_bytes(played(passage, is_gated=False)) / 5


def test_the_gate_loses_no_event_of_the_schedule(passage: Scene) -> None:
    judge = Judge(load_ensemble(["yolov3-tiny"]))
    even = judge.events(passage, played(passage, is_gated=False))
    assert len(even) > 10
    assert not lost(even, judge.events(passage, played(passage, is_gated=True)))
