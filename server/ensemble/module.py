"""All models of an ensemble as one PyTorch module, with one forward call for any number of frames."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from msgspec.structs import replace
from torch import Tensor, nn

from policies.observation import Box, Prediction
from server.catalogue.card import NOTHING, InputForm, ModelCard
from server.domain.precision import Execution
from server.ensemble.detections import Detections, seen_once, to_cpu
from server.ensemble.faults import Faults
from server.ensemble.forms import WHOLE, Row, normalised, onto_frame, row_of
from server.ensemble.frame_change import FrameChange
from server.ensemble.tuning import executed, lowered_detector, tuned

Answer = tuple[Prediction, ...] | None
"""One model's predictions for one frame; None when the model failed."""

VERSIONS = {"classifier": 1, "detector": 1, "change": 1}
"""Of the way from a network's output to predictions, by kind of model; raise one when the predictions change."""

_OUTPUT_VERSIONS = {"independent": 1, "probabilities": 1, "argmax": 1}
"""Of the way from outputs other than logits, of cards that had no such way before."""

TOP = 5
_LEAST_INDEPENDENT, _MOST_INDEPENDENT = 0.1, 50
"""Of independent classes, those with such a score are kept beside the best `TOP`, so many in all."""
_THERE = 0.5
"""The score from which an independent class is there, where the network decides."""
_BEYOND = 1e-3
"""How far rounding may take a probability beyond 0 or 1."""
_CHUNK_PIXELS = 1 << 18
_ACCELERATOR_CHUNK_PIXELS = 1 << 23
_MOST_FRAMES = 32
_LARGER = 1.1
_REACH = 6
"""An answer of a `change` model depends on at most so many frames before and after its own: the first one's on the way
of things through five frames, the last of which is compared with two more.
"""


@dataclass(frozen=True, slots=True)
class PreparedFrame:
    """A frame in every input form of the ensemble: the whole view first, then, for classifiers, crops of sectors.

    `enlarged` has the enlarged parts of it, for detectors.
    """

    rows: Mapping[InputForm, tuple[Row, ...]]
    enlarged: Mapping[InputForm, tuple[Row, ...]]


@dataclass(frozen=True, slots=True)
class InferredFrame:
    """The answers of all models of single frames about a frame, and its rows for the models of changes."""

    answers: Mapping[str, Answer]
    rows: Mapping[InputForm, Row]


class EnsembleModule(nn.Module):
    """The models as submodules, so `.to`, `.eval` and `.parameters` reach them. A key is an index: names may have dots.

    `models` are cards and networks, each name once, in the order of answers. `chunk_pixels` limits the pixels of rows
    in one call of a network. On a CPU small chunks are as fast, and a frame's answer does not depend, to the last bit,
    on the other frames of a call.

    A call has two parts, which an engine may distribute over workers: `infer` takes frames of any number of requests,
    `postprocess` the frames of one request in the order of time. No state is kept, so both may run in several threads
    at once; a foreign network must allow that. `took` is called with a model's name and the seconds of each call.
    """

    def __init__(
        self,
        models: Sequence[tuple[ModelCard, nn.Module]],
        *,
        chunk_pixels: int = _CHUNK_PIXELS,
        took: Callable[[str, float], None] = lambda _model, _seconds: None,
    ) -> None:
        super().__init__()
        self.cards = tuple(card for card, _network in models)
        self.networks = nn.ModuleDict({str(index): network for index, (_card, network) in enumerate(models)})
        self.chunk_pixels = chunk_pixels
        self._took = took
        self._faults = Faults()
        self._device = torch.device("cpu")
        self._cropped_forms = {card.input for card in self.cards if card.kind == "classifier"}
        self._enlarged_forms = {card.input for card in self.cards if card.kind == "detector"}

    @property
    def names(self) -> tuple[str, ...]:
        """The models' names; the index of a name is its key in `networks`."""
        return tuple(card.name for card in self.cards)

    def only(self, model: str) -> EnsembleModule:
        """A module with one of the models; its network is shared."""
        index = self.names.index(model)
        alone = EnsembleModule([(self.cards[index], self.networks[str(index)])], took=self._took)
        alone.chunk_pixels, alone._device, alone._faults = self.chunk_pixels, self._device, self._faults
        return alone.eval()

    def last_fault(self, model: str) -> str:
        """The error of this model's last call that raised one, in one line; empty if none did."""
        return self._faults.last(model)

    def place(self, device: torch.device) -> None:
        """Move the models of single frames to `device`. Rows go there as bytes, and answers come back."""
        self._device = device
        if device.type != "cpu":
            self.chunk_pixels = _ACCELERATOR_CHUNK_PIXELS
        for _card, network in self._models(over_time=False):
            network.to(device)

    def tune(self, execution: Execution = "fp32") -> None:
        """Make the classifiers faster with the same answers (`tuning`), and compute in `execution` where the card says
        that the model can.

        Raises ConfigurationError for a classifier that cannot compute so. The lock needs the networks from before.
        """
        for key, card in enumerate(self.cards):
            if card.kind == "classifier":
                quicker = tuned(self.networks[str(key)], card.input)
                self.networks[str(key)] = executed(quicker, card.input, execution, card.name)
            elif card.is_lowered and execution == "bf16":
                self.networks[str(key)] = lowered_detector(self.networks[str(key)])

    def prepare(self, frame: Tensor, crops: Mapping[str, Box], enlarged: Sequence[Box] = ()) -> PreparedFrame:
        """A decoded frame, uint8 [3, H, W], in each input form; `crops` of sectors are in 0..1 of the frame.

        A sector that is the whole view has a row of its own only where the form takes the centre of the frame. An
        `enlarged` part has one for detectors, where the form shows it larger than the frame's row does.
        """
        rows: dict[InputForm, tuple[Row, ...]] = {}
        for form in dict.fromkeys(card.input for card in self.cards):
            wanted = crops.items() if form in self._cropped_forms else ()
            cropped = (
                row_of(frame, form, crop=box, sector=sector)
                for sector, box in wanted
                if box != WHOLE or form.fit == "crop"
            )
            rows[form] = (row_of(frame, form), *cropped)
        return PreparedFrame(
            rows,
            {
                form: tuple(row for box in enlarged if _is_larger(row := row_of(frame, form, crop=box), rows[form][0]))
                for form in self._enlarged_forms
                if enlarged and form.fit != "crop"
            },
        )

    @property
    def needs_postprocessing(self) -> bool:
        """Whether a model needs more than one frame."""
        return any(card.kind == "change" for card in self.cards)

    @property
    def batch_frames(self) -> int:
        """How many frames fill a chunk: more in one call are not faster."""
        areas = [card.input.size[0] * card.input.size[1] for card in self.cards if card.kind != "change"]
        return max(1, min(_MOST_FRAMES, self.chunk_pixels // min(areas, default=1)))

    def forward(self, frames: Sequence[PreparedFrame]) -> list[dict[str, Answer]]:
        """Each model's answer for each frame. The frames of one call are in the order of time."""
        return self.postprocess(self.infer(frames), 0, len(frames))

    def infer(self, frames: Sequence[PreparedFrame]) -> list[InferredFrame]:
        """The answers of the models of single frames; the frames may be of several requests.

        A model that raises, or gives values that are no numbers, is called again for each half of the frames, so one
        bad frame does not lose the answers for the others. Its answer for the bad frame is None. The other models are
        not affected. Raises RuntimeError in training mode and outside of `torch.inference_mode()`.
        """
        self._check_mode()
        answers: list[dict[str, Answer]] = [{} for _ in frames]
        for card, network in self._models(over_time=False):
            with self._clocked(card):
                inferred = self._inferred(card, network, frames)
            for answer, predictions in zip(answers, inferred, strict=True):
                answer[card.name] = predictions
        forms = {card.input for card, _network in self._models(over_time=True)}
        return [
            InferredFrame(answer, {form: frame.rows[form][0] for form in forms})
            for answer, frame in zip(answers, frames, strict=True)
        ]

    def postprocess(self, inferred: Sequence[InferredFrame], start: int, stop: int) -> list[dict[str, Answer]]:
        """All models' answers for frames `start` to `stop` of a request, given all its frames in the order of time.

        The models of changes are called for this span and its neighbours only. If one fails, its answer is None for
        every frame of the span.
        """
        self._check_mode()
        first, last = max(0, start - _REACH), min(len(inferred), stop + _REACH)
        over_time = {
            card.name: self._changes(card, network, inferred[first:last])[start - first : stop - first]
            for card, network in self._models(over_time=True)
        }
        return [
            {name: over_time[name][place] if name in over_time else frame.answers[name] for name in self.names}
            for place, frame in enumerate(inferred[start:stop])
        ]

    @contextmanager
    def _clocked(self, card: ModelCard) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self._took(card.name, time.perf_counter() - began)

    def _check_mode(self) -> None:
        if self.training or any(module.training for module in self.networks.values()):
            raise RuntimeError("the ensemble is in training mode: call eval() first")
        if not torch.is_inference_mode_enabled():
            raise RuntimeError("the ensemble answers under torch.inference_mode() only")

    def _models(self, *, over_time: bool) -> list[tuple[ModelCard, nn.Module]]:
        pairs = zip(self.cards, self.networks.values(), strict=True)
        return [(card, network) for card, network in pairs if (card.kind == "change") == over_time]

    def _inferred(self, card: ModelCard, network: nn.Module, frames: Sequence[PreparedFrame]) -> list[Answer]:
        try:
            return list(self._infer(card, network, frames))
        except (Exception, SystemExit) as error:  # noqa: BLE001  a foreign network may raise anything
            if len(frames) <= 1:
                self._faults.report(card.name, error)
                return [None] * len(frames)
        # Outside of `except`: its traceback would keep the memory of the whole call.
        middle = len(frames) // 2
        return self._inferred(card, network, frames[:middle]) + self._inferred(card, network, frames[middle:])

    def _changes(self, card: ModelCard, network: nn.Module, frames: Sequence[InferredFrame]) -> list[Answer]:
        try:
            with self._clocked(card):
                changes: list[FrameChange] = network([frame.rows[card.input].pixels for frame in frames])
            return [_change_predictions(change, card) for change in changes]
        except (Exception, SystemExit) as error:  # noqa: BLE001
            self._faults.report(card.name, error)
            return [None] * len(frames)

    def _infer(
        self, card: ModelCard, network: nn.Module, frames: Sequence[PreparedFrame]
    ) -> list[tuple[Prediction, ...]]:
        if card.kind == "detector":
            return self._detect(card, network, frames)
        rows = [row for frame in frames for row in frame.rows[card.input]]
        logits = [network(batch) for batch in self._batches(rows, card.input)]
        predictions = iter(_class_predictions(torch.cat(logits).cpu(), rows, card) if rows else ())
        return [
            _ranked([prediction for _ in frame.rows[card.input] for prediction in next(predictions)])
            for frame in frames
        ]

    def _detect(
        self, card: ModelCard, network: nn.Module, frames: Sequence[PreparedFrame]
    ) -> list[tuple[Prediction, ...]]:
        """The boxes of each frame: of all its rows, enlarged parts included, in the same batches."""
        whole = [frame.rows[card.input][0] for frame in frames]
        enlarged = [frame.enlarged.get(card.input, ()) for frame in frames]
        rows = [*whole, *(row for parts in enlarged for row in parts)]
        detections: list[Detections] = []
        for batch in self._batches(rows, card.input):
            detections += network(batch)
        seen = [_box_predictions(each, row, card) for each, row in zip(to_cpu(detections), rows, strict=True)]
        parts_seen = iter(seen[len(whole) :])
        return [
            _ordered(seen_once(of_whole, [(next(parts_seen), row.crop) for row in parts])) if parts else of_whole
            for of_whole, parts in zip(seen, enlarged, strict=False)
        ]

    def _batches(self, rows: Sequence[Row], form: InputForm) -> Iterator[Tensor]:
        """Normalised batches of rows of one size, each of at most `chunk_pixels` or of one row."""
        batches: list[list[Tensor]] = []
        for row in rows:
            most_rows = max(1, self.chunk_pixels // (row.pixels.shape[-1] * row.pixels.shape[-2]))
            if batches and batches[-1][0].shape == row.pixels.shape and len(batches[-1]) < most_rows:
                batches[-1].append(row.pixels)
            else:
                batches.append([row.pixels])
        return (normalised(torch.stack(batch).to(self._device), form) for batch in batches)


def _is_larger(part: Row, whole: Row) -> bool:
    """Whether a part of a frame is shown notably larger than in the row of the whole frame."""
    return part.pixels_across > _LARGER * whole.pixels_across


def _class_predictions(logits: Tensor, rows: Sequence[Row], card: ModelCard) -> list[list[Prediction]]:
    """Logits [rows, classes] -> up to `TOP` predictions for each row, with its sector; one if the network decides."""
    if logits.shape != (len(rows), len(card.classes)):
        raise ValueError(f"{tuple(logits.shape)} answers for {len(rows)} rows of {len(card.classes)} classes")
    if card.independent:
        return _independent_predictions(logits.float(), rows, card)
    scores, labels = logits.float().softmax(1).topk(1 if card.argmax else min(TOP, len(card.classes)))
    return [
        [
            Prediction(card.classes[label], _score(score), sector=row.sector)
            for score, label in zip(row_scores, row_labels, strict=True)
        ]
        for row_scores, row_labels, row in zip(scores.tolist(), labels.tolist(), rows, strict=True)
    ]


def _independent_predictions(outputs: Tensor, rows: Sequence[Row], card: ModelCard) -> list[list[Prediction]]:
    """Outputs [rows, classes], each of a class of its own -> predictions for each row, with its sector.

    The scores do not sum to 1. `nothing`, with what the best class lacks to 1, is the best label where no class
    reaches .5. Raises ValueError for probabilities outside of 0..1.
    """
    is_logits = card.output == "independent_logits"
    if not is_logits and bool(((outputs < -_BEYOND) | (outputs > 1 + _BEYOND)).any()):
        raise ValueError(f"probabilities in {float(outputs.min()):.3g}..{float(outputs.max()):.3g}")
    scores, labels = (outputs.sigmoid() if is_logits else outputs).topk(min(_MOST_INDEPENDENT, len(card.classes)))
    predictions = []
    for row_scores, row_labels, row in zip(scores.tolist(), labels.tolist(), rows, strict=True):
        kept = [
            Prediction(card.classes[label], _score(score), sector=row.sector)
            for place, (score, label) in enumerate(zip(row_scores, row_labels, strict=True))
            if (score >= _THERE if card.argmax else place < TOP or score >= _LEAST_INDEPENDENT)
        ]
        if not kept if card.argmax else NOTHING not in card.classes:
            kept.append(Prediction(NOTHING, _score(1 - row_scores[0]), sector=row.sector))
        predictions.append(kept)
    return predictions


def output_versions(card: ModelCard) -> dict[str, int]:
    """The version of the way from a classifier's numbers to scores; none for the ways that `VERSIONS` names."""
    ways = {
        "independent": card.independent,
        "probabilities": card.output == "probabilities" and card.format == "factory",  # of 0.2, a softmax of them
        "argmax": card.argmax,
    }
    return {way: _OUTPUT_VERSIONS[way] for way, is_taken in ways.items() if is_taken}


def _box_predictions(detections: Detections, row: Row, card: ModelCard) -> tuple[Prediction, ...]:
    boxes = onto_frame(detections.boxes, row.content, row.crop).tolist()
    predictions = []
    for label, score, edges in zip(detections.classes.tolist(), detections.scores.tolist(), boxes, strict=True):
        left, top, right, bottom = (round(edge, 5) for edge in edges)
        if left < right and top < bottom:  # else the box has only padding
            predictions.append(Prediction(card.classes[label], _score(score), (left, top, right, bottom)))
    return _ordered(predictions)


def _change_predictions(change: FrameChange, card: ModelCard) -> tuple[Prediction, ...]:
    """The label of the whole view, without a box, and the changed regions; the first has the evidence of the scene."""
    whole = Prediction(card.classes[change.label], _score(change.score))
    boxes = _box_predictions(change.regions, Row(change.regions.boxes, (0, 0, 1, 1), None), card)
    first, *others = _ordered([whole, *boxes])
    return (first if change.evidence is None else replace(first, evidence=change.evidence), *others)


def _score(value: float) -> float:
    if not math.isfinite(value):
        raise ValueError(f"a score of {value}")
    return round(min(max(value, 0.0), 1.0), 4)


def _ranked(predictions: Sequence[Prediction]) -> tuple[Prediction, ...]:
    """By falling score; scores made equal by rounding stay in the order of the network, best class first."""
    return tuple(sorted(predictions, key=lambda s: -s.score))


def _ordered(predictions: Sequence[Prediction]) -> tuple[Prediction, ...]:
    return tuple(sorted(predictions, key=lambda s: (-s.score, s.label, s.box or (), s.sector or "")))
