"""Which agents this server works with: those of the release before, and newer ones. The wire only gains fields."""

from __future__ import annotations

import re

OLDEST = (0, 2)
"""What `tests/camera_agent/test_old_wire.py` sends, as it was recorded."""

_VERSION = re.compile(r"(\d+)\.(\d+)(?!.*\+checkout)")


def is_too_old(version: str | None) -> bool:
    """Whether nobody tries this agent with this server any more. False for one that does not say what it is."""
    found = _VERSION.match(version or "")
    return found is not None and (int(found[1]), int(found[2])) < OLDEST
