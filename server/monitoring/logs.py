"""The log on standard error: one line, or one JSON object, per record.

A record is an event name and fields: `log.info("burst accepted", extra={"site": "north-yard", "frames": 8})`. Both
forms have the same keys in the same order: `at` (UTC), `level`, `logger`, `event`, the fields, `exception`. A text line
begins with the values of the first four. The agent's log has the same form; tests/test_logs.py
compares them.
"""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import Any, Literal

import msgspec

from server.domain.secrets_in_text import without_secrets

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_HEAD = ("at", "level", "logger", "event")


def logging_config(style: Literal["text", "json"], level: str, *, access: bool) -> dict[str, Any]:
    """A `logging.config.dictConfig` mapping for our loggers and Gunicorn's: one handler, one form.

    With `access`, every request is a line.
    """
    inherited: dict[str, Any] = {"handlers": [], "propagate": True}
    stderr = {"class": "logging.StreamHandler", "stream": "ext://sys.stderr", "formatter": "sectorwatch"}
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"sectorwatch": {"()": TextFormatter if style == "text" else JsonFormatter}},
        "handlers": {"stderr": stderr},
        "root": {"handlers": ["stderr"], "level": level.upper()},
        "loggers": {
            "gunicorn.error": {**inherited, "level": "WARNING"},
            "gunicorn.access": {**inherited, "level": "INFO" if access else "WARNING"},
            "alembic": {"level": "WARNING"},
        },
    }


class TextFormatter(logging.Formatter):
    """`2026-11-22T07:00:00.123Z info server.web.bursts burst accepted site=north-yard frames=8`."""

    def format(self, record: logging.LogRecord) -> str:
        entry = log_entry(record)
        exception = str(entry.pop("exception", ""))
        head = [visible(str(entry.pop(key))) for key in _HEAD]
        line = " ".join([*head, *(f"{key}={quoted(value)}" for key, value in entry.items())])
        return "\n".join([line, *map(visible, exception.splitlines())])


class JsonFormatter(logging.Formatter):
    """`{"at":"2026-11-22T07:00:00.123Z","level":"info","logger":"...","event":"burst accepted","frames":8}`."""

    def format(self, record: logging.LogRecord) -> str:
        return visible(msgspec.json.encode(log_entry(record), enc_hook=str).decode())


def log_entry(record: logging.LogRecord) -> dict[str, object]:
    """What both forms show of a record, in order. Fields that are None are left out; floats have three decimals."""
    at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
    entry: dict[str, object] = {
        "at": at.replace("+00:00", "Z"),
        "level": record.levelname.lower(),
        "logger": record.name,
        "event": without_secrets(record.getMessage()),
    }
    fields = {key: value for key, value in vars(record).items() if key not in _STANDARD and value is not None}
    entry |= {key: _plain(value) for key, value in fields.items()}
    if record.exc_info:
        entry["exception"] = without_secrets(logging.Formatter().formatException(record.exc_info))
    return entry


def quoted(value: object) -> str:
    """A value of a `key=value` field: as it is when it is one plain word, else as a JSON string.

    So text from a client can neither begin a line of its own nor control the terminal.
    """
    text = value if isinstance(value, str) else msgspec.json.encode(value, enc_hook=str).decode()
    is_plain = text.isprintable() and text and not any(sign in ' "=' for sign in text)
    return text if is_plain else visible(msgspec.json.encode(text).decode())


def visible(text: str) -> str:
    """The text with every unprintable character, line breaks included, escaped as in JSON."""
    return "".join(sign if sign.isprintable() else json.dumps(sign)[1:-1] for sign in text)


def _plain(value: object) -> object:
    if isinstance(value, float):
        return round(value, 3)
    if isinstance(value, bool | int):
        return value
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return without_secrets(str(value))
