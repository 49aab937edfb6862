"""The batcher in small scenes, each played by hand."""

from __future__ import annotations

import pytest

from server.domain.errors import RetryLater, TooLarge
from server.engine.batcher import Load
from tests.server.engine.line import EchoStages, Line, Setup


def sizes(line: Line) -> list[int]:
    """How many images each of the free workers takes, one after the other."""
    taken = []
    while (batch := line.take()) is not None:
        taken.append(len(batch.items))
    return taken


@pytest.mark.parametrize(
    ("images", "taken"),
    [(1, [1]), (2, [1, 1]), (3, [2, 1]), (8, [4, 4]), (10, [5, 5]), (9, [5, 4]), (12, [5, 3]), (64, [5, 5])],
)
def test_a_burst_is_shared_out_equally_over_two_idle_workers(images: int, taken: list[int]) -> None:
    line = Line(Setup(workers=2, batch_images=5))
    line.submit(images, 60)
    assert sizes(line) == taken


def test_single_images_that_wait_are_merged() -> None:
    line = Line(Setup(workers=2, batch_images=5))
    for _ in range(8):
        line.submit(1, 60)
    assert sizes(line) == [4, 4]


@pytest.mark.parametrize(("after_s", "taken"), [(0.0, 3), (2.0, 5), (3.7, 4), (4.0, 4), (60.0, 4)])
def test_what_another_worker_has_in_hand_counts_with_what_is_left_of_it(after_s: float, taken: int) -> None:
    line = Line(Setup(workers=2, batch_images=5))
    line.submit(10, 600)
    assert sizes(line) == [5, 5]
    line.clock.now_s += 5
    line.done()
    line.done()
    line.submit(8, 600)
    other = line.take()
    assert other is not None
    assert len(other.items) == 4
    line.submit(4, 600)
    line.clock.now_s += after_s
    assert sizes(line) == [taken]


def test_a_portion_ends_one_request_and_begins_the_next() -> None:
    line = Line(Setup(workers=1, batch_images=4))
    first, second = line.submit(3, 60), line.submit(3, 60)
    assert first is not None
    assert second is not None
    batch = line.take()
    assert batch is not None
    assert [item.job for item in batch.items] == [first.job] * 3 + [second.job]
    line.done()
    line.finish()
    assert second.job.answer.result(0) == second.expected


def test_the_conclusion_of_a_burst_is_shared_out_and_precedes_younger_requests() -> None:
    line = Line(Setup(workers=2, batch_images=4, needs_postprocessing=True))
    burst = line.submit(8, 60)
    assert sizes(line) == [4, 4]
    line.submit(2, 60)
    line.done()
    line.done()
    first, second = line.take(), line.take()
    assert first is not None
    assert second is not None
    assert first.postprocessing
    assert second.postprocessing
    assert [item.place for item in (*first.items, *second.items)] == list(range(8))
    line.finish()
    assert burst is not None
    assert burst.job.answer.result(0) == burst.expected


def test_retry_after_is_what_waits_over_the_recent_pace_rounded_up() -> None:
    line = Line(Setup(workers=2, batch_images=2, max_queued_images=10))
    line.submit(4, 60)
    line.take()
    line.take()
    line.clock.now_s += 4  # two workers, two images each in 4 s: one image a second
    line.done()
    line.done()
    line.submit(10, 60)
    with pytest.raises(RetryLater) as refused:
        line.batcher.submit(["one more"], 60, EchoStages())
    assert refused.value.retry_after_s == 10
    assert line.batcher.load() == Load(queued_images=10, running_images=0, images_per_s=1.0, busy_s=0.0)


def test_a_request_that_could_not_be_answered_in_time_is_refused_at_once() -> None:
    line = Line(Setup(workers=1, batch_images=1))
    line.submit(1, 60)
    line.take()
    line.clock.now_s += 2
    line.done()
    line.submit(4, 60)
    with pytest.raises(RetryLater, match="an answer would take 8 s"):
        line.batcher.submit(["late"], 7, EchoStages())
    line.batcher.submit(["in time"], 9, EchoStages())


def test_more_images_than_may_ever_wait_are_too_large() -> None:
    line = Line(Setup(max_queued_images=4))
    with pytest.raises(TooLarge):
        line.batcher.submit(range(5), 60, EchoStages())


def test_room_taken_by_clients_that_have_gone_is_free_again() -> None:
    line = Line(Setup(max_queued_images=4))
    line.submit(4, 60)
    assert line.submit(1, 60) is None
    line.cancel(0)
    assert line.submit(4, 60) is not None


def test_no_images_are_answered_at_once() -> None:
    line = Line(Setup())
    assert line.batcher.submit([], 60, EchoStages()).answer.result(0) == []


def test_a_poisoned_image_costs_its_neighbours_a_second_call_and_nothing_else() -> None:
    line = Line(Setup(workers=1, batch_images=4))
    fine, poisoned, other = line.submit(1, 60), line.submit(1, 60, [(0, "poison")]), line.submit(2, 60)
    line.finish()
    assert fine is not None
    assert poisoned is not None
    assert other is not None
    assert fine.job.answer.result(0) == ["A0/0"]
    assert other.job.answer.result(0) == ["A2/0", "A2/1"]
    assert isinstance(poisoned.job.answer.exception(0), RuntimeError)
    assert line.in_service.asked_about.count(poisoned.images[0]) == 3


def test_when_the_engine_gives_up_everybody_who_waits_is_told() -> None:
    line = Line(Setup(workers=1, batch_images=1))
    requests = [line.submit(2, 60), line.submit(1, 60)]
    line.take()
    line.batcher.abandon(RetryLater("silent"))
    for request in requests:
        assert request is not None
        assert isinstance(request.job.answer.exception(0), RetryLater)
    line.done()
    assert line.take() is None


def test_a_request_whose_time_is_up_is_told_so_and_not_begun() -> None:
    line = Line(Setup(workers=1, batch_images=2))
    request = line.submit(3, 5)
    line.take()
    line.clock.now_s += 5
    line.done()
    assert line.take() is None
    assert request is not None
    assert isinstance(request.job.answer.exception(0), RetryLater)


def test_after_a_swap_who_waits_is_answered_by_the_ensemble_of_when_it_came_and_no_portion_holds_both() -> None:
    line = Line(Setup(workers=1, batch_images=8))
    old = line.submit(3, 60)
    line.swap()
    new = line.submit(3, 60)
    assert sizes(line) == [3]
    line.done()
    assert sizes(line) == [3]
    line.finish()
    assert old is not None
    assert new is not None
    assert old.job.answer.result(0) == ["A0/0", "A0/1", "A0/2"]
    assert new.job.answer.result(0) == ["B1/0", "B1/1", "B1/2"]


def test_a_burst_that_was_half_asked_about_at_a_swap_is_finished_and_concluded_by_the_old_ensemble() -> None:
    line = Line(Setup(workers=1, batch_images=2, needs_postprocessing=True))
    burst = line.submit(4, 60)
    assert sizes(line) == [2]
    line.swap()
    line.done()
    line.finish()
    assert burst is not None
    assert burst.job.answer.result(0) == burst.expected
    assert {said[0] for said in burst.expected} == {"A"}


def test_spare_work_is_taken_one_image_at_a_time_by_workers_that_would_be_idle() -> None:
    line = Line(Setup(workers=2, batch_images=4))
    spare = line.shadow(4)
    assert sizes(line) == [1, 1]
    line.submit(6, 60)
    line.done()
    assert sizes(line) == [3]
    line.done()
    assert sizes(line) == [3]
    line.finish()
    assert spare.job.answer.result(0) == ["B-1/0", "B-1/1", "B-1/2", "B-1/3"]


def test_spare_work_is_in_no_count_and_in_nobodys_way() -> None:
    line = Line(Setup(workers=1, batch_images=4, max_queued_images=4))
    line.shadow(4)
    line.take()
    assert line.batcher.load() == Load(queued_images=0, running_images=0, images_per_s=None, busy_s=0.0)
    assert line.submit(4, 60) is not None


def test_spare_work_that_is_waiting_when_the_line_closes_is_left_undone() -> None:
    line = Line(Setup(workers=1))
    spare = line.shadow(2)
    line.batcher.close()
    assert isinstance(spare.job.answer.exception(0), RetryLater)
    assert line.take() is None
    with pytest.raises(RetryLater, match="stopping"):
        line.shadow(1)
