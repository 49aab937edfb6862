"""Clients share the workers: none waits because another sends much, or large pictures."""

from __future__ import annotations

import pytest

from server.domain.errors import RetryLater, TooMuchWork
from server.engine.job import Batch, Item, Job
from tests.server.engine.line import EchoStages, Line, Request, Setup


def clients_of(batch: Batch | None) -> str:
    return "".join(item.job.client for item in batch.items) if batch else ""


def worked_off(line: Line, seconds: dict[str, float] | None = None) -> str:
    """The clients of all images that wait, in the order in which one worker gets them; an image takes so long."""
    order = ""
    while batch := line.take():
        order += clients_of(batch)
        line.clock.now_s += sum((seconds or {}).get(item.job.client, 1.0) for item in batch.items)
        line.done()
    return order


def test_clients_take_turns_image_by_image_whoever_came_first() -> None:
    line = Line(Setup(workers=1, batch_images=1, max_queued_images=64))
    line.submit(8, 600, client="g")
    line.submit(8, 600, client="g")
    line.submit(2, 600, client="a")
    line.submit(3, 600, client="b")
    assert worked_off(line) == "gabgabgb" + 13 * "g"


def test_a_batch_holds_images_of_every_client_that_waits() -> None:
    line = Line(Setup(workers=1, batch_images=6, max_queued_images=64))
    line.submit(20, 600, client="g")
    line.submit(2, 600, client="a")
    line.submit(2, 600, client="b")
    assert clients_of(line.take()) == "gabgab"


def test_a_client_that_comes_while_another_is_served_waits_for_one_image_of_it() -> None:
    line = Line(Setup(workers=1, batch_images=1, max_queued_images=64))
    line.submit(30, 600, client="g")
    for _ in range(10):
        line.take()
        line.clock.now_s += 1
        line.done()
    line.submit(3, 600, client="a")
    assert worked_off(line).startswith("agagag")


def test_a_client_that_was_away_does_not_get_the_time_that_it_did_not_use() -> None:
    line = Line(Setup(workers=1, batch_images=1, max_queued_images=64))
    line.submit(1, 600, client="a")
    worked_off(line)
    line.submit(20, 600, client="g")
    for _ in range(10):
        line.take()
        line.clock.now_s += 1
        line.done()
    line.submit(5, 600, client="a")
    assert worked_off(line) == "agagagagag" + 5 * "g"


def test_a_client_whose_pictures_take_four_times_as_long_gets_a_quarter_as_many() -> None:
    line = Line(Setup(workers=1, batch_images=1, max_queued_images=64))
    line.submit(8, 600, client="g")
    line.submit(8, 600, client="a")
    order = worked_off(line, {"g": 4.0})
    assert order[:10].count("g") == 2
    assert order[:10].count("a") == 8


def test_what_a_picture_takes_to_decode_is_charged_to_its_own_client() -> None:
    one, other = (Job((None,), EchoStages(), 0.0, 0.0) for _ in range(2))
    two = Batch((Item(one, 0), Item(other, 0)), False, 0.0, 0.0, [3.0, 0.5])
    assert two.took_s(4.5) == [3.5, 1.0]


def test_a_frame_with_enlarged_sectors_is_charged_as_the_images_that_it_counts_as() -> None:
    plain, enlarged = Job((None,), EchoStages(), 0.0, 0.0), Job((None,), EchoStages(), 0.0, 0.0, images_each=3)
    assert Batch((Item(plain, 0), Item(enlarged, 0)), False, 0.0).took_s(4.0) == [1.0, 3.0]


def test_a_client_whose_frames_count_as_three_images_gets_a_third_as_many() -> None:
    line = Line(Setup(workers=1, batch_images=1, max_queued_images=64))
    line.submit(8, 600, client="g", images_each=3)
    line.submit(12, 600, client="a")
    order = worked_off(line, {"g": 3.0})
    assert order[:12].count("g") == 3


def test_a_batch_is_full_by_the_images_that_its_frames_count_as() -> None:
    line = Line(Setup(workers=1, batch_images=6, max_queued_images=64))
    line.submit(5, 600, client="g", images_each=3)
    assert line.batcher.load().queued_images == 15
    assert clients_of(line.take()) == "gg"
    assert (line.batcher.load().queued_images, line.batcher.load().running_images) == (9, 6)


def test_frames_that_may_wait_find_room_however_many_sectors_are_enlarged() -> None:
    line = Line(Setup(workers=1, batch_images=1, max_queued_images=16))
    assert line.submit(16, 600, client="g", images_each=4) is not None
    assert line.submit(1, 600, client="g") is None
    worked_off(line)
    assert line.submit(1, 600, client="g") is not None


def test_a_burst_with_many_enlarged_sectors_leaves_other_clients_their_room() -> None:
    line = Line(Setup(workers=1, batch_images=4, max_queued_images=16))
    line.submit(6, 600, client="g", images_each=17)
    line.take()
    assert line.submit(8, 600, client="a") is not None
    with pytest.raises(RetryLater, match=r"^13 frames are waiting already"):
        line.batcher.submit((None,) * 4, 600, line.in_service, client="g", images_each=17)


def test_the_room_that_a_greedy_client_gives_is_counted_in_frames() -> None:
    line = Line(Setup(workers=1, batch_images=1, max_queued_images=8))
    plain = line.submit(6, 600, client="a")
    enlarged = line.submit(2, 600, client="g", images_each=17)
    assert line.submit(1, 600, client="b") is not None
    assert (failed(plain), failed(enlarged)) == (True, False)


def test_a_burst_whose_enlarged_sectors_take_too_long_is_refused_for_good_and_told_so() -> None:
    line = Line(Setup(workers=1, batch_images=1, max_queued_images=64))
    line.submit(3, 600)
    worked_off(line)
    assert line.submit(4, 5) is not None
    with pytest.raises(TooMuchWork, match=r"4 frames, which count as 2 images each .* enlarge fewer sectors"):
        line.batcher.submit((None,) * 4, 5, line.in_service, images_each=2)


def test_in_a_full_queue_the_newest_request_of_the_greediest_client_makes_room() -> None:
    line = Line(Setup(workers=1, batch_images=1, max_queued_images=12))
    first, second, third = (line.submit(4, 600, client="g") for _ in range(3))
    honest = line.submit(3, 600, client="a")
    assert honest is not None
    assert [failed(each) for each in (first, second, third)] == [False, False, True]
    assert line.batcher.load().queued_images == 11
    worked_off(line)
    assert honest.job.answer.result(0) == honest.expected


def test_nobody_gives_way_to_a_request_that_finds_no_room_all_the_same() -> None:
    line = Line(Setup(workers=1, batch_images=1, max_queued_images=16))
    waiting = [line.submit(2, 600, client=client) for client in "aabbccdd"]
    assert line.submit(8, 600, client="e") is None
    assert not any(failed(each) for each in waiting)
    assert line.batcher.load().queued_images == 16


def test_a_full_queue_has_no_room_for_more_of_the_client_that_filled_it() -> None:
    line = Line(Setup(workers=1, batch_images=1, max_queued_images=12))
    line.submit(8, 600, client="g")
    line.submit(4, 600, client="a")
    assert line.submit(1, 600, client="g") is None
    with pytest.raises(RetryLater):
        line.batcher.refuse_if_full("g", 600)
    line.batcher.refuse_if_full("b", 600)
    assert line.batcher.load().queued_images == 12


def test_what_others_have_queued_counts_up_to_ones_own_part() -> None:
    line = Line(Setup(workers=1, batch_images=1, max_queued_images=64))
    line.submit(1, 600, client="g")
    line.take()
    line.clock.now_s += 1
    line.done()
    line.submit(40, 600, client="g")
    assert line.submit(3, 5, client="a") is not None
    assert line.submit(1, 5, client="g") is None


def failed(request: Request | None) -> bool:
    assert request is not None
    return request.job.answer.done() and isinstance(request.job.answer.exception(), RetryLater)


def measured(seconds: float, batches: int = 3) -> Line:
    """A line of one worker that has taken so long for each of some images."""
    line = Line(Setup(workers=1, batch_images=1, max_queued_images=64))
    line.submit(batches, 600)
    for _ in range(batches):
        line.take()
        line.clock.now_s += seconds
        line.done()
    return line


def test_what_cannot_be_judged_in_time_with_nothing_else_to_do_is_refused_for_ever_with_the_reason() -> None:
    line = measured(2.0)
    with pytest.raises(TooMuchWork, match=r"6 frames take 12 s here.*an answer may take 10 s \(`answer_within_s`\)"):
        line.batcher.submit(range(6), 10, EchoStages())
    line.batcher.submit(range(5), 10, EchoStages())


def test_one_slow_batch_of_each_worker_is_no_reason_to_refuse_anything_for_ever() -> None:
    line = measured(60.0, batches=1)
    assert line.submit(6, 10) is not None


def test_a_machine_that_was_slow_once_is_not_slow_for_ever() -> None:
    line = measured(60.0)
    assert line.submit(6, 10) is None
    line.clock.now_s += 601
    assert line.submit(6, 10) is not None


def test_a_request_whose_own_pictures_take_too_long_is_refused_for_ever_at_its_deadline() -> None:
    line = Line(Setup(workers=1, batch_images=1, max_queued_images=64))
    request = line.submit(9, 10)
    for _ in range(4):
        line.take()
        line.clock.now_s += 3
        line.done()
    line.take()
    assert request is not None
    assert isinstance(request.job.answer.exception(0), TooMuchWork)


def test_a_request_that_had_to_wait_for_others_may_come_again() -> None:
    line = Line(Setup(workers=1, batch_images=1, max_queued_images=64))
    request = line.submit(4, 10, client="a")
    for client in ("b", "c"):
        line.submit(4, 600, client=client)
    for _ in range(6):
        line.take()
        line.clock.now_s += 2
        line.done()
    line.take()
    assert request is not None
    error = request.job.answer.exception(0)
    assert isinstance(error, RetryLater)
    assert error.begun
