"""An event in its compact form comes back as it was, bit for bit, whatever it holds."""

from __future__ import annotations

import random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from policies.events import Event, Provenance, instant, microseconds
from server.store.compact import Columns, Source, decode_origin, encode_origin, is_intact, pack_event, unpack_event
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
FRAMES = ["00" * 32, "ab" * 32, "cd" * 32]


def columns_of(event: Event) -> Columns:
    return Columns(event.id, event.site, event.camera, microseconds(event.started_at), microseconds(event.confirmed_at))


def sources_of(event: Event, *, is_stored: bool) -> tuple[Source, Source | None]:
    """The burst that settled it and the one before; `is_stored`: with the hashes of their frames."""
    frames = FRAMES if is_stored else ()
    *before, own = event.provenance.burst_ids
    return Source(own, frames[:2]), Source(before[0], frames[2:]) if before and is_stored else None


def there_and_back(event: Event, *, is_stored: bool = False) -> tuple[bytes, Event] | None:
    sources = sources_of(event, is_stored=is_stored)
    body = pack_event(event, columns_of(event), *sources)
    if body is None:
        return None
    return body, unpack_event(body, columns_of(event), decode_origin(encode_origin(event)), *sources)


def encoded(event: Event) -> bytes:
    return msgspec.json.encode(event, order="deterministic")


SOURCE = EVENT.provenance


@pytest.mark.parametrize("is_stored", [True, False])
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
def test_an_event_comes_back_bit_for_bit_and_is_small(changes: dict[str, object], is_stored: bool) -> None:
    event = replace(EVENT, **changes)
    found = there_and_back(event, is_stored=is_stored)
    assert found is not None
    body, back = found
    assert encoded(back) == encoded(event)
    assert is_intact(body, back)
    assert len(body) < (90 if is_stored else 160)


@pytest.mark.parametrize(
    "changes",
    [
        {"votes": {"a,b": "for"}},
        {"provenance": replace(SOURCE, frame_sha256=("not a hash",))},
        {"provenance": replace(SOURCE, frame_sha256=("AB" * 32,))},
        {"provenance": replace(SOURCE, burst_ids=("a", "b", UUID))},
    ],
)
def test_an_event_that_would_not_come_back_has_no_body(changes: dict[str, object]) -> None:
    assert there_and_back(replace(EVENT, **changes)) is None


@given(st.floats(allow_nan=False, allow_infinity=False), st.floats(0, 1), st.floats(0, 1e9))
def test_any_number_comes_back_bit_for_bit(margin: float, score: float, uncertainty_s: float) -> None:
    event = replace(EVENT, margin=margin, score=score, time_uncertainty_s=uncertainty_s)
    found = there_and_back(event)
    assert found is not None
    assert encoded(found[1]) == encoded(event)


def test_any_altered_column_breaks_the_seal() -> None:
    sources = sources_of(EVENT, is_stored=True)
    body = pack_event(EVENT, columns_of(EVENT), *sources)
    assert body is not None
    for name in Columns.__slots__:
        value = getattr(columns_of(EVENT), name)
        altered = {field: getattr(columns_of(EVENT), field) for field in Columns.__slots__}
        altered[name] = value + 1 if isinstance(value, int) else value + "x"
        changed = unpack_event(body, Columns(**altered), decode_origin(encode_origin(EVENT)), *sources)
        assert not is_intact(body, changed), name


def test_an_event_whose_burst_is_lost_is_read_and_not_intact() -> None:
    body = pack_event(EVENT, columns_of(EVENT), *sources_of(EVENT, is_stored=True))
    assert body is not None
    found = unpack_event(body, columns_of(EVENT), decode_origin(encode_origin(EVENT)), Source(""), None)
    assert (found.kind, found.provenance.frame_sha256) == ("entered", ("cd" * 32,)), "no record had the second"
    assert not is_intact(body, found)


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
