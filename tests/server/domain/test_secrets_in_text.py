"""No log and no message shows a password, a value of a query or a fragment of an address."""

from __future__ import annotations

import logging

import pytest
from click.testing import CliRunner

from server.__main__ import command
from server.domain.errors import ConfigurationError
from server.domain.secrets_in_text import without_secrets
from server.monitoring.logs import JsonFormatter, TextFormatter

MARK = "zQ7x"
TEXTS = [
    f"cannot reach postgresql://user:{MARK}@db.example/x",
    f"cannot reach postgresql://user:{MARK}@{MARK}/{MARK}@db.example/x",
    f"postgresql://db.example/x?password={MARK}&sslmode=require",
    f"no weights at https://models.example/w.pt?X-Amz-Signature={MARK}&Expires=1{MARK}#{MARK}",
    f"('https://models.example/w.pt?sig={MARK}', 404)",
    f"https://models.example/#{MARK}",
    f"connect(password='{MARK}')",
    f"{{'Authorization': 'Bearer {MARK}'}}",
    f"Max retries exceeded with url: /w.pt?token={MARK} (Caused by ...)",
    f"there is no token sw_0123456789_{MARK}-{MARK}_x",
]


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("formatter", [TextFormatter(), JsonFormatter()])
def test_no_form_of_the_log_shows_a_secret(text: str, formatter: logging.Formatter) -> None:
    try:
        raise ValueError(text)
    except ValueError as error:
        record = logging.LogRecord(
            "server", logging.ERROR, "x.py", 1, text, (), (ValueError, error, error.__traceback__)
        )
    record.detail = text
    record.parts = [text, {"inner": text}]
    assert MARK not in formatter.format(record)


@pytest.mark.parametrize("text", TEXTS)
def test_no_error_shows_a_secret(text: str) -> None:
    assert MARK not in str(ConfigurationError(text))


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://u:p@ss:9{MARK}@host/db",
        f"postgresql://u:p@ss{MARK}/word@host/db",
        f"postgresql://u:p@{MARK}?x@host/db",
    ],
)
def test_a_database_url_that_cannot_be_taken_apart_is_refused_without_a_part_of_its_password(url: str) -> None:
    asked = CliRunner().invoke(command, ["events", "--database", url])
    assert asked.exit_code == 78
    assert "write @ as %40" in asked.output
    assert MARK not in asked.output


def test_a_misplaced_database_url_is_shown_without_its_password() -> None:
    asked = CliRunner().invoke(command, ["db", "upgrade", f"postgresql://user:{MARK}@host/db"])
    assert asked.exit_code == 2
    assert "postgresql://user:***@host/db" in asked.output


@pytest.mark.parametrize(
    "text",
    [
        "sqlite:////var/lib/sectorwatch/sectorwatch.sqlite",
        "postgresql://user:***@db.example/x?sslmode=require",
        "listens on http://127.0.0.1:8765",
        "every camera/view: `person` is never decided",
        "a token is one word; password and secret are words",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert without_secrets(text) == text
