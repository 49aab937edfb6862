"""The envelope of a burst."""

from __future__ import annotations

import hashlib
import uuid
from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from camera_agent import clock
from camera_agent.burst import Burst, ClockReading, Still, make_burst, new_burst_id


def burst_of(instants_ms: list[int]) -> Burst:
    return make_burst(
        [Still(jpeg=str(at_ms).encode(), at_ms=at_ms) for at_ms in instants_ms],
        burst_id="0197",
        site="yard",
        camera="gate",
        captured_ms=1_800_000_000_123,
        clock=ClockReading(synced=True, boot_id="b", monotonic_ms=7),
    )


@given(st.lists(st.integers(0, 100_000), min_size=1, max_size=64).map(sorted))
def test_offsets_begin_at_zero_and_strictly_increase(instants_ms: list[int]) -> None:
    offsets = burst_of(instants_ms).envelope.offsets_ms
    assert offsets[0] == 0
    assert all(later > earlier for earlier, later in pairwise(offsets))
    assert all(offset >= at_ms - instants_ms[0] for offset, at_ms in zip(offsets, instants_ms, strict=True))


def test_frames_out_of_order_are_refused() -> None:
    with pytest.raises(ValueError, match="order of their instants"):
        burst_of([0, 500, 400])


def test_a_burst_without_frames_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one frame"):
        burst_of([])


def test_an_envelope_has_exactly_the_documented_fields() -> None:
    envelope = msgspec.to_builtins(burst_of([5, 505]).envelope.sent(1_800_000_001_000))
    assert envelope == {
        "burst_id": "0197",
        "site": "yard",
        "camera": "gate",
        "reason": "schedule",
        "captured_at": "2027-01-15T08:00:00.123Z",
        "offsets_ms": (0, 500),
        "clock": {"synced": True, "boot_id": "b", "monotonic_ms": 7, "uncertainty_s": None},
        "frame_sha256": (hashlib.sha256(b"5").hexdigest(), hashlib.sha256(b"505").hexdigest()),
        "mask_digest": None,
        "agent": {"version": envelope["agent"]["version"], "sent_at": "2027-01-15T08:00:01.000Z"},
    }


def test_sending_again_changes_only_sent_at() -> None:
    envelope = burst_of([0]).envelope
    first, second = (msgspec.to_builtins(envelope.sent(at_ms)) for at_ms in (1_000, 2_000))
    assert first["agent"].pop("sent_at") != second["agent"].pop("sent_at")
    assert first == second


def test_new_ids_are_uuids_of_version_7_and_sort_by_time() -> None:
    ids = [new_burst_id(1_800_000_000_000 + step) for step in range(50)]
    assert ids == sorted(ids)
    assert len(set(ids)) == 50
    assert {(uuid.UUID(burst_id).version, uuid.UUID(burst_id).variant) for burst_id in ids} == {(7, uuid.RFC_4122)}


def test_the_boot_id_stays_the_same() -> None:
    assert uuid.UUID(clock.boot_id()) == uuid.UUID(clock.boot_id())


def test_whether_the_clock_is_synchronised_is_always_known() -> None:
    bound_s = clock.synchronised_within_s()
    assert bound_s is None or 0 < bound_s < 60
