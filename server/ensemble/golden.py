"""The golden set: small pictures with what each model said of them when somebody approved it.

It is replayed when an ensemble is loaded, and now and then while it serves: weights and sources may have the right
digests, and yet another library, processor or setting, or failing memory, may give other answers. Floats are never
compared for equality. A label has to be the same unless it had won by less than `SURE`; a score may drift by `DRIFT`,
the edges of a box by `PLACED`.

In float32 the kernels for other processors move no score of the shipped set by more than a few thousandths, so that
`DRIFT` is narrow: a crop one pixel off moves some by hundredths, and changes no label. In bfloat16 scores move by up to
five hundredths where nothing is wrong: a classifier is given `COARSE_DRIFT` there, and it is labels that tell.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import msgspec

from policies.observation import Box, EnsembleInfo, ModelInfo, Prediction
from server.domain.errors import ConfigurationError, Refused, Unapproved
from server.domain.precision import Execution

FILE = "golden.json"
SURE = 0.05
DRIFT = 0.02
COARSE_DRIFT = 0.08
PLACED = 0.05

_SHOWN = 4
_NOTHING = "nothing"
_MAKE = "`sectorwatch models approve` makes one"
_TODO = "if it is meant, `sectorwatch models approve` approves it"
_COARSE_TODO = 'answers are approved in float32, this server computes in {}: set execution = "fp32"'


class Expected(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What one model says of one picture: its best label with score and box, and how far ahead of any other label."""

    label: str
    score: float
    margin: float
    box: Box | None = None


class Picture(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A picture beside the file, and what is expected of it, by model."""

    file: str
    sha256: str
    expected: dict[str, Expected]


class GoldenSet(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Pictures in the order of time, as one burst; `ensemble` is the name of the one that was approved."""

    ensemble: str
    pictures: tuple[Picture, ...]

    @property
    def models(self) -> frozenset[str]:
        return frozenset(model for picture in self.pictures for model in picture.expected)

    @property
    def unsure(self) -> list[str]:
        """The models for which no label wins on any picture: another label instead would not be noticed."""
        said = [pair for picture in self.pictures for pair in picture.expected.items()]
        return sorted(self.models - {model for model, each in said if min(each.margin, each.score) >= SURE})


class Ensemble(Protocol):
    @property
    def ensemble_info(self) -> EnsembleInfo: ...

    def answer(self, images: Sequence[bytes]) -> Sequence[Mapping[str, tuple[Prediction, ...] | None]]: ...


def shipped_golden() -> Path:
    """The folder of the golden set that comes with the package: all models of the catalogue, drawn pictures."""
    return Path(__file__).parents[1] / "catalogue" / "data" / "golden"


def approve(ensemble: Ensemble, pictures: Mapping[str, bytes], folder: Path) -> GoldenSet:
    """Write what the ensemble says of these pictures (file name -> bytes, in the order of time) into `folder`.

    Raises ConfigurationError when a model does not answer, or the folder cannot be written.
    """
    if not pictures:
        raise ConfigurationError("a golden set needs pictures")
    try:
        answers = ensemble.answer(list(pictures.values()))
    except Refused as error:
        of = "" if error.frame is None else f"{list(pictures)[error.frame]}: "
        raise ConfigurationError(f"{of}{error.detail}; nothing was approved: take it out of the folder") from error
    kept = []
    for (file, content), answer in zip(pictures.items(), answers, strict=True):
        said = {
            model_info.model: _said(model_info, answer.get(model_info.model))
            for model_info in ensemble.ensemble_info.models
        }
        silent = [model for model, each in said.items() if each is None]
        if silent:
            raise ConfigurationError(f"{', '.join(silent)} did not answer for {file}: nothing to approve")
        expected = {model: each for model, each in said.items() if each is not None}
        kept.append(Picture(file, hashlib.sha256(content).hexdigest(), expected))
    golden = GoldenSet(ensemble.ensemble_info.ensemble, tuple(kept))
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


@dataclass(frozen=True, slots=True)
class Golden:
    """A golden set with its pictures, as they were when they were read; `folder` is where."""

    folder: Path
    set: GoldenSet
    pictures: tuple[bytes, ...]

    def faults(self, ensemble: Ensemble, *, execution: Execution = "fp32") -> list[str]:
        """In words, where the ensemble, computing so, does not answer as approved; empty when it does.

        Models that are not in the golden set are not judged.
        """
        model_infos = [
            model_info for model_info in ensemble.ensemble_info.models if model_info.model in self.set.models
        ]
        if not model_infos:
            return []
        wrong = []
        for picture, answer in zip(self.set.pictures, ensemble.answer(self.pictures), strict=True):
            for model_info in model_infos:
                expected = picture.expected.get(model_info.model)
                drift = DRIFT if model_info.boxes or execution == "fp32" else COARSE_DRIFT
                fault = _fault(expected, _said(model_info, answer.get(model_info.model)), drift) if expected else None
                if fault:
                    wrong.append(f"{model_info.model} {fault} for {picture.file}")
        return wrong

    def check(self, ensemble: Ensemble, *, execution: Execution = "fp32") -> None:
        """Raises Unapproved, with what changed and what to do, unless the ensemble answers as approved."""
        wrong = self.faults(ensemble, execution=execution)
        todo = _TODO if execution == "fp32" else _COARSE_TODO.format(execution)
        if wrong:
            more = f"; and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
            raise Unapproved(
                f"the models do not answer as approved in {self.folder}: {'; '.join(wrong[:_SHOWN])}{more}. "
                f"`sectorwatch models check` shows all; {todo}"
            )

    def uncovered(self, ensemble: Ensemble) -> list[str]:
        """The models of the ensemble of which the golden set says nothing."""
        return [
            model_info.model for model_info in ensemble.ensemble_info.models if model_info.model not in self.set.models
        ]


def read_golden(folder: Path) -> Golden:
    """The golden set of a folder. Raises ConfigurationError when it is incomplete or was changed."""
    try:
        golden = msgspec.json.decode((folder / FILE).read_bytes(), type=GoldenSet)
        pictures = tuple((folder / picture.file).read_bytes() for picture in golden.pictures)
    except OSError as error:
        raise ConfigurationError(f"no golden set in {folder}: {error}; {_MAKE}") from error
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{folder / FILE} is no golden set: {error}; {_MAKE}") from error
    for picture, content in zip(golden.pictures, pictures, strict=True):
        if hashlib.sha256(content).hexdigest() != picture.sha256:
            raise ConfigurationError(
                f"{folder / picture.file} is not the picture that was approved; restore it, or {_MAKE}"
            )
    return Golden(folder, golden, pictures)


def _said(model_info: ModelInfo, predictions: tuple[Prediction, ...] | None) -> Expected | None:
    """The best label of the whole view; a model without predictions said `nothing`, and nothing spoke against it."""
    if predictions is None:
        return None
    whole = [prediction for prediction in predictions if prediction.sector is None]
    if not whole:
        return Expected(_NOTHING, 0.0, 1.0)
    unboxed = [prediction for prediction in whole if prediction.box is None]
    best = max(unboxed or whole, key=lambda prediction: prediction.score)
    others = [prediction.score for prediction in whole if prediction.label != best.label]
    return Expected(best.label, best.score, round(best.score - max(others, default=0.0), 4), best.box)


def _fault(expected: Expected, said: Expected | None, drift: float) -> str | None:
    if said is None:
        return f"did not answer, where it had said `{expected.label}`"
    if said.label != expected.label:
        if expected.margin < SURE or max(said.score, expected.score) < SURE:
            return None
        margin = f"ahead by {expected.margin:.2f}"
        return f"says `{said.label}` ({said.score:.2f}) instead of `{expected.label}` ({expected.score:.2f}, {margin})"
    if abs(said.score - expected.score) > drift:
        return f"gives `{said.label}` a score of {said.score:.4f} instead of {expected.score:.4f}"
    if (said.box is None) != (expected.box is None):
        return f"no longer says where `{said.label}` is, or now does"
    edges = zip(said.box or (), expected.box or (), strict=True)
    if any(abs(now - was) > PLACED for now, was in edges):
        return f"sees `{said.label}` at {said.box} instead of {expected.box}"
    return None
