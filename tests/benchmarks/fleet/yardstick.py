"""A fixed piece of work, done again and again beside a run: how much longer its CPU is tells what neighbours cost."""

from __future__ import annotations

import statistics
import threading
import time
from types import TracebackType

import msgspec

from server.domain.pictures.image_info import brightness_of
from tests.benchmarks.fleet.cameras import drawn_pictures
from tests.benchmarks.fleet.recorded import recording

_EVERY_S = 0.25


class Yardstick:
    """Decodes a picture, and writes and reads labels, as a server does, four times a second within a `with`."""

    def __init__(self) -> None:
        self._picture, self._answers = drawn_pictures()[0], recording().answers["crowd"]
        self._took_ms: list[float] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    @property
    def median_ms(self) -> float:
        """CPU of one round."""
        return statistics.median(self._took_ms)

    def __enter__(self) -> Yardstick:
        self._round()
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(_EVERY_S):
            self._round()

    def _round(self) -> None:
        begun_s = time.thread_time()
        brightness_of(self._picture)
        for answer in self._answers:
            msgspec.json.decode(msgspec.json.encode(answer))
        self._took_ms.append(1000 * (time.thread_time() - begun_s))
