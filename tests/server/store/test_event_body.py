"""An event in its compact form comes back as it was, bit for bit, whatever it holds."""

from __future__ import annotations

import random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from policies.events import Event, Provenance, instant, microseconds
from server.store.compact import Columns, decode_origin, encode_origin, is_intact, pack_event, unpack_event
from server.store.compact.column_types import hex_of, hex_to_bytes, uuid_of, uuid_to_bytes

UUID = "019b76da-a800-76c0-b51f-4e0381f9c1f6"
OTHER = "019b76da-b000-7fff-b51f-4e0381f9c1f6"
EVENT = Event(
    id="6c5a2e7d670cd89442ff3e374838f7e9",
    kind="entered",
    site="pets",
    camera="gate",
    label="person",
    sector="grass",
    direction="left",
    started_at=instant(1_767_225_600_000_000),
    confirmed_at=instant(1_767_225_602_016_000),
    time_uncertainty_s=0.501,
    track="31b342abb52f",
    score=0.9,
    votes={"hog-people": "against", "nanodet-g": "missing", "ssd": "abstain", "yolov3-tiny": "for"},
    margin=0.5,
    provenance=Provenance((UUID,), ("ab" * 32, "cd" * 32), "e" * 64, "f" * 64, None),
)


def columns_of(event: Event) -> Columns:
    return Columns(
        event.id,
        event.site,
        event.camera,
        event.kind,
        event.sector or event.to_sector,
        event.label,
        microseconds(event.started_at),
        microseconds(event.confirmed_at),
        event.provenance.burst_ids[-1],
    )


def there_and_back(event: Event) -> tuple[bytes, Event]:
    body = pack_event(event, columns_of(event))
    return body, unpack_event(body, columns_of(event), decode_origin(encode_origin(event)))


def encoded(event: Event) -> bytes:
    return msgspec.json.encode(event, order="deterministic")


SOURCE = EVENT.provenance


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"kind": "moved", "sector": None, "from_sector": "grass", "to_sector": "road"},
        {"kind": "moved", "sector": "grass", "to_sector": "road"},
        {"kind": "crossed", "sector": None, "line": "mid", "direction": "left_to_right"},
        {"ended_at": instant(1_767_225_601_000_001), "track": None, "direction": None},
        {"score": None, "margin": None, "votes": {}},
        {"score": 1.0, "margin": -0.25, "time_uncertainty_s": 0.0},
        {"score": 1 / 3, "margin": 0.1 + 0.2, "time_uncertainty_s": 1e-9},
        {"score": -0.0, "margin": -0.0},
        {"track": "not hexadecimal"},
        {"track": "00ff"},
        {"track": ""},
        {"provenance": replace(SOURCE, burst_ids=(OTHER, UUID), mask_digest="m")},
        {"provenance": replace(SOURCE, burst_ids=("burst-00001", "burst-00002"), frame_sha256=("ab" * 32,))},
    ],
)
def test_an_event_comes_back_bit_for_bit_and_is_small(changes: dict[str, object]) -> None:
    event = replace(EVENT, **changes)
    body, back = there_and_back(event)
    assert encoded(back) == encoded(event)
    assert is_intact(body, back)
    assert len(body) < 180 < len(encoded(event))


@pytest.mark.parametrize(
    "changes",
    [
        {"votes": {"a,b": "for"}},
        {"provenance": replace(SOURCE, frame_sha256=("not a hash",))},
        {"provenance": replace(SOURCE, frame_sha256=("AB" * 32,))},
        {"provenance": replace(SOURCE, burst_ids=("a", "b", UUID))},
    ],
)
def test_an_event_that_would_not_come_back_is_stored_as_its_json(changes: dict[str, object]) -> None:
    event = replace(EVENT, **changes)
    body, back = there_and_back(event)
    assert body == encoded(event) == encoded(back)


@given(st.floats(allow_nan=False, allow_infinity=False), st.floats(0, 1), st.floats(0, 1e9))
def test_any_number_comes_back_bit_for_bit(margin: float, score: float, uncertainty_s: float) -> None:
    event = replace(EVENT, margin=margin, score=score, time_uncertainty_s=uncertainty_s)
    assert encoded(there_and_back(event)[1]) == encoded(event)


def test_any_altered_column_breaks_the_seal() -> None:
    body = pack_event(EVENT, columns_of(EVENT))
    for name in Columns.__slots__:
        value = getattr(columns_of(EVENT), name)
        altered = {field: getattr(columns_of(EVENT), field) for field in Columns.__slots__}
        altered[name] = value + 1 if isinstance(value, int) else value + "x"
        changed = unpack_event(body, Columns(**altered), decode_origin(encode_origin(EVENT)))
        assert not is_intact(body, changed), name


IDS = st.one_of(
    st.uuids().map(str),
    st.uuids().map(lambda each: each.hex),
    st.uuids().map(lambda each: str(each).upper()),
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=40),
)


@given(IDS)
def test_an_id_of_any_form_comes_back(text: str) -> None:
    assert uuid_of(uuid_to_bytes(text)) == text
    assert hex_of(hex_to_bytes(text)) == text


def test_ids_have_the_order_of_their_texts() -> None:
    chance = random.Random(5)
    events = [f"{chance.getrandbits(128):032x}" for _ in range(99)]
    names = [f"burst-{chance.getrandbits(20):0{width}d}" for width in (3, 7, 9, 10, 11) for _ in range(20)]
    assert sorted(events, key=hex_to_bytes) == sorted(events)
    assert sorted(names, key=uuid_to_bytes) == sorted(names)
