"""The replicas of one ensemble on the cluster: see `Replicas` of `remote_ensemble`."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

from server.ray_serving import wire
from server.ray_serving.link import Link

log = logging.getLogger(__name__)

PREFIX = "ens-"

_REPORT_S = 5.0
_GOLDEN_S = 120.0


class Application:
    """An application of Ray Serve. `deploy` makes it anew."""

    def __init__(self, name: str, link: Link, deploy: Callable[[], None]) -> None:
        self.name = name
        self.deploy = deploy
        self._link = link

    def ask(self, packed: bytes, within_s: float) -> bytes:
        reply: bytes = self._link.call("ask", self.name, packed, within_s, within_s=within_s)
        return reply

    def golden(self) -> Sequence[bytes]:
        return self._each("golden", _GOLDEN_S)

    def retire(self, names: Sequence[str]) -> None:
        log.error("replicas answer otherwise than the others", extra={"replicas": ",".join(names)})
        for name in names:
            self._each("retire", _REPORT_S, name)

    def reports(self) -> list[wire.Report]:
        """Of all replicas that answer. Raises Lost where there is none, and TimeoutError."""
        return [wire.report(packed) for packed in self._each("report", _REPORT_S)]

    def unused_s(self) -> float:
        """How long no server has asked for a report. Raises Lost where there is no replica, and TimeoutError."""
        return min(map(float, self._each("unused_s", _REPORT_S)))

    def _each(self, method: str, within_s: float, *given: str) -> list[Any]:
        answers: list[Any] = self._link.call("each", self.name, method, given, within_s, within_s=within_s)
        return answers
