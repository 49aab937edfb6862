"""Only a burst that is sound gets in, and a refusal says which frame is at fault."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.domain.burst import UNSYNCED_UNCERTAINTY_S, Burst, Limits, decode_burst
from server.domain.errors import Malformed, Refused, TooLarge, Unprocessable

FILES = [b"first", b"second", b"third"]


def told(**changes: Any) -> dict[str, Any]:
    """The envelope of DESIGN.md, section 4, for FILES; None leaves a key out."""
    envelope = {
        "burst_id": "01975a2e-0000-7000-8000-000000000001",
        "site": "north-yard",
        "camera": "gate",
        "reason": "schedule",
        "captured_at": "2026-11-22T07:00:00.000Z",
        "offsets_ms": [0, 500, 1001],
        "clock": {"synced": True, "boot_id": "b", "monotonic_ms": 81234567},
        "frame_sha256": [hashlib.sha256(image).hexdigest() for image in FILES],
        "mask_digest": "m",
        "agent": {"version": "0.1.0", "sent_at": "2026-11-22T07:00:02Z"},
    }
    return {key: value for key, value in (envelope | changes).items() if value is not None}


def decoded(files: list[bytes] = FILES, limits: Limits = Limits(), **changes: Any) -> Burst:  # noqa: B008
    return decode_burst(msgspec.json.encode(told(**changes)), files, limits)


def test_each_frame_has_its_bytes_its_digest_and_its_instant() -> None:
    burst = decoded()
    start_us = 1_795_330_800_000_000
    assert [frame.at_us - start_us for frame in burst.frames] == [0, 500_000, 1_001_000]
    assert [frame.image for frame in burst.frames] == FILES
    assert [frame.sha256 for frame in burst.frames] == [hashlib.sha256(image).hexdigest() for image in FILES]


def test_an_instant_in_any_zone_is_the_same_instant() -> None:
    assert decoded(captured_at="2026-11-22T09:00:00+02:00").captured_at_us == decoded().captured_at_us


def test_the_first_frame_may_come_after_captured_at() -> None:
    assert decoded(offsets_ms=[40, 500, 1001]).frames[0].at_us == decoded().captured_at_us + 40_000


def test_keys_that_a_newer_agent_adds_are_ignored() -> None:
    assert decoded(weather="rain", clock={"synced": True, "source": "gps"}) == decoded(clock={"synced": True})


def test_only_what_was_seen_identifies_a_burst() -> None:
    same = decoded(agent={"version": "0.2.0"}, clock={"synced": False}, reason="gate")
    assert same.digest == decoded().digest


@pytest.mark.parametrize(
    "change",
    [
        {"camera": "door"},
        {"site": "south-yard"},
        {"captured_at": "2026-11-22T07:00:00.001Z"},
        {"offsets_ms": [0, 500, 1000]},
        {"mask_digest": "n"},
        {"burst_id": "01975a2e-0000-7000-8000-000000000002"},
    ],
)
def test_whatever_was_seen_otherwise_is_another_burst(change: dict[str, Any]) -> None:
    assert decoded(**change).digest != decoded().digest


def test_a_clock_that_is_not_synchronised_bounds_its_error_or_is_taken_to_be_far_off() -> None:
    assert decoded().clock.error_s == 0
    assert decoded(clock={"synced": False}).clock.error_s == UNSYNCED_UNCERTAINTY_S
    assert decoded(clock={"synced": False, "uncertainty_s": 2.5}).clock.error_s == 2.5


@pytest.mark.parametrize(
    ("change", "error", "frame", "says"),
    [
        ({"burst_id": None}, Malformed, None, "burst_id"),
        ({"burst_id": "short"}, Malformed, None, "8 to 64"),
        ({"burst_id": "has a space in it"}, Malformed, None, "8 to 64"),
        ({"site": "North Yard"}, Malformed, None, "lower-case"),
        ({"camera": ""}, Malformed, None, "lower-case"),
        ({"captured_at": "2026-11-22T07:00:00"}, Malformed, None, "timezone"),
        ({"captured_at": "yesterday"}, Malformed, None, "captured_at"),
        ({"captured_at": "1970-01-01T00:00:07Z"}, Unprocessable, 0, "never set"),
        ({"captured_at": "9999-12-31T23:59:59Z"}, Unprocessable, 0, "never set"),
        ({"captured_at": "9999-12-31T23:59:59-14:00"}, Unprocessable, 0, "never set"),
        ({"offsets_ms": [0, "1", 2]}, Malformed, None, "offsets_ms"),
        ({"offsets_ms": [-1, 500, 1000]}, Unprocessable, 0, "before the burst began"),
        ({"offsets_ms": [0, 500, 500]}, Unprocessable, 2, "does not come after"),
        ({"offsets_ms": [0, 500, 400]}, Unprocessable, 2, "does not come after"),
        ({"offsets_ms": [0, 500, 3_600_001]}, Unprocessable, 2, "3600 s"),
        ({"offsets_ms": [0, 500]}, Unprocessable, 2, "`offsets_ms` names 2 frames but 3"),
        ({"offsets_ms": [0, 500, 600, 700]}, Unprocessable, 3, "`offsets_ms` names 4 frames but 3"),
        ({"frame_sha256": ["0" * 64] * 2}, Unprocessable, 2, "`frame_sha256` names 2"),
        ({"frame_sha256": ["nonsense"] * 3}, Malformed, 0, "64 hexadecimal"),
        ({"clock": {"synced": True, "uncertainty_s": -1}}, Malformed, None, "uncertainty_s"),
        ({"clock": {"monotonic_ms": 2**63}}, Malformed, None, "monotonic_ms"),
        ({"clock": {"boot_id": "b" * 129}}, Malformed, None, "boot_id"),
        ({"agent": {"version": "1" * 129}}, Malformed, None, "version"),
    ],
)
def test_an_envelope_at_fault_is_refused(
    change: dict[str, Any], error: type[Refused], frame: int | None, says: str
) -> None:
    with pytest.raises(error, match=says) as caught:
        decoded(**change)
    assert caught.value.frame == frame


def test_bytes_other_than_their_digest_says_are_refused_by_index() -> None:
    with pytest.raises(Unprocessable, match="SHA-256") as caught:
        decoded([b"first", b"sec0nd", b"third"])
    assert caught.value.frame == 1


def test_a_burst_without_frames_is_refused() -> None:
    with pytest.raises(Unprocessable, match="empty"):
        decoded([], offsets_ms=[], frame_sha256=[])


def test_a_frame_without_bytes_is_refused_by_index() -> None:
    with pytest.raises(Unprocessable, match="empty") as caught:
        decoded([b"first", b"", b"third"])
    assert caught.value.frame == 1


def test_more_frames_than_are_taken_are_refused() -> None:
    with pytest.raises(TooLarge, match="3 frames") as caught:
        decoded(limits=Limits(max_frames=2))
    assert caught.value.frame == 2


def test_a_frame_of_too_many_bytes_is_refused_by_index() -> None:
    with pytest.raises(TooLarge, match="6 bytes") as caught:
        decoded(limits=Limits(max_frame_bytes=5))
    assert caught.value.frame == 1


@pytest.mark.parametrize("data", [b"{", b'{"burst_id": "\xff"}', b"[" * 100_000])
def test_bytes_that_are_not_json_are_refused(data: bytes) -> None:
    with pytest.raises(Malformed, match=r"not JSON|not a burst"):
        decode_burst(data, FILES, Limits())


_wild = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text("aZ0-é\x00", max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", max_size=3), inner, max_size=3),
    max_leaves=5,
)


@given(st.dictionaries(st.sampled_from(sorted(told())), _wild, max_size=4))
def test_whatever_stands_in_the_envelope_it_is_decoded_or_refused(change: dict[str, Any]) -> None:
    try:
        burst = decode_burst(msgspec.json.encode(told() | change), FILES, Limits())
    except Refused:
        return
    assert len(burst.frames) == 3
