"""What holds for every line of requests, whatever comes, goes, fails, and in whichever order workers come back."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from hypothesis import given, settings

from tests.server.engine.line import History, Line, Request, Setup, played, scripts, setups

Script = Sequence[tuple[Any, ...]]


def of_any_line(property_: Callable[[Setup, Script], None]) -> Callable[[], None]:
    return settings(max_examples=150, deadline=None)(given(setups, scripts)(property_))


def answered(history: History) -> list[Request]:
    return [r for r in history.requests if not r.job.answer.cancelled() and r.job.answer.exception() is None]


@of_any_line
def test_every_admitted_request_ends_once_in_an_answer_an_error_or_a_cancellation(setup: Setup, script: Script) -> None:
    history = played(setup, script)
    assert all(request.job.answer.done() for request in history.requests)


@of_any_line
def test_clients_that_go_away_never_stop_the_work_for_those_who_stay(setup: Setup, script: Script) -> None:
    line = Line(setup)
    for move in script:
        line.move(*move)
    for which in range(len(line.history.requests)):
        line.cancel(which)
    line.finish()
    stayed = line.submit(3, 1000.0)
    line.finish()
    assert stayed is not None
    assert stayed.job.answer.result(0) == stayed.expected


@of_any_line
def test_each_answer_is_that_of_the_request_alone_in_its_own_order(setup: Setup, script: Script) -> None:
    for request in answered(played(setup, script)):
        assert request.job.answer.result(0) == request.expected


@of_any_line
def test_every_slice_of_a_request_is_answered_by_the_ensemble_in_service_when_it_came(
    setup: Setup, script: Script
) -> None:
    for request in answered(played(setup, script)):
        assert {said[0] for said in request.job.answer.result(0)} == {request.stages.name}


@of_any_line
def test_no_portion_holds_images_for_two_ensembles(setup: Setup, script: Script) -> None:
    for begun in played(setup, script).begun:
        assert all(item.job.stages is begun.batch.stages for item in begun.batch.items)


@of_any_line
def test_spare_work_is_begun_only_where_nothing_waits_one_image_at_a_time_and_ends_as_if_alone(
    setup: Setup, script: Script
) -> None:
    history = played(setup, script)
    for begun in history.begun:
        assert not begun.batch.spare or (len(begun.batch.items) == 1 and not begun.waiting)
    for request in history.spare:
        assert request.job.answer.result(0) == request.expected


@of_any_line
def test_the_images_that_are_counted_as_waiting_are_those_that_wait(setup: Setup, script: Script) -> None:
    line = Line(setup)
    queue = line.batcher._inference
    for move in script:
        line.move(*move)
        waiting = Counter[str]()
        for job in queue:
            waiting[job.client] += job.left
        assert {name: queue.images_of(name) for name in waiting} == waiting
        assert queue.images() == waiting.total()


@of_any_line
def test_no_portion_and_no_queue_is_longer_than_its_bound(setup: Setup, script: Script) -> None:
    history = played(setup, script)
    assert all(len(begun.images) <= setup.batch_images for begun in history.begun)
    assert history.most_queued <= setup.max_queued_images
    assert history.most_at_once <= setup.workers


@of_any_line
def test_images_of_a_client_are_begun_in_the_order_in_which_they_were_admitted(setup: Setup, script: Script) -> None:
    history = played(setup, script)
    clients = {number: request.job.client for number, request in enumerate(history.requests)}
    begun = [image for each in history.begun if not each.batch.spare for image in each.images]
    for client in ("", "a", "b"):
        of_client = [image for image in begun if clients[image.request] == client]
        assert of_client == sorted(of_client)


@of_any_line
def test_no_image_is_begun_twice(setup: Setup, script: Script) -> None:
    begun = [image for batch in played(setup, script).begun for image in batch.images]
    assert len(begun) == len(set(begun))


@of_any_line
def test_no_worker_is_idle_beside_waiting_images(setup: Setup, script: Script) -> None:
    assert not played(setup, script).gaps


@of_any_line
def test_an_expired_image_is_never_begun(setup: Setup, script: Script) -> None:
    history = played(setup, script)
    for begun in history.begun:
        for item in begun.batch.items:
            assert begun.at < item.job.deadline_at


@of_any_line
def test_a_request_fails_only_by_its_own_image_or_its_own_deadline(setup: Setup, script: Script) -> None:
    history = played(setup, script)
    for request in history.requests:
        failed = not request.job.answer.cancelled() and request.job.answer.exception() is not None
        if failed and not request.faulty:
            assert re.search(
                "not judged in time|with nothing else to do|other clients need", str(request.job.answer.exception())
            )


@of_any_line
def test_a_request_with_a_faulty_image_is_never_answered(setup: Setup, script: Script) -> None:
    for request in answered(played(setup, script)):
        assert not request.faulty


@of_any_line
def test_who_is_refused_for_want_of_room_is_told_a_time_that_fits_the_pace(setup: Setup, script: Script) -> None:
    for images, load in played(setup, script).refused:
        full = load.queued_images + images > setup.max_queued_images
        assert full or load.wait_s > 0
        assert load.retry_after_s >= max(1.0, load.wait_s)


@of_any_line
def test_after_closing_nothing_is_admitted_and_what_was_admitted_is_finished(setup: Setup, script: Script) -> None:
    line = Line(setup)
    for move in script:
        line.move(*move)
    line.batcher.close()
    assert line.submit(1, 1000.0) is None
    line.finish()
    assert all(request.job.answer.done() for request in line.history.requests)
    assert line.batcher.take() is None
