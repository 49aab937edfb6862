"""How often each model was asked over the Open Inference Protocol, in the form of Triton's statistics."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(slots=True)
class _Counts:
    """Of one model. Times are in ns, `last_ms` is of Unix time."""

    images: int = 0
    answered: int = 0
    answered_ns: int = 0
    infer_ns: int = 0
    failed: int = 0
    failed_ns: int = 0
    last_ms: int = 0


class Statistics:
    """Counts the requests of this protocol since the process started, by model and version. Safe in several threads."""

    def __init__(self) -> None:
        self._counts: dict[tuple[str, str], _Counts] = {}
        self._lock = threading.Lock()

    def answered(self, models: Iterable[str], version: str, images: int, *, total_ns: int, infer_ns: int) -> None:
        """A request for these models was answered, in `total_ns`, of which the models and their queue took
        `infer_ns`.
        """
        with self._lock:
            for model in models:
                counts = self._of(model, version)
                counts.images += images
                counts.answered += 1
                counts.answered_ns += total_ns
                counts.infer_ns += infer_ns
                counts.last_ms = time.time_ns() // 1_000_000

    def failed(self, models: Iterable[str], version: str, total_ns: int) -> None:
        """A request for these models was not answered."""
        with self._lock:
            for model in models:
                counts = self._of(model, version)
                counts.failed += 1
                counts.failed_ns += total_ns

    def described(self, model: str, version: str) -> dict[str, object]:
        """A model's statistics as Triton gives them. Waiting for a worker is part of `compute_infer`."""
        with self._lock:
            counts = self._counts.get((model, version), _Counts())
            nothing = {"count": 0, "ns": 0}
            return {
                "name": model,
                "version": version,
                "last_inference": counts.last_ms,
                "inference_count": counts.images,
                "execution_count": counts.answered,
                "inference_stats": {
                    "success": {"count": counts.answered, "ns": counts.answered_ns},
                    "fail": {"count": counts.failed, "ns": counts.failed_ns},
                    "queue": nothing,
                    "compute_input": {"count": counts.answered, "ns": counts.answered_ns - counts.infer_ns},
                    "compute_infer": {"count": counts.answered, "ns": counts.infer_ns},
                    "compute_output": nothing,
                    "cache_hit": nothing,
                    "cache_miss": nothing,
                },
                "batch_stats": [],
            }

    def _of(self, model: str, version: str) -> _Counts:
        """The lock is held. Of former versions the last one is kept: requests of it may still end."""
        versions = [known for _, known in self._counts]
        if versions and version not in versions:
            self._counts = {key: counts for key, counts in self._counts.items() if key[1] == versions[-1]}
        return self._counts.setdefault((model, version), _Counts())
