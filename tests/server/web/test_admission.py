"""What is received and what is in work at once is bounded, and shared out by client."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

from server.domain.errors import RetryLater
from server.domain.on_behalf import present_client
from server.web.admission import Admission, Upload

PATIENCE_S = 10.0


class HandClock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def admission_of(limit: int, *, body_bytes: int = 10, total_bytes: int = 10_000, **more: Any) -> Admission:
    return Admission(limit, body_bytes=body_bytes, total_bytes=total_bytes, **{"received_within_s": 0.0} | more)


def refused(admission: Admission, client: str, declared_bytes: int | None = 1) -> int:
    """When the client is to come back (s), refused before its body is read."""
    with pytest.raises(RetryLater) as error, admission.admitted(client, declared_bytes):
        pass
    return error.value.retry_after_s


@contextmanager
def held(admission: Admission, *clients: str, begun: bool = False) -> Iterator[list[Upload]]:
    with ExitStack() as stack:
        uploads = [stack.enter_context(admission.admitted(client, 1)) for client in clients]
        for upload in uploads if begun else ():
            upload.begin(1)
        yield uploads


def test_beyond_the_limit_an_upload_is_told_when_there_will_be_room() -> None:
    admission = admission_of(1, retry_after_s=lambda: 7)
    with held(admission, "a"):
        assert refused(admission, "b") == 7
    with held(admission, "a", begun=True):
        assert admission.in_work == 1
    assert (admission.in_work, admission.received) == (0, 0)


def test_the_bytes_of_all_uploads_together_are_bounded() -> None:
    admission = admission_of(9, body_bytes=60, total_bytes=100)
    with admission.admitted("a", 60), admission.admitted("b", 40):
        refused(admission, "c", 1)
    with admission.admitted("a", 60), admission.admitted("b", 40):
        assert admission.received == 2


def test_a_body_of_unknown_length_counts_as_the_largest() -> None:
    admission = admission_of(9, body_bytes=60, total_bytes=100)
    with admission.admitted("a"):
        refused(admission, "b", 41)


def test_the_largest_body_there_may_be_is_taken_in_when_nothing_else_is() -> None:
    with Admission(9, body_bytes=60, total_bytes=10).admitted("a", 60):
        pass


def test_a_client_that_sends_slowly_leaves_room_for_others_however_many_uploads_it_begins() -> None:
    admission = admission_of(32)
    with held(admission, *["slow"] * 16):
        refused(admission, "slow")
        with held(admission, *(f"honest {number}" for number in range(16))):
            refused(admission, "one more than there is room for")


def test_a_client_that_declares_huge_bodies_leaves_bytes_for_others() -> None:
    admission = admission_of(32, body_bytes=60, total_bytes=240)
    with admission.admitted("greedy", 60), admission.admitted("greedy", 60):
        refused(admission, "greedy", 60)
        with admission.admitted("a", 60), admission.admitted("b", 60):
            pass


def test_the_more_clients_there_are_the_smaller_is_the_share_of_each() -> None:
    clock = HandClock()
    admission = admission_of(12, clock=clock)
    with held(admission, *"abc"), held(admission, *"aa"):
        refused(admission, "a")
    clock.now_s += 61  # the others have not been heard of for a minute
    with held(admission, *"aaaaaa"):
        refused(admission, "a")


def test_an_upload_that_is_in_work_no_longer_counts_as_received() -> None:
    admission = admission_of(2)
    with held(admission, "a", begun=True), held(admission, "a"), held(admission, "b"):
        assert (admission.in_work, admission.received) == (1, 2)


class Waiting:
    """Uploads that wait for a place in threads of their own, in the order in which they were begun."""

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self._threads: list[threading.Thread] = []
        self._changed = threading.Condition()
        self._order: list[str] = []
        self._may_end = threading.Semaphore(0)

    def begin(self, client: str) -> None:
        """Begin an upload, and wait until it has its place or waits for one."""
        waited = self._admission.received
        thread = threading.Thread(target=self._upload, args=(client,), daemon=True)
        self._threads.append(thread)
        thread.start()
        self._until(lambda: self._admission.received > waited or client in self._order)

    def end_one(self) -> None:
        self._may_end.release()

    def begun(self, count: int) -> list[str]:
        """The clients that have got a place, once there are so many."""
        self._until(lambda: len(self._order) >= count)
        return list(self._order)

    def end(self) -> None:
        for _ in self._threads:
            self._may_end.release()
        for thread in self._threads:
            thread.join(PATIENCE_S)

    def _upload(self, client: str) -> None:
        with self._admission.admitted(client, 1) as upload:
            upload.begin(1)
            with self._changed:
                self._order.append(client)
                self._changed.notify_all()
            assert self._may_end.acquire(timeout=PATIENCE_S)

    def _until(self, is_so: Callable[[], bool]) -> None:
        with self._changed:
            for _ in range(200):
                if is_so():
                    return
                self._changed.wait(PATIENCE_S / 200)
        raise TimeoutError


def test_clients_that_wait_get_places_in_turn() -> None:
    admission = admission_of(32, place_within_s=PATIENCE_S)
    one_place = admission_of(1, place_within_s=PATIENCE_S)
    one_place._receiving = admission._receiving  # room to wait in
    waiting = Waiting(one_place)
    for client in ("g", "g", "g", "g", "a", "b", "a"):
        waiting.begin(client)
    order = waiting.begun(1)
    for count in range(2, 8):
        waiting.end_one()
        order = waiting.begun(count)
    waiting.end()
    assert order == ["g", "g", "a", "b", "g", "a", "g"]


def test_an_upload_that_gets_no_place_in_time_may_come_again_and_leaves_nothing_behind() -> None:
    admission = admission_of(1, place_within_s=0.01, retry_after_s=lambda: 3)
    with held(admission, "a", begun=True):
        for _ in range(3):
            with pytest.raises(RetryLater, match="no place became free"), held(admission, "b", begun=True):
                pass
    with held(admission, "b", begun=True):
        assert (admission.in_work, admission.received) == (1, 0)


def test_nothing_is_taken_in_where_the_engine_has_no_room_for_the_client() -> None:
    def full(client: str) -> None:
        if client == "greedy":
            raise RetryLater("full", retry_after_s=3)

    admission = admission_of(9, refuse_if_full=full)
    assert refused(admission, "greedy") == 3
    with held(admission, "honest"):
        assert admission.received == 1


def test_a_request_s_thread_works_on_behalf_of_its_client() -> None:
    with admission_of(9).admitted("gate", 1):
        assert present_client() == "gate"
    assert present_client() == ""


def test_once_closed_it_refuses_while_those_inside_finish() -> None:
    admission = admission_of(9)
    with held(admission, "a") as (upload,):
        admission.close()
        with pytest.raises(RetryLater, match="stopping"), admission.admitted("a", 1):
            pass
        upload.begin(1)
        assert admission.in_work == 1
    assert admission.closed
