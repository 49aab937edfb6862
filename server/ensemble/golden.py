"""The golden set: small images with the approved answer of each model.

The server replays it when it loads an ensemble, and at intervals while it serves. Weights and versions may have the
right digests while another library, processor or setting, or failing memory, gives other answers. A label must be the
same unless it had won by less than `SURE`. A score may drift by `DRIFT`, and the edges of a box by `PLACED`. A detector
must give every box with a score of `CERTAIN` or more, and no other.

In float32, kernels for other processors move no score of the shipped set by more than a few thousandths, so `DRIFT` is
narrow: a crop one pixel off moves some scores by hundredths and changes no label. In bfloat16 scores move by up to five
hundredths where nothing is wrong: a classifier may drift by `COARSE_DRIFT` there, and its labels are the guard.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from policies.observation import Box, EnsembleInfo, ModelInfo, Prediction
from server.domain.ensemble_protocol import Answering, Answers
from server.domain.errors import ConfigurationError, Refused, Unapproved
from server.domain.files.text_files import UnreadableText, read_text
from server.domain.precision import Execution

FILE = "golden.json"
SURE = 0.05
CERTAIN = 0.6
DOUBTFUL = 0.4
"""A box of `CERTAIN` or more has a counterpart of at least this score; so a small drift moves no box over a border."""

DRIFT = 0.02
COARSE_DRIFT = 0.08
PLACED = 0.05

_MOST_SHOWN = 4
_MOST_BYTES = 64 * 1024 * 1024
_NOTHING = "nothing"
_MAKE = "`sectorwatch models approve` makes one"
_TODO = "if it is meant, `sectorwatch models approve` approves it"
_COARSE_TODO = 'answers are approved in float32, this server computes in {}: set execution = "fp32"'


class ExpectedBox(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One box of a detector."""

    label: str
    score: float
    box: Box


class Expected(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One model's answer to one image: its best label with score and box, and its lead over any other label.

    `boxes` are a detector's boxes with a score of `DOUBTFUL` or more, best first; None in a set made by version 0.1,
    and for other kinds of models.
    """

    label: str
    score: float
    margin: float
    box: Box | None = None
    boxes: tuple[ExpectedBox, ...] | None = None


class Picture(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An image beside the file, and each model's expected answer to it."""

    file: str
    sha256: str
    expected: dict[str, Expected]


class GoldenSet(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Pictures in the order of time, as in one burst; `ensemble` is the name of the ensemble that was approved."""

    ensemble: str
    pictures: tuple[Picture, ...]

    @property
    def models(self) -> frozenset[str]:
        """The models that the set judges."""
        return frozenset(model for picture in self.pictures for model in picture.expected)

    @property
    def unsure(self) -> list[str]:
        """The models for which no label wins on any picture: another label instead would not be noticed."""
        answers = [answer for picture in self.pictures for answer in picture.expected.items()]
        return sorted(self.models - {model for model, answer in answers if min(answer.margin, answer.score) >= SURE})


_golden_set = msgspec.json.Decoder(GoldenSet)


@dataclass(frozen=True, slots=True)
class Golden:
    """A golden set with its pictures as they were when they were read from `folder`."""

    folder: Path
    set: GoldenSet
    pictures: tuple[bytes, ...]

    @property
    def named_pictures(self) -> dict[str, bytes]:
        """File name -> image, in the order of time."""
        return dict(zip((picture.file for picture in self.set.pictures), self.pictures, strict=True))

    def faults(self, ensemble: Answering, *, execution: Execution = "fp32") -> list[str]:
        """Each difference between the ensemble's answers, computed in `execution`, and the approved ones, in words.

        Models outside the golden set are not judged.
        """
        judged = [info for info in ensemble.ensemble_info.models if info.model in self.set.models]
        if not judged:
            return []
        faults = []
        for picture, answer in zip(self.set.pictures, ensemble.answer(self.pictures), strict=True):
            for info in judged:
                expected = picture.expected.get(info.model)
                drift = DRIFT if info.boxes or execution == "fp32" else COARSE_DRIFT
                fault = _fault(expected, _summary(info, answer.get(info.model)), drift) if expected else None
                if fault:
                    faults.append(f"{info.model} {fault} for {picture.file}")
        return faults

    def check(self, ensemble: Answering, *, execution: Execution = "fp32") -> None:
        """Raises Unapproved, with what changed and what to do, unless the ensemble answers as approved."""
        faults = self.faults(ensemble, execution=execution)
        todo = _TODO if execution == "fp32" else _COARSE_TODO.format(execution)
        if faults:
            more = f"; and {len(faults) - _MOST_SHOWN} more" if len(faults) > _MOST_SHOWN else ""
            raise Unapproved(
                f"the models do not answer as approved in {self.folder}: {'; '.join(faults[:_MOST_SHOWN])}{more}. "
                f"`sectorwatch models check` shows all; {todo}"
            )

    def uncovered(self, ensemble: Answering) -> list[str]:
        """The models of the ensemble that the golden set does not judge."""
        return [info.model for info in ensemble.ensemble_info.models if info.model not in self.set.models]


def shipped_golden() -> Path:
    """The folder of the golden set in the package, which judges all models of the catalogue."""
    return Path(__file__).parents[1] / "catalogue" / "data" / "golden"


def approve(ensemble: Answering, pictures: Mapping[str, bytes], folder: Path) -> GoldenSet:
    """Write the ensemble's answers to these pictures (file name -> bytes, in the order of time) into `folder`.

    Raises ConfigurationError when a model does not answer, or the folder cannot be written.
    """
    if not pictures:
        raise ConfigurationError("a golden set needs pictures")
    try:
        answers = ensemble.answer(list(pictures.values()))
    except Refused as error:
        file = "" if error.frame is None else f"{list(pictures)[error.frame]}: "
        raise ConfigurationError(f"{file}{error.detail}; nothing was approved: take it out of the folder") from error
    kept = tuple(
        Picture(file, hashlib.sha256(content).hexdigest(), _expected(ensemble.ensemble_info, file, answer))
        for (file, content), answer in zip(pictures.items(), answers, strict=True)
    )
    golden = GoldenSet(ensemble.ensemble_info.ensemble, kept)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for file, content in pictures.items():
            (folder / file).write_bytes(content)
        (folder / FILE).write_bytes(msgspec.json.format(msgspec.json.encode(golden), indent=1) + b"\n")
    except OSError as error:
        raise ConfigurationError(
            f"the golden set cannot be written to {folder}: {error.strerror}; --out names another"
        ) from error
    return golden


def read_golden(folder: Path) -> Golden:
    """The golden set of a folder. Raises ConfigurationError when it is incomplete or was changed."""
    try:
        golden = _golden_set.decode(read_text(folder / FILE, most_bytes=_MOST_BYTES))
        pictures = tuple((folder / picture.file).read_bytes() for picture in golden.pictures)
    except UnreadableText as error:
        raise ConfigurationError(f"no golden set in {folder}: {FILE}: {error}; {_MAKE}") from error
    except OSError as error:
        raise ConfigurationError(f"no golden set in {folder}: {error}; {_MAKE}") from error
    except msgspec.MsgspecError as error:
        raise ConfigurationError(f"{folder / FILE} is no golden set: {error}; {_MAKE}") from error
    for picture, content in zip(golden.pictures, pictures, strict=True):
        if hashlib.sha256(content).hexdigest() != picture.sha256:
            raise ConfigurationError(
                f"{folder / picture.file} is not the picture that was approved; restore it, or {_MAKE}"
            )
    return Golden(folder, golden, pictures)


def _expected(ensemble_info: EnsembleInfo, file: str, answer: Answers) -> dict[str, Expected]:
    """Each model's answer as it is approved. Raises ConfigurationError when a model did not answer."""
    summaries = {info.model: _summary(info, answer.get(info.model)) for info in ensemble_info.models}
    silent = [model for model, summary in summaries.items() if summary is None]
    if silent:
        raise ConfigurationError(f"{', '.join(silent)} did not answer for {file}: nothing to approve")
    return {model: summary for model, summary in summaries.items() if summary is not None}


def _summary(info: ModelInfo, predictions: tuple[Prediction, ...] | None) -> Expected | None:
    """The best label of the whole view, and a detector's boxes; `nothing` for a model without predictions."""
    if predictions is None:
        return None
    whole = [prediction for prediction in predictions if prediction.sector is None]
    boxes = _boxes(whole) if info.boxes and info.votes else None
    if not whole:
        return Expected(_NOTHING, 0.0, 1.0, boxes=boxes)
    unboxed = [prediction for prediction in whole if prediction.box is None]
    best = max(unboxed or whole, key=lambda prediction: prediction.score)
    others = [prediction.score for prediction in whole if prediction.label != best.label]
    margin = round(best.score - max(others, default=0.0), 4)
    return Expected(best.label, best.score, margin, best.box, boxes)


def _boxes(predictions: Sequence[Prediction]) -> tuple[ExpectedBox, ...]:
    boxes = [ExpectedBox(each.label, each.score, each.box) for each in predictions if each.box is not None]
    return tuple(sorted((box for box in boxes if box.score >= DOUBTFUL), key=lambda box: -box.score))


def _fault(expected: Expected, summary: Expected | None, drift: float) -> str | None:
    """How a model's answer differs from the expected one, in words; None when it does not."""
    if summary is None:
        return f"did not answer, where it had said `{expected.label}`"
    if summary.label != expected.label:
        if min(expected.margin, max(summary.score, expected.score)) >= SURE:
            was = f"`{expected.label}` ({expected.score:.2f}, ahead by {expected.margin:.2f})"
            return f"says `{summary.label}` ({summary.score:.2f}) instead of {was}"
    elif abs(summary.score - expected.score) > drift:
        return f"gives `{summary.label}` a score of {summary.score:.4f} instead of {expected.score:.4f}"
    elif (summary.box is None) != (expected.box is None):
        return f"no longer says where `{summary.label}` is, or now does"
    elif summary.box is not None and expected.box is not None and not _same_place(summary.box, expected.box):
        return f"sees `{summary.label}` at {summary.box} instead of {expected.box}"
    return None if expected.boxes is None or summary.boxes is None else _boxes_fault(expected.boxes, summary.boxes)


def _boxes_fault(expected: Sequence[ExpectedBox], boxes: Sequence[ExpectedBox]) -> str | None:
    """A box of `CERTAIN` or more, of either, without a counterpart of its own in the other."""
    for verb, ours, theirs in (("no longer sees", expected, boxes), ("also sees", boxes, expected)):
        for box in _unmatched(ours, theirs):
            return f"{verb} `{box.label}` ({box.score:.2f}) at {box.box}"
    return None


def _unmatched(boxes: Sequence[ExpectedBox], others: Sequence[ExpectedBox]) -> list[ExpectedBox]:
    free, unmatched = list(others), []
    for box in boxes:
        partner = next((o for o in free if o.label == box.label and _same_place(o.box, box.box)), None)
        if partner is not None:
            free.remove(partner)
        elif box.score >= CERTAIN:
            unmatched.append(box)
    return unmatched


def _same_place(box: Box, other: Box) -> bool:
    return all(abs(edge - other_edge) <= PLACED for edge, other_edge in zip(box, other, strict=True))
