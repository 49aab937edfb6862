"""What models raise, told in the log so that one that fails for every image does not fill it.

The images themselves are counted where answers are (`sectorwatch_model_answers_missing_total`).
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
_Cause = tuple[str, str, str, int | None]


class Faults:
    """Tells each model's faults by their cause: the first with its traceback, then at most one line a minute with how
    many there were since. Safe to use from several threads; `clock` is monotonic (s).
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._told: dict[_Cause, tuple[float, int]] = {}

    def tell(self, model: str, error: BaseException) -> None:
        """`model` raised `error` instead of an answer. To be called where it is handled."""
        with self._lock:
            now_s, cause = self._clock(), _cause(model, error)
            is_new = cause not in self._told
            told_s, untold = self._told.get(cause, (-math.inf, 0))
            is_due = now_s - told_s >= _AGAIN_S
            self._told[cause] = (now_s, 0) if is_due else (told_s, untold + 1)
        if is_due:
            what = textwrap.shorten(f"{type(error).__name__}: {error}", _SHORT)
            log.error(
                "model did not answer", extra={"model": model, "error": what, "times": untold + 1}, exc_info=is_new
            )


def _cause(model: str, error: BaseException) -> _Cause:
    """The kind of error and the line that raised it: its words may hold numbers of the image, and never end."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    return model, type(error).__name__, last.filename, last.lineno
