"""A line of the log is one line, and says nothing to the terminal, whoever is quoted in it."""

from __future__ import annotations

import pytest

from camera_agent.logs import line


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("word", "word"),
        ("", '""'),
        ("two words", '"two words"'),
        ('a"b\\c', '"a\\"b\\\\c"'),
        ("a\r\nevent=summary", '"a  event=summary"'),
        ("\x1b[2J\x9b1m\x7f\u202e", '"\\u001b[2J\\u009b1m\\u007f\\u202e"'),
        ("süd", "süd"),
        (True, "true"),
        (1.50, "1.5"),
    ],
)
def test_a_value_is_shown_so_that_it_stays_within_its_line(value: object, shown: str) -> None:
    assert line("x", camera=None, cause=value) == f"event=x cause={shown}"
