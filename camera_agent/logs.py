"""The agent's log on standard error: one line, or one JSON object, per record.

A record is an event name and fields: `log.info("burst_taken", extra={"camera": "gate", "frames": 10})`. Both forms have
the same keys in the same order: `at` (UTC), `level`, `logger`, `event`, the fields, `exception`. A text line begins
with the first four values. The server's log has the same form; tests/test_logs.py compares the two. No line shows a
password, also not where a library's error quotes an address.
"""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Literal, TextIO

import msgspec

from camera_agent.network.addresses import without_secrets

LogStyle = Literal["text", "json"]
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_HEAD = ("at", "level", "logger", "event")


def start_logging(style: LogStyle = "text", *, verbose: bool = False, stream: TextIO | None = None) -> None:
    """Send this program's log to `stream` (default: standard error)."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(TextFormatter() if style == "text" else JsonFormatter())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    logging.getLogger("camera_agent").setLevel(logging.DEBUG if verbose else logging.INFO)
    # APScheduler warns about every run that finds its predecessor busy, which is normal here (`capture.schedule`).
    logging.getLogger("apscheduler").setLevel(logging.CRITICAL)
    # urllib3 warns about every retry; the uplink logs it.
    logging.getLogger("urllib3").setLevel(logging.ERROR)


class TextFormatter(logging.Formatter):
    """`2026-11-22T07:00:00.123Z info camera_agent.uplink.uplink burst_sent camera=gate bytes=81234`."""

    def format(self, record: logging.LogRecord) -> str:
        entry = log_entry(record)
        exception = str(entry.pop("exception", ""))
        head = [visible(str(entry.pop(key))) for key in _HEAD]
        line = " ".join([*head, *(f"{key}={quoted(value)}" for key, value in entry.items())])
        return "\n".join([line, *map(visible, exception.splitlines())])


class JsonFormatter(logging.Formatter):
    """`{"at":"2026-11-22T07:00:00.123Z","level":"info","logger":"...","event":"burst_sent","camera":"gate"}`."""

    def format(self, record: logging.LogRecord) -> str:
        return visible(msgspec.json.encode(log_entry(record)).decode())


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
    """A value of a `key=value` field: as it is where it is one plain word, else as a JSON string.

    Text from a camera or server can then neither begin a line of its own nor control the terminal.
    """
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
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
