"""The speed of the workers, from which `Retry-After` is computed, and what can never be answered in time."""

from __future__ import annotations

from collections import deque

_KEPT = 0.95
"""Weight of the past at each batch: about the last twenty batches count."""

_RECENT_BATCHES = 64
_RECENT_S = 600.0


class Pace:
    """Images per second of `workers` busy workers together.

    Only busy time counts: idle hours do not make a server look slow, and one quick image does not make it look fast.
    """

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._images = 0.0
        self._busy_s = 0.0
        self._recent: deque[tuple[float, float]] = deque(maxlen=_RECENT_BATCHES)
        """When a batch was finished, and its time for an image."""

    def note(self, images: int, seconds: float, now: float) -> None:
        """One worker has finished `images` in `seconds`."""
        self._images = self._images * _KEPT + images
        self._busy_s = self._busy_s * _KEPT + seconds
        if images:
            self._recent.append((now, seconds / images))

    @property
    def images_per_s(self) -> float | None:
        """None before the first batch is done."""
        return self._workers * self._images / self._busy_s if self._images and self._busy_s > 0 else None

    @property
    def image_s(self) -> float:
        """One worker's time for one image; 1 before the first batch is done."""
        recent = self.images_per_s
        return self._workers / recent if recent else 1.0

    def at_best_s(self, images: int, now: float) -> float:
        """How long so many images take all workers, at the fastest of the recent batches; 0 while that is not known.

        No burst must be refused for ever because a machine slept, or swapped, during one batch of each worker. So there
        must be more batches than workers, and what is older than ten minutes is measured again.
        """
        while self._recent and now - self._recent[0][0] > _RECENT_S:
            self._recent.popleft()
        if len(self._recent) <= self._workers:
            return 0.0
        return images * min(image_s for _at, image_s in self._recent) / self._workers
