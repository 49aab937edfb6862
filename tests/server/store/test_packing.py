"""A record gives everything back to the last bit, and is small."""

from __future__ import annotations

import random
from typing import Any

import msgspec
import pytest

from policies.observation import EnsembleInfo, ModelInfo, Observation, Prediction
from server.domain.burst import burst_digest
from server.store.bursts.packing import Answers, Loose, Packed, joined_id, models_of, pack, split_id, unpack

MODELS = ("yolov3-tiny", "frame-change", "hog-people")
INFO = EnsembleInfo("e", tuple(ModelInfo(name, frozenset({"person"}), boxes=True) for name in MODELS))
STILL = (Prediction("still", 0.9123),)
EVIDENT = (Prediction("still", 0.9123, evidence="_-7v8PHy8_T19vf4-fr7_A"),)
PERSON = Prediction("person", 0.8, (0.0, 0.12345, 1 / 3, 1.0))
UUID = "01938a2c-7d54-7c0b-9b0e-0f6f6d1d2a71"


def frames(every: list[Answers], **more: Any) -> list[Observation]:
    chance = random.Random(1)
    return [
        Observation(
            "yard",
            "gate",
            more.get("burst_id", UUID),
            i,
            1_795_330_800_000_000 + 500_000 * i + more.get("jitter_us", 0) * (i % 3),
            INFO,
            answers,
            more.get("sha256", chance.randbytes(32).hex()),
            None,
            more.get("uncertainty_s", 0.012),
            more.get("size", (768, 576)),
            more.get("brightness", 0.4321),
        )
        for i, answers in enumerate(every)
    ]


def loose(seen: list[Observation], **more: Any) -> Loose:
    first_us = seen[0].at_us
    offsets = [(frame.at_us - first_us) // 1000 for frame in seen]
    digest = burst_digest(
        seen[0].burst_id, "yard", "gate", first_us, offsets, [frame.frame_sha256 for frame in seen], None
    )
    return Loose(first_us, first_us + 7, None, None, 123, **{"digest": digest, "decisions": b"[]"} | more)


def given_back(packed: Packed, seen: list[Observation]) -> list[Observation]:
    first = seen[0]
    columns = zip(
        packed.offsets_us,
        packed.answers(models_of(seen)),
        packed.frame_sha256,
        packed.frame_sizes,
        packed.brightnesses,
        strict=True,
    )
    burst_id = joined_id(split_id(first.burst_id)[0], packed.id_rest)
    return [
        Observation(
            "yard",
            "gate",
            burst_id,
            i,
            first.at_us + offset,
            INFO,
            answers,
            sha,
            None,
            packed.uncertainty_s,
            size,
            light,
        )
        for i, (offset, answers, sha, size, light) in enumerate(columns)
    ]


NOBODY: Answers = {"frame-change": STILL, "hog-people": (), "yolov3-tiny": ()}


@pytest.mark.parametrize(
    ("every", "more"),
    [
        ([NOBODY], {}),
        ([NOBODY] * 10, {}),
        ([NOBODY, NOBODY | {"hog-people": (PERSON, PERSON)}] * 5, {"jitter_us": 1}),
        ([NOBODY, NOBODY | {"hog-people": None}], {"jitter_us": 3000}),
        ([NOBODY | {"frame-change": (Prediction("still", 1 / 3),)}] * 3, {"brightness": 1 / 3}),
        ([NOBODY | {"frame-change": (Prediction("still", -0.0),)}] * 3, {"brightness": None}),
        ([NOBODY | {"yolov3-tiny": (Prediction("car", 0.5, None, "west"),)}] * 3, {"uncertainty_s": 0.1 + 0.2}),
        ([NOBODY, {"hog-people": ()}], {"sha256": "beef", "size": (4, 3)}),
        ([{}, {}], {"burst_id": "burst-1"}),
        ([NOBODY] * 2, {"burst_id": UUID.upper(), "uncertainty_s": 1e12}),
        ([NOBODY | {"frame-change": EVIDENT}, *[NOBODY | {"frame-change": STILL}] * 9], {}),
        ([NOBODY | {"frame-change": EVIDENT, "hog-people": (PERSON,)}, NOBODY | {"frame-change": STILL}], {}),
        ([NOBODY | {"frame-change": EVIDENT}] * 2, {}),
        ([NOBODY | {"frame-change": (Prediction("still", 0.9, evidence="AAAA="),)}, NOBODY], {}),
        ([NOBODY | {"frame-change": (Prediction("still", 0.9, evidence="A"),)}], {}),
    ],
)
def test_a_record_gives_back_its_frames_to_the_last_bit(every: list[Answers], more: dict[str, Any]) -> None:
    seen = frames(every, **more)
    given = given_back(unpack(pack(loose(seen), seen)), seen)
    assert given == seen
    assert msgspec.json.encode(given, order="deterministic") == msgspec.json.encode(seen, order="deterministic")


@pytest.mark.parametrize("burst_id", [UUID, UUID.upper(), "burst-00001", "1234567", "12345678", "é" * 36])
def test_an_id_is_its_key_and_the_rest(burst_id: str) -> None:
    key, rest = split_id(burst_id)
    assert joined_id(key, rest) == burst_id
    assert -(2**63) <= key < 2**63


def test_ids_of_the_agent_have_rising_keys() -> None:
    assert split_id(UUID)[0] < split_id("01938a2c-8000-7000-8000-000000000000")[0]


@pytest.mark.parametrize("digest", [None, "another", "a" * 64])
def test_a_digest_comes_back_whether_the_frames_give_it_or_not(digest: str | None) -> None:
    seen = frames([NOBODY] * 3)
    more = {} if digest is None else {"digest": digest}
    packed = unpack(pack(loose(seen, **more), seen))
    assert packed.digest_of(UUID, "yard", "gate", seen[0].at_us, None) == loose(seen, **more).digest


def test_a_decision_record_that_is_not_derived_is_stored() -> None:
    seen = frames([NOBODY])
    body = b'[{"candidates":[],"undecided":[["person","west"]]}]'
    [judgement] = unpack(pack(loose(seen, decisions=body, is_derived=False), seen)).decision_record() or []
    assert judgement.undecided == (("person", "west"),)
    assert unpack(pack(loose(seen, decisions=body), seen)).decision_record() is None


def test_ten_quiet_frames_take_under_480_bytes_hashes_included() -> None:
    seen = frames([NOBODY] * 10, jitter_us=7000)
    assert len(pack(loose(seen), seen)) < 480


def test_evidence_of_ten_bytes_makes_a_record_ten_bytes_larger() -> None:
    evident = (Prediction("still", 0.9123, evidence="AQIDBAUGBwgJCg"),)
    plain, more = (
        frames([NOBODY | {"frame-change": first}, *[NOBODY | {"frame-change": STILL}] * 9])
        for first in (STILL, evident)
    )
    assert len(pack(loose(more), more)) == len(pack(loose(plain), plain)) + 10


@pytest.mark.parametrize("label", ["still", ""])
def test_quiet_frames_of_any_burst_share_their_answers_where_these_are_equal(label: str) -> None:
    scores = (0.9, 0.8, 0.9, 0.0)
    quiet: list[Answers] = [
        {"yolov3-tiny": (), "frame-change": (Prediction(label, score),), "hog-people": ()} for score in scores
    ]
    seen = frames(quiet)
    first, second = (unpack(pack(loose(seen), seen)).answers(models_of(seen)) for _ in range(2))
    assert first == second == quiet
    assert first[0] is first[2] is second[0]
    nothing: list[Answers] = [dict.fromkeys(MODELS, ())] * 3
    assert unpack(pack(loose(frames(nothing)), frames(nothing))).answers(models_of(frames(nothing))) == nothing
