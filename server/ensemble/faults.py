"""Log lines for the errors of models, few enough that a model that fails for every image does not fill the log.

The metric `sectorwatch_model_answers_missing_total` counts the images.
"""

from __future__ import annotations

import logging
import math
import textwrap
import threading
import time
import traceback
from collections.abc import Callable

log = logging.getLogger(__name__)

_AGAIN_S = 60.0
_SHORT = 400
_ONE_LINE = 240
_Cause = tuple[str, str, str, int | None]


def in_short(error: BaseException) -> str:
    """An error of a library in one line: its kind, and the part of its message that says what is wrong.

    TorchScript's messages are a traceback with the cause at the end.
    """
    kind, text = type(error).__name__, str(error).strip()
    if "Traceback of TorchScript" in text:
        text = text.splitlines()[-1]
    return shortened(text if text.startswith(f"{kind}:") else f"{kind}: {text}" if text else kind)


def shortened(text: str, most: int = _ONE_LINE) -> str:
    """The text in one line, of so many characters at most."""
    line = " ".join(text.split())
    return line if len(line) <= most else line[: most - 4].rstrip() + " ..."


class Faults:
    """Logs each model's errors by cause: the first with its traceback, then at most one line a minute with the number
    since. Safe to use from several threads; `clock` is monotonic (s).
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._logged: dict[_Cause, tuple[float, int]] = {}
        self._last: dict[str, str] = {}

    def report(self, model: str, error: BaseException) -> None:
        """Log that `model` raised `error` instead of an answer. Call it in the handler of the error."""
        with self._lock:
            self._last[model] = in_short(error)
            now_s, cause = self._clock(), _cause(model, error)
            is_new = cause not in self._logged
            logged_s, skipped = self._logged.get(cause, (-math.inf, 0))
            is_due = now_s - logged_s >= _AGAIN_S
            self._logged[cause] = (now_s, 0) if is_due else (logged_s, skipped + 1)
        if is_due:
            what = textwrap.shorten(f"{type(error).__name__}: {error}", _SHORT)
            log.error(
                "model did not answer", extra={"model": model, "error": what, "times": skipped + 1}, exc_info=is_new
            )

    def last(self, model: str) -> str:
        """The last error of the model, in one line; empty if there was none."""
        with self._lock:
            return self._last.get(model, "")


def _cause(model: str, error: BaseException) -> _Cause:
    """The kind of error and the line that raised it. The message is no part: it may hold numbers of the image."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    return model, type(error).__name__, last.filename, last.lineno
