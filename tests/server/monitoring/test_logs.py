"""A log record is one line, as text or JSON, with the same keys in the same order."""

from __future__ import annotations

import json
import logging
import sys

import pytest

from server.monitoring.logs import JsonFormatter, TextFormatter, logging_config


def record(event: str, **fields: object) -> logging.LogRecord:
    made = logging.makeLogRecord(
        {"name": "server.web.bursts", "levelname": "INFO", "msg": event, "created": 1_800_000_000.5}
    )
    vars(made).update(fields)
    return made


def failed(event: str) -> logging.LogRecord:
    try:
        raise ValueError("a\x1bb")
    except ValueError:
        return record(event, exc_info=sys.exc_info())


def test_a_text_line_has_its_instant_level_logger_event_and_fields() -> None:
    assert TextFormatter().format(record("burst accepted", site="north-yard", frames=8)) == (
        "2027-01-15T08:00:00.500Z info server.web.bursts burst accepted site=north-yard frames=8"
    )


def test_the_json_form_has_the_same_keys_in_the_same_order() -> None:
    line = JsonFormatter().format(record("burst accepted", site="north-yard", frames=8, since=None, wait_s=0.12345))
    assert line == (
        '{"at":"2027-01-15T08:00:00.500Z","level":"info","logger":"server.web.bursts","event":"burst accepted",'
        '"site":"north-yard","frames":8,"wait_s":0.123}'
    )


def test_a_field_that_is_none_is_left_out() -> None:
    assert TextFormatter().format(record("x", since=None, is_late=False)).endswith(" x is_late=false")


def test_a_traceback_follows_the_text_line_and_is_the_last_member_of_the_object() -> None:
    first, *rest = TextFormatter().format(failed("x")).splitlines()
    assert first == "2027-01-15T08:00:00.500Z info server.web.bursts x"
    assert rest[-1] == "ValueError: a\\u001bb"
    assert list(json.loads(JsonFormatter().format(failed("x"))))[-1] == "exception"


@pytest.mark.parametrize(
    ("value", "shown"), [("two words", '"two words"'), ("", '""'), ('a"b', '"a\\"b"'), ("a\nb", '"a\\nb"')]
)
def test_a_value_that_is_not_one_word_is_quoted_so_that_a_line_stays_a_line(value: str, shown: str) -> None:
    assert TextFormatter().format(record("x", detail=value)).endswith(f"x detail={shown}")


@pytest.mark.parametrize("sign", ["\x1b", "\x7f", "\x9b", "\r", "\x00", "\u2028", "\u202e"])
def test_text_from_a_client_cannot_control_the_terminal_or_begin_a_line(sign: str) -> None:
    line = TextFormatter().format(record(f"request path=/{sign}[2J", path=f"/{sign}[2J"))
    assert line.isprintable()
    assert line.count(json.dumps(sign)[1:-1]) == 2


def test_printable_text_beyond_ascii_is_shown_as_it_is() -> None:
    assert TextFormatter().format(record("x", site="süd-höfe")).endswith("site=süd-höfe")


def test_a_json_line_has_the_fields_as_members() -> None:
    members = json.loads(JsonFormatter().format(record("burst accepted", frames=8, error=ValueError("odd"))))
    assert members == {
        "at": "2027-01-15T08:00:00.500Z",
        "level": "info",
        "logger": "server.web.bursts",
        "event": "burst accepted",
        "frames": 8,
        "error": "odd",
    }


def test_requests_are_logged_only_when_access_logging_is_on() -> None:
    levels = [
        logging_config("text", "info", access=access)["loggers"]["gunicorn.access"]["level"] for access in (True, False)
    ]
    assert levels == ["INFO", "WARNING"]
