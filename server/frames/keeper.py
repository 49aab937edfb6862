"""Keeps the pictures of accepted bursts, in a thread of its own: no answer and no turn waits for it.

Bursts wait in a queue that is bounded by bytes. Pictures are kept as far as disk and time allow, and bursts in any
case: what is not kept is counted by its cause, and the log says when that begins and ends. A burst that is sent again
is offered again.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Literal, Protocol

from server.domain.burst import Burst
from server.domain.errors import RetryLater, SectorwatchError
from server.domain.keeping import KeepFrames
from server.domain.pictures.kept_frames import Kept, Picture

log = logging.getLogger(__name__)

NotKept = Literal["busy", "place", "database", "stopped"]
"""Why a picture is not kept: too many wait, its place takes none, the database takes no row, or the server stopped."""

_AT_ONCE = 64
"""Frames in one transaction, at least one burst."""
_TRIES = 5
_RETRY_S = 1.0
_IDLE_S = 1.0


class Frames(Protocol):
    """Where pictures are kept (`server.store.retention.frames`)."""

    def keep(self, pictures: Sequence[Picture]) -> Kept: ...
    def older_sites(self) -> frozenset[str]: ...


class FrameKeeper:
    """`offer` from any thread, `run` in one. `most_bytes`: of pictures that wait.

    `keep_of` gives what a site keeps, `is_older` frames aside. `on_kept` is called with the frames and bytes that came
    to be kept, `on_not_kept` with a count of frames and the cause.
    """

    def __init__(
        self,
        frames: Frames,
        keep_of: Callable[[str, bool], KeepFrames],
        most_bytes: int,
        *,
        on_kept: Callable[[int, int], None] = lambda _frames, _bytes: None,
        on_not_kept: Callable[[int, NotKept], None] = lambda _frames, _cause: None,
    ) -> None:
        self._frames = frames
        self._keep_of = keep_of
        self._most_bytes = most_bytes
        self._on_kept = on_kept
        self._on_not_kept = on_not_kept
        self._queue: deque[list[Picture]] = deque()
        self._waiting_bytes = 0
        self._changed = threading.Condition()
        self._failing: NotKept | None = None
        self._older: frozenset[str] | None = None

    @property
    def waiting_bytes(self) -> int:
        """Bytes of pictures that wait or are being kept."""
        return self._waiting_bytes

    def offer(self, burst: Burst, brightness: Iterable[float | None]) -> None:
        """Take the pictures of a stored burst, with the brightness of each, to be kept if its site keeps any."""
        if self._older is not None and not self._is_chosen(burst.site, self._older):
            return
        pictures = [
            Picture(burst.site, burst.camera, frame.at_us, frame.sha256, frame.image, light)
            for frame, light in zip(burst.frames, brightness, strict=True)
        ]
        size = sum(len(each.image) for each in pictures)
        with self._changed:
            is_taken = not self._waiting_bytes or self._waiting_bytes + size <= self._most_bytes
            if is_taken:
                self._queue.append(pictures)
                self._waiting_bytes += size
                self._changed.notify()
        if not is_taken:
            self._lose(len(pictures), "busy", f"{self._most_bytes >> 20} MiB of pictures wait already")

    def run(self, stopping: threading.Event) -> None:
        """Keep what comes, until `stopping`; then what waits is kept, as far as that goes at once."""
        while not stopping.is_set():
            with self._changed:
                if not self._queue and not stopping.is_set():
                    self._changed.wait(_IDLE_S)
            self.drain(stopping.wait)
        self.drain(lambda _seconds: True)
        with self._changed:
            left = sum(map(len, self._queue))
            self._queue.clear()
        if left:
            self._lose(left, "stopped", "the server stops")

    def wake(self) -> None:
        """Have `run` look at once whether it is to stop."""
        with self._changed:
            self._changed.notify()

    def drain(self, wait: Callable[[float], object] = lambda _seconds: True) -> None:
        """Keep all that waits now. `wait` is called between tries while the database is busy; True ends the tries."""
        while pictures := self._next():
            try:
                self._keep([each for each in pictures if self._is_wanted(each.site, wait)], wait)
            except Exception as error:
                if not isinstance(error, SectorwatchError):
                    log.exception("pictures cannot be kept")
                self._lose(len(pictures), "database", str(error))
            finally:
                with self._changed:
                    self._waiting_bytes -= sum(len(each.image) for each in pictures)

    def _next(self) -> list[Picture]:
        with self._changed:
            pictures: list[Picture] = []
            while self._queue and len(pictures) < _AT_ONCE:
                pictures += self._queue.popleft()
        return pictures

    def _is_wanted(self, site: str, wait: Callable[[float], object]) -> bool:
        if self._older is None:
            for _ in range(_TRIES):
                try:
                    self._older = self._frames.older_sites()
                    break
                except RetryLater:
                    if wait(_RETRY_S):
                        break
        if self._older is None:
            return True  # `keep` fails as well, and counts it
        return self._is_chosen(site, self._older)

    def _is_chosen(self, site: str, older: frozenset[str]) -> bool:
        return self._keep_of(site, site in older).which != "none"

    def _keep(self, pictures: Sequence[Picture], wait: Callable[[float], object]) -> None:
        if not pictures:
            return
        fault = ""
        for _ in range(_TRIES):
            try:
                self._done(pictures, self._frames.keep(pictures))
                return
            except RetryLater as error:
                fault = error.detail
                if wait(_RETRY_S):
                    break
            except (SectorwatchError, OSError) as error:
                self._lose(len(pictures), "place", str(error))
                return
        self._lose(len(pictures), "database", fault)

    def _done(self, pictures: Sequence[Picture], kept: Kept) -> None:
        taken = len(pictures) - kept.refused
        self._on_kept(kept.frames, sum(len(each.image) for each in pictures[:taken]) if kept.frames else 0)
        if kept.fault is not None:
            self._lose(kept.refused, "place", kept.fault)
        elif self._failing is not None:
            self._failing = None
            log.info("pictures are kept again")

    def _lose(self, count: int, cause: NotKept, why: str) -> None:
        """Count frames that are not kept; the log says it once until pictures are kept again."""
        self._on_not_kept(count, cause)
        if self._failing != cause:
            self._failing = cause
            log.warning("pictures are not kept; bursts are", extra={"frames": count, "cause": cause, "why": why})
