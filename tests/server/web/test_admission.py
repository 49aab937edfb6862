"""What is in work at once is bounded before a body is read."""

from __future__ import annotations

import pytest

from server.domain.errors import RetryLater
from server.web.admission import Admission


def test_beyond_the_limit_an_upload_is_told_when_there_will_be_room() -> None:
    admission = Admission(1, body_bytes=10, total_bytes=100, retry_after_s=lambda: 7)
    with admission.admitted("a", 1), pytest.raises(RetryLater) as refused, admission.admitted("a", 1):
        pass
    assert refused.value.retry_after_s == 7
    with admission.admitted("a", 1):
        assert admission.in_work == 1
    assert admission.in_work == 0


def test_a_full_server_refuses_before_it_looks_at_the_token() -> None:
    admission = Admission(1, body_bytes=10, total_bytes=100)
    admission.check_capacity()
    with admission.admitted("a", 1), pytest.raises(RetryLater, match="1 uploads are in work already"):
        admission.check_capacity()


def test_the_bytes_of_all_uploads_together_are_bounded() -> None:
    admission = Admission(9, body_bytes=60, total_bytes=100)
    with (
        admission.admitted("a", 60),
        admission.admitted("b", 40),
        pytest.raises(RetryLater),
        admission.admitted("a", 1),
    ):
        pass
    with admission.admitted("a", 60), admission.admitted("b", 40):
        assert admission.in_work == 2


def test_a_body_of_unknown_length_counts_as_the_largest() -> None:
    admission = Admission(9, body_bytes=60, total_bytes=100)
    with admission.admitted("a"), pytest.raises(RetryLater), admission.admitted("b", 41):
        pass


def test_the_largest_body_there_may_be_is_taken_in_when_nothing_else_is() -> None:
    with Admission(9, body_bytes=60, total_bytes=10).admitted("a", 60):
        pass


def test_nothing_is_taken_in_where_the_engine_has_no_room() -> None:
    def full() -> None:
        raise RetryLater("full", retry_after_s=3)

    admission = Admission(9, body_bytes=60, total_bytes=100, refuse_if_full=full)
    with pytest.raises(RetryLater, match="full"), admission.admitted("a", 1):
        pass
    assert admission.in_work == 0


def test_once_closed_it_refuses_while_those_inside_finish() -> None:
    admission = Admission(9, body_bytes=60, total_bytes=100)
    with admission.admitted("a", 1):
        admission.close()
        with pytest.raises(RetryLater, match="stopping"), admission.admitted("a", 1):
            pass
        assert admission.in_work == 1
    assert admission.closed
