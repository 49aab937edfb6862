"""What goes between a server and a replica comes back as it was: answers, and errors of the same kind."""

from __future__ import annotations

import pytest

from policies.observation import EnsembleInfo, ModelInfo, Prediction
from server.domain.errors import RetryLater, SectorwatchError, TooLarge, TooMuchWork, Unprocessable
from server.engine import Load
from server.ray_serving import wire


def test_a_request_comes_as_it_was_sent() -> None:
    asked = wire.Asked("e", [b"1", b"2"], {"yard": (0, 0, 0.5, 1)}, ((0, 0, 1, 1),), "m", 1.5, "north", spare=True)
    assert wire.asked(wire.encode(asked)) == asked


def test_answers_come_bit_for_bit_and_a_model_without_one_stays_without() -> None:
    seen = (Prediction("person", 0.1 + 0.2, (0.1, 0.2, 0.3, 1 / 3), "yard", "{}"),)
    came = wire.reply(wire.encode(wire.Answered([{"a": seen, "b": None, "c": ()}])))
    assert came == wire.Answered([{"a": seen, "b": None, "c": ()}])


@pytest.mark.parametrize(
    "error",
    [
        Unprocessable("no picture", frame=3),
        TooLarge("too many pixels", frame=0, begun=False),
        TooMuchWork("64 frames take 90 s here", begun=False),
        RetryLater("full", retry_after_s=7, begun=True),
    ],
)
def test_an_error_keeps_kind_words_and_frame(error: SectorwatchError) -> None:
    with pytest.raises(SectorwatchError) as raised:
        wire.reply(wire.encode(wire.failed(error)))
    assert type(raised.value) is type(error)
    assert vars(raised.value) == vars(error)


def test_an_error_that_is_none_of_ours_says_what_it_was() -> None:
    with pytest.raises(RuntimeError, match=r"^ZeroDivisionError: division by zero$"):
        wire.reply(wire.encode(wire.failed(ZeroDivisionError("division by zero"))))


def test_an_ensemble_and_a_report_come_as_they_were_sent() -> None:
    info = EnsembleInfo("d", (ModelInfo("m", frozenset({"a", "b"}), boxes=True, calibration=()),))
    assert wire.reply(wire.encode(wire.Inspected("n:1", info, None))) == wire.Inspected("n:1", info, None)
    report = wire.Report("n:1", Load(3, 2, 7.5, 0.1), "t", [("m", 0.2)])
    assert wire.report(wire.encode(report)) == report
