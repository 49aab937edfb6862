"""A model that fails for every image is told in the log by its causes, and does not fill it."""

from __future__ import annotations

import pytest

from server.ensemble.faults import Faults


def told(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str, int, bool]]:
    """Model, error, times, and whether the traceback is there."""
    said = [(record.__dict__, bool(record.exc_info)) for record in caplog.records]
    return [(fields["model"], fields["error"], fields["times"], traced) for fields, traced in said]


def fail(faults: Faults, model: str, error: Exception) -> None:
    try:
        raise error
    except Exception as raised:  # noqa: BLE001
        faults.report(model, raised)


def test_a_cause_is_told_with_its_traceback_once_and_then_a_line_a_minute_with_how_many_there_were(
    caplog: pytest.LogCaptureFixture,
) -> None:
    now_s = [0.0]
    faults = Faults(lambda: now_s[0])
    for second in range(121):
        now_s[0] = float(second)
        fail(faults, "eye", RuntimeError(f"image {second}"))
    assert told(caplog) == [
        ("eye", "RuntimeError: image 0", 1, True),
        ("eye", "RuntimeError: image 60", 60, False),
        ("eye", "RuntimeError: image 120", 60, False),
    ]


def test_another_model_and_another_cause_are_told_at_once(caplog: pytest.LogCaptureFixture) -> None:
    faults = Faults(lambda: 0.0)
    fail(faults, "eye", RuntimeError("no memory"))
    fail(faults, "ear", RuntimeError("no memory"))
    fail(faults, "eye", ValueError("a score of nan"))
    fail(faults, "eye", ValueError("a score of nan"))
    assert [(model, error.partition(":")[0], traced) for model, error, _times, traced in told(caplog)] == [
        ("eye", "RuntimeError", True),
        ("ear", "RuntimeError", True),
        ("eye", "ValueError", True),
    ]


def test_an_error_of_many_words_is_told_in_a_few_lines(caplog: pytest.LogCaptureFixture) -> None:
    fail(Faults(), "eye", RuntimeError("tensor " * 10_000))
    [(_model, error, _times, _traced)] = told(caplog)
    assert len(error) <= 400
