"""What one would use instead, around the same models: what `peer_flask` and `peer_litserve` share.

The models are asked as their authors would ask them: decoded, transformed and asked under inference mode by the code we
have for it, without our engine.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.benchmarks.serving.wire import Labels


class Asked:
    """The models, for bursts of any number of requests."""

    def __init__(self, name: str, footage: Path) -> None:
        from tests.benchmarks.serving.contestants import labels_of  # torch, which must not be loaded before a fork
        from tests.benchmarks.serving.work import ensemble_named

        self._ensemble = ensemble_named(name, footage)
        self._labels_of = labels_of

    def __call__(self, bursts: Sequence[Sequence[bytes]]) -> list[Labels]:
        rows = [self._ensemble.prepare((image, place, {}, ())) for burst in bursts for place, image in enumerate(burst)]
        asked, told = self._ensemble.infer(rows), []
        for burst in bursts:
            own, asked = asked[: len(burst)], asked[len(burst) :]
            told.append(self._labels_of(self._ensemble, self._ensemble.postprocess(own, 0, len(own))))
        return told


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def tell(port: int) -> None:
    """That it answers."""
    sys.stdout.write(f"ready {port}\n")
    sys.stdout.flush()
