"""The memory that a server may need is estimated, and too little memory is a warning with what to lower."""

from __future__ import annotations

import msgspec
import pytest

from server.catalogue import card_named
from server.serving.machine import Machine
from server.serving.memory_budget import BODIES, expected_bytes, memory_warning
from server.settings import ServerSettings

GIB = 1 << 30
CARDS = [card_named("yolov3-tiny"), card_named("frame-change")]
SETTINGS = ServerSettings(inference_threads=2)
MACHINE = Machine(4, None, None, 4 * GIB)


def expected(**changed: int) -> int:
    return expected_bytes(msgspec.structs.replace(SETTINGS, **changed), CARDS, MACHINE)


def test_the_estimate_grows_with_weights_pixels_workers_and_bodies() -> None:
    base = expected()
    width, height = CARDS[0].input.size
    parts = 2 * 16 * 3 * width * height
    assert base - expected_bytes(SETTINGS, CARDS[1:], MACHINE) == 3 * (CARDS[0].size_bytes or 0) + parts
    assert expected(max_pixels=SETTINGS.max_pixels + 1000) - base == 2 * 1000 * 12
    assert expected(max_body_bytes=SETTINGS.max_body_bytes + 1000) - base == (BODIES * 3 + 1) * 1000
    assert expected(inference_threads=3) - base == expected(inference_threads=0) - expected(inference_threads=3)


@pytest.mark.parametrize(
    ("memory_bytes", "limit_bytes", "warns"),
    [(64 * GIB, 0, False), (GIB, 0, True), (64 * GIB, GIB, True), (GIB, 64 * GIB, False), (None, 0, False)],
)
def test_a_warning_names_what_to_lower_when_the_limit_or_the_memory_may_not_do(
    memory_bytes: int | None, limit_bytes: int, warns: bool
) -> None:
    settings = msgspec.structs.replace(SETTINGS, memory_limit_bytes=limit_bytes)
    warning = memory_warning(settings, CARDS, Machine(4, None, None, memory_bytes))
    assert (warning is not None) is warns
    assert not warns or ("there are 1024 MiB: lower `max_pixels`" in str(warning))
