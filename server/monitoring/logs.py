"""How a server process writes its log: to standard error, one line or one JSON object per record.

The rest of the code says `log.info("burst accepted", extra={"site": ..., "frames": 8})`: a stable event name
and fields. The fields of `extra` come out as `key=value`, or as members of the object.
"""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import Any, Literal

import msgspec

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def logging_config(style: Literal["text", "json"], level: str, *, access: bool) -> dict[str, Any]:
    """A `logging.config.dictConfig` mapping: ours and Gunicorn's loggers, one handler, one form.

    With `access`, every request is a line.
    """
    formatter = TextFormatter if style == "text" else JsonFormatter
    quiet: dict[str, Any] = {"handlers": [], "propagate": True}
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"sectorwatch": {"()": formatter}},
        "handlers": {
            "stderr": {
                "class": "logging.StreamHandler",
                "stream": "ext://sys.stderr",
                "formatter": "sectorwatch",
            }
        },
        "root": {"handlers": ["stderr"], "level": level.upper()},
        "loggers": {
            "gunicorn.error": {**quiet, "level": "WARNING"},
            "gunicorn.access": {**quiet, "level": "INFO" if access else "WARNING"},
            "alembic": {"level": "WARNING"},
        },
    }


class TextFormatter(logging.Formatter):
    """`2026-11-22T07:00:00.123Z INFO server.web.bursts burst accepted site=north-yard frames=8`."""

    def format(self, record: logging.LogRecord) -> str:
        head = f"{_instant(record)} {record.levelname} {record.name} {_harmless(record.getMessage())}"
        fields = [f"{key}={quoted(value)}" for key, value in _fields(record).items()]
        line = " ".join([head, *fields])
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class JsonFormatter(logging.Formatter):
    """One JSON object: `at`, `level`, `logger`, `event`, then the record's own fields."""

    def format(self, record: logging.LogRecord) -> str:
        members: dict[str, object] = {
            "at": _instant(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
            **_fields(record),
        }
        if record.exc_info:
            members["exception"] = self.formatException(record.exc_info)
        return msgspec.json.encode(members, enc_hook=str).decode()


def _fields(record: logging.LogRecord) -> dict[str, object]:
    return {key: value for key, value in vars(record).items() if key not in _STANDARD}


def _instant(record: logging.LogRecord) -> str:
    at = datetime.fromtimestamp(record.created, UTC)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def quoted(value: object) -> str:
    """A value of a `key=value` field, in quotation marks where it is not one plain word.

    What a client says must neither begin a line of its own nor speak to the terminal that shows it.
    """
    text = str(value)
    is_plain = text.isprintable() and text and not any(sign in ' "=' for sign in text)
    return text if is_plain else _harmless(msgspec.json.encode(text).decode())


def _harmless(text: str) -> str:
    """With what no eye can see, line breaks among it, written out as JSON does."""
    return "".join(sign if sign.isprintable() else json.dumps(sign)[1:-1] for sign in text)
