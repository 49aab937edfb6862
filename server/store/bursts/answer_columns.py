"""The answers of a burst's frames in a record: a column for each model that says one label alone, the rest as deflated
JSON.
"""

from __future__ import annotations

import base64
import zlib
from array import array
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import msgspec

from policies.observation import Prediction

Answers = dict[str, tuple[Prediction, ...] | None]
Column = list[tuple[Prediction, ...] | None]
Only = tuple[str, bytes]
"""A label that each frame has alone, without a box, and its scores. What is longer than these is the evidence of the
first frame.
"""

_PARTS = 10_000.0
"""A score or a brightness is a whole number of these parts of 1."""
_WORDS = (
    b'"nanodet-g":"ssdlite-people":"efficientnet-lite0":"yolov3-tiny":"frame-change":[[{"label":"still","score":0.9}'
    b'"hog-people-small":[[{"label":"truck","score":0.},{"label":"moving","score":0.},{"label":"car","score":0.'
    b'"hog-people":[[],[],[],[],[],[{"label":"person","score":0.9,"box":[0.0,0.1,0.2,1.0]},{"label":"person","score":0.'
    b'}],[{"label":"moving","score":0.8,"box":[0.0,0.5,0.33333,0.66667]}],[{"label":"person","score":0.9'
)
"""What records repeat. It must never change: records of before could not be read."""
_json = msgspec.json.Encoder(order="deterministic")


def parts(values: Sequence[float | None]) -> bytes | None:
    """Floats as whole numbers of ten-thousandths in two bytes each; None if one of them is not."""
    whole = [round(value * _PARTS) if value is not None and 0.0 <= value <= 6.0 else 0 for value in values]
    is_exact = all(
        value is not None and is_same(part / _PARTS, value) for part, value in zip(whole, values, strict=True)
    )
    return b"".join(part.to_bytes(2, "little") for part in whole) if is_exact else None


def floats(parts: bytes) -> list[float]:
    return [part / _PARTS for part in _whole_parts(parts)]


def _whole_parts(parts: bytes) -> Sequence[int]:
    if _IS_LITTLE:
        return memoryview(parts).cast("H")
    whole = array("H", parts)
    whole.byteswap()
    return whole


_IS_LITTLE = array("H", b"\x01\x00")[0] == 1


def is_same(one: float, other: float) -> bool:
    """To the last bit, the sign of zero included."""
    return float(one).hex() == float(other).hex()


def in_columns(answers: Sequence[Answers], models: list[str]) -> tuple[list[Only | int | None] | None, bytes]:
    if not models or any(sorted(frame) != models for frame in answers):
        return None, deflated(_json.encode(answers))
    every = {model: [frame[model] for frame in answers] for model in models}
    kept = [_kept(column) for column in every.values()]
    rest = {model: every[model] for model, each in zip(models, kept, strict=True) if each == 0}
    return kept, deflated(_json.encode(rest)) if rest else b""


def _kept(column: Column) -> Only | int | None:
    if not any(answer is None or answer for answer in column):
        return None
    if any(answer is None or len(answer) != 1 for answer in column):
        return 0
    only = [answer[0] for answer in column if answer]
    if any((each.label, each.box, each.sector) != (only[0].label, None, None) for each in only):
        return 0
    scores, evidence = parts([each.score for each in only]), _raw_evidence(only[0].evidence)
    if scores is None or evidence is None or any(each.evidence is not None for each in only[1:]):
        return 0
    return only[0].label, scores + evidence


def _raw_evidence(text: str | None) -> bytes | None:
    """Evidence as bytes, none without any; None where the bytes do not give the text back."""
    if text is None:
        return b""
    try:
        raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except ValueError:
        return None
    return raw if raw and _evidence(raw) == text else None


def _evidence(raw: bytes) -> str | None:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode() or None


def parted(kept: Only, frames: int) -> tuple[str, bytes, bytes]:
    """The label, the scores and the evidence of the first frame."""
    label, scores = kept
    return label, scores[: 2 * frames], scores[2 * frames :]


def column(label: str, scores: bytes, evidence: bytes) -> Column:
    first, *others = floats(scores)
    return [(Prediction(label, first, evidence=_evidence(evidence)),), *((Prediction(label, each),) for each in others)]


@lru_cache(maxsize=4)
def blank(models: tuple[str, ...]) -> Answers:
    """The answers of a frame in which no model saw anything."""
    return dict.fromkeys(models, ())


@lru_cache(maxsize=4)
def _shared(_models: tuple[str, ...], _place: int, _label: str) -> dict[int, Answers]:
    """Answers that differ in the score alone, by that score in parts. Frames with the same score share one object."""
    return {}


def same_answers(models: tuple[str, ...], place: int, label: str, scores: bytes, evidence: bytes) -> list[Answers]:
    """The answers of frames in which only the model at `place` saw something, which is `label`.

    Equal answers are the same object.
    """
    known = _shared(models, place, label)
    found: list[Answers] = []
    for part in _whole_parts(scores):
        answers = known.get(part)
        if answers is None:
            answers = known[part] = dict.fromkeys(models, ())
            answers[models[place]] = (Prediction(label, part / _PARTS),)
        found.append(answers)
    if evidence:
        found[0] = found[0] | {models[place]: (Prediction(label, floats(scores)[0], evidence=_evidence(evidence)),)}
    return found


def deflated(text: bytes) -> bytes:
    deflate = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS, 9, zdict=_WORDS)
    return deflate.compress(text) + deflate.flush()


def inflated(deflated: bytes) -> Any:
    return zlib.decompressobj(-zlib.MAX_WBITS, zdict=_WORDS).decompress(deflated)
