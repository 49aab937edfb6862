"""The stored form of a checkpoint's state: exact, smaller, and damage is noticed."""

from __future__ import annotations

import hashlib

import pytest

from policies.fold import State, encode_state
from server.store.compact import pack_state, unpack_state
from server.store.rows import readable_state

HASHES = tuple(hashlib.sha256(bytes([n])).hexdigest() for n in range(8))
STATE = encode_state(State(1_795_330_800_000_000, ("019b76da-a800-7d98-9496-4ac70a22bdaf", 9), HASHES, 1))


@pytest.mark.parametrize("state", [STATE, b"{}", b""])
def test_a_state_comes_back_to_the_last_byte(state: bytes) -> None:
    assert unpack_state(pack_state(state)) == state


def test_the_state_of_an_empty_view_takes_half_of_its_json() -> None:
    assert len(pack_state(STATE)) < len(STATE) / 2 + 50


def test_a_state_of_before_is_read_as_it_is() -> None:
    assert readable_state(STATE, 1_795_330_800_000_000) == STATE
    assert readable_state(STATE.decode(), 1_795_330_800_000_000) == STATE


@pytest.mark.parametrize("stored", [b"\x01", b"\x01\xff\xff", pack_state(STATE)[:-9], pack_state(b"{"), b"\x02", None])
def test_a_damaged_state_cannot_be_read(stored: bytes | None) -> None:
    assert readable_state(stored, 1_795_330_800_000_000) is None
