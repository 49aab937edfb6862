"""The recent speed of the workers, from which `Retry-After` is computed."""

from __future__ import annotations

_KEPT = 0.95
"""Weight of the past at each batch: about the last twenty batches count."""


class Pace:
    """Images per second of `workers` busy workers together.

    Only busy time counts: idle hours do not make a server look slow, and one quick image does not make it look fast.
    """

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._images = 0.0
        self._busy_s = 0.0

    def note(self, images: int, seconds: float) -> None:
        """One worker has finished `images` in `seconds`."""
        self._images = self._images * _KEPT + images
        self._busy_s = self._busy_s * _KEPT + seconds

    @property
    def images_per_s(self) -> float | None:
        """None before the first batch is done."""
        return self._workers * self._images / self._busy_s if self._images and self._busy_s > 0 else None
