"""What the tests of annotations share."""

from __future__ import annotations

from tests.server.scenes import Yard


def ids(yard: Yard) -> list[str]:
    return [logged.event.id for logged in yard.store.events()]
