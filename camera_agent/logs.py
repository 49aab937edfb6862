"""Log lines a person can read and a program can split: `event=burst_taken camera=gate frames=10`."""

from __future__ import annotations

import logging
import os
import sys
import time
from typing import TextIO

_QUOTED = frozenset(' "=\\')


def line(event: str, **fields: object) -> str:
    """One `key=value` line. None is left out; a value with a space, a quote or `=` in it is quoted, and what no eye can
    see in it (a server's or a camera's words may hold anything) is written out or, of white space, a space.
    """
    pairs = [f"event={event}"]
    pairs += [f"{key}={_text(value)}" for key, value in fields.items() if value is not None]
    return " ".join(pairs)


def start_logging(*, verbose: bool = False, stream: TextIO | None = None) -> None:
    """Send this program's log to `stream` (default: standard error).

    Under the journal, which knows the instant itself, the lines carry none.
    """
    handler = logging.StreamHandler(stream or sys.stderr)
    stamp = "" if "JOURNAL_STREAM" in os.environ else "%(asctime)s.%(msecs)03dZ "
    formatter = logging.Formatter(stamp + "level=%(levelname)s %(message)s", "%Y-%m-%dT%H:%M:%S")
    formatter.converter = time.gmtime
    handler.setFormatter(formatter)
    logging.addLevelName(logging.INFO, "info")
    logging.addLevelName(logging.WARNING, "warning")
    logging.addLevelName(logging.ERROR, "error")
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    logging.getLogger("camera_agent").setLevel(logging.DEBUG if verbose else logging.INFO)
    # A run that finds its predecessor busy is ordinary here (`schedule`), and a retry is told by `uplink`.
    logging.getLogger("apscheduler").setLevel(logging.CRITICAL)
    logging.getLogger("urllib3").setLevel(logging.ERROR)


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:.3f}".rstrip("0").rstrip(".")
    text = "".join(map(_harmless, str(value)))
    if text and not _QUOTED.intersection(text):
        return text
    return '"' + text.replace('"', '\\"') + '"'


def _harmless(sign: str) -> str:
    if sign == "\\":
        return "\\\\"
    if sign.isprintable():
        return sign
    return " " if sign.isspace() else f"\\u{ord(sign):04x}"
