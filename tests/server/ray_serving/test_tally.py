"""Admission counts what waits in all replicas, and what this server has sent since their last reports."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from server.domain.errors import RetryLater
from server.engine import Load
from server.ray_serving.scaling import ByQueuedImages
from server.ray_serving.tally import Tally
from server.ray_serving.wire import Report


class Seconds:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def reports(*loads: Load) -> Sequence[Report]:
    return [Report(f"node:{number}", load, "", []) for number, load in enumerate(loads)]


def test_the_replicas_count_as_one_engine() -> None:
    tally = Tally(max_queued_images=8, within_s=50)
    tally.note("ens-1", reports(Load(3, 2, 10.0, 0.5), Load(5, 1, 20.0, 0.7)))
    assert tally.load() == Load(8, 3, 30.0, 0.7)


def test_what_was_sent_counts_before_a_replica_reports_it() -> None:
    tally = Tally(max_queued_images=8, within_s=50)
    with tally.sending("ens-1", "north", 6):
        assert tally.load().queued_images == 6
        tally.note("ens-1", reports(Load(2, 4, 10.0, 0.1)))
        assert tally.load() == Load(2, 4, 10.0, 0.1)
    tally.note("ens-1", reports(Load(0, 0, 10.0, 0.0)))
    assert tally.load().queued_images == 0


def test_room_grows_with_the_replicas_of_the_ensemble_that_answers() -> None:
    tally = Tally(max_queued_images=8, within_s=50)
    tally.note("ens-before", reports(*[Load(0, 0, None, 0.0)] * 9))
    tally.note("ens-1", reports(Load(0, 0, None, 0.0)))
    with tally.sending("ens-1", "north", 8):
        with pytest.raises(RetryLater, match="8 frames are waiting already"):
            tally.refuse_if_full("north")
        tally.note("ens-1", reports(*[Load(0, 0, None, 0.0)] * 2))
        tally.refuse_if_full("north")


def test_a_client_with_fewer_images_waiting_is_let_in() -> None:
    tally = Tally(max_queued_images=8, within_s=50)
    with tally.sending("ens-1", "north", 8):
        tally.refuse_if_full("south")


def test_a_wait_beyond_the_time_limit_is_refused_with_its_length() -> None:
    tally = Tally(max_queued_images=100, within_s=5)
    tally.note("ens-1", reports(Load(30, 0, 2.0, 0.0), Load(30, 0, 2.0, 0.0)))
    with pytest.raises(RetryLater, match="an answer would take 15 s") as refused:
        tally.refuse_if_full("north")
    assert refused.value.retry_after_s == 15


def test_a_report_counts_for_ten_seconds() -> None:
    seconds = Seconds()
    tally = Tally(max_queued_images=8, within_s=50, clock=seconds)
    tally.note("ens-1", reports(Load(5, 0, 1.0, 0.0)))
    seconds.now += 10.1
    assert tally.load() == Load(0, 0, None, 0.0)


class Context:
    """What Ray's autoscaler says, as far as the rule reads it."""

    capacity_adjusted_min_replicas = 1
    capacity_adjusted_max_replicas = 4

    def __init__(self, *queued: float) -> None:
        self.aggregated_metrics = {"queued_images": dict(enumerate(queued))} if queued else None


@pytest.mark.parametrize(
    ("queued", "replicas"), [((), 1), ((0.0, 0.0), 1), ((32.0,), 1), ((20.0, 13.0), 2), ((500.0,), 4)]
)
def test_there_is_a_replica_for_so_many_waiting_frames(queued: tuple[float, ...], replicas: int) -> None:
    assert ByQueuedImages(each=32)(Context(*queued)) == (replicas, {})
