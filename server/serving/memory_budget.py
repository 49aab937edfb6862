"""An estimate of the memory a server may need, for a warning of `doctor` and at start.

The estimate is a sum: libraries, models, per worker one frame of `max_pixels`, the enlarged parts of one and the
networks' buffers, and uploads.
"""

from __future__ import annotations

from collections.abc import Sequence

from policies.site.sectors import MOST_ENLARGED
from server.catalogue import ModelCard
from server.serving.machine import Machine
from server.settings import ServerSettings

BODIES = 4
"""Bodies of the largest size that are accepted at once; of smaller ones, more."""

_MIB = 1024 * 1024
_LIBRARIES_BYTES = 750 * _MIB
"""Resident size of Python with torch, torchvision and Flask, without models: measured, rounded up."""

_RAY_BYTES = 400 * _MIB
"""Resident size of Python with Flask and a connection to a Ray cluster, without torch: measured, rounded up."""

_WEIGHTS_TIMES = 3
"""Weights as read, as parameters, and fused copies while loading."""

_NETWORK_BYTES = 64 * _MIB
"""Buffers of one worker for one batch of the catalogue's models: measured, rounded up."""

_PIXEL_BYTES = 12
"""One pixel, from the decoder's copy to the transformed row: measured, rounded up."""

_BODY_TIMES = 3
"""An inference request with base64 images exists as text, as decoded text and as images."""


_PICTURES = 1
"""Pictures that wait to be kept take as much as the largest body."""


def expected_bytes(settings: ServerSettings, cards: Sequence[ModelCard], machine: Machine) -> int:
    """The most that a server of these settings is expected to need with these models; replicas on Ray not counted."""
    uploads = (BODIES * _BODY_TIMES + _PICTURES) * settings.max_body_bytes
    if settings.ensemble == "ray":
        return _RAY_BYTES + uploads
    models = _LIBRARIES_BYTES + _WEIGHTS_TIMES * sum(card.size_bytes or 0 for card in cards)
    workers = settings.inference_threads or machine.processors
    return (
        models
        + workers * (_NETWORK_BYTES + settings.max_pixels * _PIXEL_BYTES + MOST_ENLARGED * _row_bytes(cards))
        + uploads
    )


def _row_bytes(cards: Sequence[ModelCard]) -> int:
    """Of one picture in every input form of the detectors, three bytes a pixel."""
    forms = {card.input for card in cards if card.kind == "detector"}
    return sum(3 * form.size[0] * form.size[1] for form in forms)


def memory_warning(settings: ServerSettings, cards: Sequence[ModelCard], machine: Machine) -> str | None:
    """What to lower when the estimate exceeds `memory_limit_bytes` or, without it, the memory there is; else None."""
    limit = settings.memory_limit_bytes or machine.memory_bytes
    expected = expected_bytes(settings, cards, machine)
    if limit is None or expected <= limit:
        return None
    return (
        f"this server may need {expected // _MIB} MiB and there are {limit // _MIB} MiB: lower `max_pixels`, "
        "`max_body_bytes` or `inference_threads`, serve fewer or smaller models, or give it more memory"
    )
