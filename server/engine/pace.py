"""How fast the workers are, from what they did lately: the ground for telling a client when to come back."""

from __future__ import annotations

_KEPT = 0.95
"""Share of the past that each batch leaves: the last twenty or so batches count."""


class Pace:
    """Images a second that `workers` busy workers manage together, measured over busy time only.

    Idle hours therefore do not make a server look slow, nor does one quick image make it look fast for long.
    """

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._images = 0.0
        self._busy_s = 0.0

    def note(self, images: int, seconds: float) -> None:
        """One worker was busy for so long, and that many images are done."""
        self._images = self._images * _KEPT + images
        self._busy_s = self._busy_s * _KEPT + seconds

    @property
    def images_per_s(self) -> float | None:
        """None before anything was done."""
        return self._workers * self._images / self._busy_s if self._images and self._busy_s > 0 else None
