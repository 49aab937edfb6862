"""The record of a burst: everything about it that no query looks for, in as few bytes as it takes.

A record is MessagePack, an array with the fields of `Packed`. Hashes are bytes. What every frame has alike is written
once. Scores and brightness have four decimals, so that a whole number of ten-thousandths gives the same float back; one
that does not is written as it is. Predictions that are more than one label a frame are JSON, as on the wire, deflated
(RFC 1951) with the words of `answer_columns` as the dictionary. Nothing that comes back differs in a bit.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

import msgspec

from policies.fusion.judgement import Judgement
from policies.observation import Observation
from server.domain.burst import burst_digest
from server.store.bursts.answer_columns import (
    Answers,
    Column,
    Only,
    blank,
    column,
    deflated,
    floats,
    in_columns,
    inflated,
    is_same,
    parted,
    parts,
    same_answers,
)
from server.store.compact.column_types import uuid_of, uuid_to_bytes

_SEAL_BYTES = 8
"""Of a SHA-256: enough against accidents and single changes."""
_HALF = 8
"""Bytes of half a UUID."""
_MS_US = 1000


class Packed(msgspec.Struct, frozen=True, array_like=True):
    """A record as it is stored; spans in microseconds.

    `id_rest`: what `id_key` leaves out of the burst_id. `lead_us`: from captured_at to the first frame. `received_us`
    and `sent_us` count from the last frame. `uncertainty`: microseconds, or seconds if it is no whole number of them.
    `digest`: the first bytes of the burst's digest, which the rest gives; the whole text where the rest does not give
    it. `judged`: the seal of the decision record. `steps`: unit (us), the first step between frames, and by how much
    each differs from it, nothing if none does. `columns`: for each model of `models_of`: None if it saw nothing in any
    frame, the one label of every frame, or 0, and `rest` has it; None where not all frames have the same models.
    `decisions`: the decision record, deflated, where the answers and the policy do not give it.
    """

    id_rest: bytes
    lead_us: int
    received_us: int
    sent_us: int | None
    monotonic_ms: int | None
    image_bytes: int
    uncertainty: int | float
    digest: bytes
    judged: bytes
    hashes: bytes | list[str]
    sizes: list[int]
    steps: tuple[int, int, list[int]]
    brightness: bytes | list[float | None]
    columns: list[Only | int | None] | None
    rest: bytes
    decisions: bytes | None

    @property
    def frames(self) -> int:
        return len(self.hashes) // 32 if isinstance(self.hashes, bytes) else len(self.hashes)

    @property
    def frame_sha256(self) -> list[str]:
        """The hash of each frame, hex."""
        if isinstance(self.hashes, list):
            return self.hashes
        return self.hashes.hex(" ", -32).split(" ")

    @property
    def uncertainty_s(self) -> float:
        return self.uncertainty / 1e6 if isinstance(self.uncertainty, int) else self.uncertainty

    @property
    def offsets_us(self) -> list[int]:
        """From the first frame to each."""
        unit, step, differences = self.steps
        if not differences:
            return [unit * step * index for index in range(self.frames)]
        return list(accumulate((unit * (step + each) for each in differences), initial=0))

    @property
    def frame_sizes(self) -> list[tuple[int, int]]:
        """Width and height of each frame in pixels."""
        if len(self.sizes) == 2:
            return [(self.sizes[0], self.sizes[1])] * self.frames
        return list(zip(self.sizes[::2], self.sizes[1::2], strict=True))

    @property
    def brightnesses(self) -> Sequence[float | None]:
        return floats(self.brightness) if isinstance(self.brightness, bytes) else self.brightness

    def answers(self, models: Sequence[str]) -> list[Answers]:
        """The answers of each frame; `models` as `models_of` gives them."""
        if self.columns is None:
            return _answers_by_frame.decode(inflated(self.rest))
        if len(models) != len(self.columns):
            raise ValueError(f"a record has answers of {len(self.columns)} models, not of {len(models)}")
        seen = [(place, kept) for place, kept in enumerate(self.columns) if kept is not None]
        if not seen:
            return [blank(tuple(models))] * self.frames
        [(place, kept), *others] = seen
        if not others and not isinstance(kept, int):  # most bursts: nothing there, and frame-change says so
            return same_answers(tuple(models), place, *parted(kept, self.frames))
        rest = _answers_by_model.decode(inflated(self.rest)) if self.rest else {}
        nothing: Column = [()] * self.frames
        columns = [
            nothing if kept is None else rest[model] if isinstance(kept, int) else column(*parted(kept, self.frames))
            for model, kept in zip(models, self.columns, strict=True)
        ]
        return [dict(zip(models, frame)) for frame in zip(*columns, strict=True)]  # noqa: B905 - as long as each other

    def decision_record(self) -> list[Judgement] | None:
        """The decision record, if it is stored."""
        return None if self.decisions is None else _judgements.decode(inflated(self.decisions))

    def digest_of(self, burst_id: str, site: str, camera: str, first_at_us: int, mask_digest: str | None) -> str:
        """The burst's digest as its frames give it, or, where they give another than at acceptance, what is stored of
        that one.
        """
        if len(self.digest) != _SEAL_BYTES:
            return _text(self.digest)
        given = _digest(burst_id, site, camera, first_at_us, self, mask_digest)
        return given if given.startswith(self.digest.hex()) else self.digest.hex()


class Glance(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What of a record tells whether its frames tell anything: decoding it takes a third of what `Packed` takes."""

    id_rest: Any
    lead_us: Any
    received_us: Any
    sent_us: Any
    monotonic_ms: Any
    image_bytes: Any
    uncertainty: Any
    digest: Any
    judged: Any
    hashes: bytes | list[str]
    sizes: msgspec.Raw
    steps: msgspec.Raw
    brightness: msgspec.Raw
    columns: msgspec.Raw
    rest: bytes

    @property
    def frames(self) -> int:
        return len(self.hashes) // 32 if isinstance(self.hashes, bytes) else len(self.hashes)

    @property
    def frame_digests(self) -> frozenset[bytes | str]:
        """The hashes of the frames: 32 bytes, or a text that is no SHA-256."""
        if isinstance(self.hashes, list):
            return frozenset(_digest_in(text) or text for text in self.hashes)
        return frozenset(struct.unpack("32s" * self.frames, self.hashes))

    @property
    def may_lack_answers(self) -> bool:
        """Whether a model may not have answered for some frame; False: all answered."""
        return bytes(self.columns) == _NONE or (bool(self.rest) and b"null" in inflated(self.rest))


@dataclass(frozen=True, slots=True)
class Loose:
    """What goes into a record besides the observations. `decisions` is the JSON of the decision record; `is_derived`:
    the answers and the policy give it, so that its seal is enough.
    """

    captured_at_us: int
    received_at_us: int
    sent_at_us: int | None
    monotonic_ms: int | None
    image_bytes: int
    digest: str
    decisions: bytes
    is_derived: bool = True


_pack = msgspec.msgpack.Encoder()
_unpack = msgspec.msgpack.Decoder(Packed)
_glance = msgspec.msgpack.Decoder(Glance)
_NONE = msgspec.msgpack.encode(None)
_json = msgspec.json.Encoder(order="deterministic")
_answers_by_model = msgspec.json.Decoder(dict[str, Column])
_answers_by_frame = msgspec.json.Decoder(list[Answers])
_judgements = msgspec.json.Decoder(list[Judgement])


def pack(loose: Loose, seen: Sequence[Observation]) -> bytes:
    """The record of a burst with these frames, at least one."""
    first, last = seen[0], seen[-1]
    columns, rest = in_columns([frame.answers for frame in seen], models_of(seen))
    packed = Packed(
        id_rest=split_id(first.burst_id)[1],
        lead_us=first.at_us - loose.captured_at_us,
        received_us=loose.received_at_us - last.at_us,
        sent_us=None if loose.sent_at_us is None else loose.sent_at_us - last.at_us,
        monotonic_ms=loose.monotonic_ms,
        image_bytes=loose.image_bytes,
        uncertainty=_micro(first.uncertainty_s),
        digest=_unlike(loose.digest, _SEAL_BYTES),
        judged=seal(loose.decisions),
        hashes=_hashes([frame.frame_sha256 for frame in seen]),
        sizes=_sizes([frame.size for frame in seen]),
        steps=_steps([frame.at_us for frame in seen]),
        brightness=_brightness([frame.brightness for frame in seen]),
        columns=columns,
        rest=rest,
        decisions=None if loose.is_derived else deflated(loose.decisions),
    )
    given = _digest(first.burst_id, first.site, first.camera, first.at_us, packed, first.mask_digest)
    if given == loose.digest:
        packed = msgspec.structs.replace(packed, digest=bytes.fromhex(given)[:_SEAL_BYTES])
    return _pack.encode(packed)


def unpack(record: bytes) -> Packed:
    return _unpack.decode(record)


def glance(record: bytes) -> Glance:
    return _glance.decode(record)


def all_differ(glances: Sequence[Glance], others: Iterable[bytes | str]) -> bool:
    """Whether each frame of some records has another hash than the rest of them and than `others`; False: not all, or
    a hash is no SHA-256.
    """
    joined = b"".join([each.hashes for each in glances if isinstance(each.hashes, bytes)])
    digests = {*struct.unpack("32s" * (len(joined) // 32), joined)}
    return len(digests) == sum([each.frames for each in glances]) and digests.isdisjoint(others)


def seal(decisions: bytes) -> bytes:
    """What a record keeps of a decision record (its deterministic JSON), so that a change is noticed."""
    return hashlib.sha256(decisions).digest()[:_SEAL_BYTES]


def seal_of(judgements: Iterable[Judgement]) -> bytes:
    """The seal of a decision record."""
    return seal(_json.encode(list(judgements)))


def models_of(seen: Sequence[Observation]) -> list[str]:
    """The names of the models that a burst's first frame has answers of, in order."""
    return sorted(seen[0].answers)


def split_id(burst_id: str) -> tuple[int, bytes]:
    """The key of a burst's id, and what the key leaves out.

    Of a UUID the key is the first half, which rises with time in those that agents make, so that new bursts are near
    each other in the index. The key of another text is 64 bits of its SHA-256.
    """
    raw = uuid_to_bytes(burst_id)
    if len(raw) != 2 * _HALF:
        key = hashlib.sha256(burst_id.encode()).digest()[:_HALF]
        return int.from_bytes(key, "big", signed=True), _unlike(burst_id, _HALF)
    return int.from_bytes(raw[:_HALF], "big", signed=True), raw[_HALF:]


def joined_id(id_key: int, rest: bytes) -> str:
    """The id that `split_id` split."""
    if len(rest) != _HALF:
        return _text(rest)
    return uuid_of(id_key.to_bytes(_HALF, "big", signed=True) + rest)


def _unlike(text: str, length: int) -> bytes:
    """A text as bytes that are not `length` many. No text in a record begins with NUL."""
    raw = b"\0" + text.encode()
    return raw if len(raw) != length else b"\0" + raw


def _text(raw: bytes) -> str:
    return raw.lstrip(b"\0").decode()


def _digest(burst_id: str, site: str, camera: str, first_at_us: int, packed: Packed, mask_digest: str | None) -> str:
    offsets_ms = [(packed.lead_us + offset) // _MS_US for offset in packed.offsets_us]
    captured_at_us = first_at_us - packed.lead_us
    return burst_digest(burst_id, site, camera, captured_at_us, offsets_ms, packed.frame_sha256, mask_digest)


def _micro(seconds: float) -> int | float:
    whole = round(seconds * 1e6) if seconds < 1e9 else 0
    return whole if is_same(whole / 1e6, seconds) else float(seconds)


def _hashes(texts: list[str]) -> bytes | list[str]:
    raw = [_digest_in(text) for text in texts]
    return texts if None in raw else b"".join(raw)  # type: ignore[arg-type]


def _digest_in(text: str) -> bytes | None:
    """The 32 bytes of a SHA-256 in lower hex; None for another text."""
    try:
        raw = bytes.fromhex(text)
    except ValueError:
        return None
    return raw if len(raw) == 32 and raw.hex() == text else None


def _sizes(sizes: Sequence[tuple[int, int]]) -> list[int]:
    """Width and height of the frames, once if all have the same."""
    return [*sizes[0]] if len(set(sizes)) == 1 else [edge for size in sizes for edge in size]


def _steps(instants_us: Sequence[int]) -> tuple[int, int, list[int]]:
    steps = [after - before for before, after in pairwise(instants_us)]
    unit = _MS_US if all(step % _MS_US == 0 for step in steps) else 1
    first = steps[0] // unit if steps else 0
    differences = [step // unit - first for step in steps]
    return unit, first, differences if any(differences) else []


def _brightness(values: list[float | None]) -> bytes | list[float | None]:
    return parts(values) or values
