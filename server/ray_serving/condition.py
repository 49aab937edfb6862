"""Why the ensembles on the cluster do not answer, for `/readyz` and for those whose uploads are refused."""

from __future__ import annotations

import time
from collections.abc import Callable

_GRACE_S = 3.0
"""A replica that is replaced, or a head that starts again, refuses no upload for a moment: it waits."""


class Condition:
    """What `tend` has found. `doing` is what the load of an ensemble waits for. Safe to use from all threads."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._faults: dict[str, tuple[float, str]] = {}
        self.doing: str | None = None

    def answered(self, application: str) -> None:
        self._faults.pop(application, None)

    def failed(self, application: str, why: str) -> None:
        since, _ = self._faults.get(application, (self._clock(), ""))
        self._faults[application] = since, why

    def fault(self, application: str) -> str | None:
        """Why it has not answered for `_GRACE_S` and more; None: it answers."""
        since, why = self._faults.get(application, (self._clock(), ""))
        return f"the ensemble does not answer: {why}" if self._clock() - since >= _GRACE_S else None
