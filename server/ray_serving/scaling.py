"""How many replicas there should be: by the images that wait in them, not by requests, which hold one image or fifty.

Ray's controller runs the rule; it gets this module by value, so nothing of ours is imported here.
"""

from __future__ import annotations

import math
from typing import Any

QUEUED = "queued_images"
"""The figure that each replica reports (`Replica.record_autoscaling_stats`)."""


class ByQueuedImages:
    """One replica per `each` images that wait, within the bounds of the deployment."""

    def __init__(self, each: int) -> None:
        self._each = each

    def __call__(self, context: Any) -> tuple[int, dict[str, Any]]:
        """The wanted number of replicas, from Ray's AutoscalingContext, and the state that Ray keeps: none."""
        queued = sum((context.aggregated_metrics or {}).get(QUEUED, {}).values())
        return wanted(
            queued, self._each, context.capacity_adjusted_min_replicas, context.capacity_adjusted_max_replicas
        ), {}


def wanted(queued: float, each: int, least: int, most: int) -> int:
    """Replicas for so many queued images."""
    return min(most, max(least, math.ceil(queued / each)))
