"""Every log record is one line, safe for the terminal, with the same keys in the same order as the server's."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path

import pytest

from camera_agent.logs import JsonFormatter, TextFormatter

AT_S = 1_800_000_000.123


def record(event: str = "burst_sent", *, level: int = logging.INFO, **fields: object) -> logging.LogRecord:
    made = logging.LogRecord("camera_agent.uplink.uplink", level, __file__, 1, event, (), None)
    made.created = AT_S
    vars(made).update(fields)
    return made


def failed() -> logging.LogRecord:
    try:
        raise OSError("no\x1b[2Jroom")
    except OSError:
        made = record("uplink_failed", level=logging.ERROR)
        made.exc_info = sys.exc_info()
        return made


RECORDS = [
    record(),
    record(camera="gate", bytes=81234, took_s=1.23456, known=False, cause=None),
    record("two words", path=Path("/a b"), error=OSError(28, "no room"), flag="", frames=[1, 2]),
    record("a\nevent", cause="a\r\nb \u202e \x9b c", level=logging.WARNING),
    failed(),
]


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("word", "word"),
        ("", '""'),
        ("two words", '"two words"'),
        ('a"b', '"a\\"b"'),
        ("a\r\nsummary", '"a\\r\\nsummary"'),
        ("\x1b[2J\x9b1m\x7f\u202e", '"\\u001b[2J\\u009b1m\\u007f\\u202e"'),
        ("s\u00fcd", "s\u00fcd"),
        (True, "true"),
        (1.50, "1.5"),
        (Path("/a"), "/a"),
    ],
)
def test_no_value_breaks_its_line(value: object, shown: str) -> None:
    line = TextFormatter().format(record(camera=None, cause=value))
    assert line == f"2027-01-15T08:00:00.123Z info camera_agent.uplink.uplink burst_sent cause={shown}"


@pytest.mark.parametrize("made", RECORDS, ids=range(len(RECORDS)))
def test_text_and_json_have_the_same_keys_in_the_same_order(made: logging.LogRecord) -> None:
    entry = json.loads(JsonFormatter().format(made))
    assert list(entry)[:4] == ["at", "level", "logger", "event"]
    line, *traceback = TextFormatter().format(made).splitlines()
    keys = [key for key in entry if key not in ("at", "level", "logger", "event", "exception")]
    positions = [line.index(f" {key}=") for key in keys]
    assert positions == sorted(positions)
    assert bool(traceback) == ("exception" in entry)


def test_no_record_sends_control_characters_to_the_terminal() -> None:
    shown = [form.format(made) for made in RECORDS for form in (TextFormatter(), JsonFormatter())]
    assert all(sign.isprintable() for text in shown for sign in text.replace("\n", ""))
