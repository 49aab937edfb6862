"""A record is one line, readable or JSON, with its fields under stable names."""

from __future__ import annotations

import json
import logging

import pytest

from server.monitoring.logs import JsonFormatter, TextFormatter, logging_config


def record(event: str, **fields: object) -> logging.LogRecord:
    made = logging.makeLogRecord(
        {"name": "server.web.bursts", "levelname": "INFO", "msg": event, "created": 1_800_000_000.5}
    )
    vars(made).update(fields)
    return made


def test_a_readable_line_has_its_instant_its_event_and_its_fields() -> None:
    assert TextFormatter().format(record("burst accepted", site="north-yard", frames=8)) == (
        "2027-01-15T08:00:00.500Z INFO server.web.bursts burst accepted site=north-yard frames=8"
    )


@pytest.mark.parametrize(
    ("value", "shown"), [("two words", '"two words"'), ("", '""'), ('a"b', '"a\\"b"'), ("a\nb", '"a\\nb"')]
)
def test_a_value_that_is_not_one_word_is_quoted_so_that_a_line_stays_a_line(value: str, shown: str) -> None:
    assert TextFormatter().format(record("x", detail=value)).endswith(f"x detail={shown}")


@pytest.mark.parametrize("sign", ["\x1b", "\x7f", "\x9b", "\r", "\x00", "\u2028", "\u202e"])
def test_nobody_who_is_quoted_speaks_to_the_terminal_or_begins_a_line(sign: str) -> None:
    line = TextFormatter().format(record(f"request path=/{sign}[2J", path=f"/{sign}[2J"))
    assert line.isprintable()
    assert line.count(json.dumps(sign)[1:-1]) == 2


def test_what_is_not_ascii_and_can_be_seen_is_shown_as_it_is() -> None:
    assert TextFormatter().format(record("x", site="süd-höfe")).endswith("site=süd-höfe")


def test_a_json_line_has_the_fields_as_members() -> None:
    told = json.loads(JsonFormatter().format(record("burst accepted", frames=8, error=ValueError("odd"))))
    assert told == {
        "at": "2027-01-15T08:00:00.500Z",
        "level": "info",
        "logger": "server.web.bursts",
        "event": "burst accepted",
        "frames": 8,
        "error": "odd",
    }


def test_requests_are_lines_only_where_that_is_wanted() -> None:
    levels = [
        logging_config("text", "info", access=access)["loggers"]["gunicorn.access"]["level"] for access in (True, False)
    ]
    assert levels == ["INFO", "WARNING"]
