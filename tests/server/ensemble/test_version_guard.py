"""Arithmetic that changes while its version stays keeps the ensemble's name, and the golden set notices it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import msgspec
import pytest
import torch
from msgspec.structs import replace
from PIL import Image
from torch import Tensor

from server.catalogue import cards
from server.ensemble import (
    Ensemble,
    decode,
    detections,
    efficientnet_lite,
    forms,
    frame_change,
    hog,
    load_ensemble,
    module,
    read_golden,
    shipped_golden,
    tuning,
    yolov3_tiny,
)
from tests.server.ensemble import answers

Patch = Callable[[pytest.MonkeyPatch], None]

pytestmark = pytest.mark.usefixtures("weights")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def constant(place: object, name: str, value: object) -> Patch:
    return lambda monkeypatch: monkeypatch.setattr(place, name, value)


def nothing_suppressed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(detections, "overlaps", lambda boxes, others: boxes.new_zeros((len(boxes), len(others))))


def not_averaged(monkeypatch: pytest.MonkeyPatch) -> None:
    def resized(pixels: Tensor, size: tuple[int, int], resample: str) -> Tensor:
        return torch.nn.functional.interpolate(pixels.float(), (size[1], size[0]), mode=resample).byte()

    monkeypatch.setattr(forms, "_resized", resized)


def padded_white(monkeypatch: pytest.MonkeyPatch) -> None:
    padded = forms._padded
    monkeypatch.setattr(
        forms, "_padded", lambda pixels, form, multiples: padded(pixels, replace(form, pad=255), multiples)
    )


def a_mean_off_by_a_tenth(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.ensemble.module.normalised", lambda rows, form: forms.normalised(rows, form) + 0.1)


def blue_first(monkeypatch: pytest.MonkeyPatch) -> None:
    upright = decode._upright
    monkeypatch.setattr(
        decode, "_upright", lambda image: Image.merge("RGB", upright(image).convert("RGB").split()[::-1])
    )


def boxes_of_the_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "onto_frame", lambda boxes, _content: boxes * 0.8)


def fused_wrongly(monkeypatch: pytest.MonkeyPatch) -> None:
    fused = tuning._fused

    def scaled(network: torch.nn.Module) -> torch.nn.Module:
        candidate = fused(network)
        with torch.no_grad():
            next(candidate.parameters()).mul_(1.1)
        return candidate

    monkeypatch.setattr(tuning, "_fused", scaled)
    monkeypatch.setattr(tuning, "_agree", lambda *_: True)


CASES: dict[str, tuple[str, Patch]] = {
    "the slope of a leaky unit": ("yolov3-tiny", constant(yolov3_tiny, "_LEAK", 0.2)),
    "the anchors of the coarse layer": ("yolov3-tiny", constant(yolov3_tiny, "COARSE_ANCHORS", (2, 3, 4))),
    "the epsilon of YOLO's normalisation": ("yolov3-tiny", constant(yolov3_tiny, "_NORM_EPSILON", 1e-2)),
    "the epsilon of EfficientNet's normalisation": (
        "efficientnet-lite0",
        constant(efficientnet_lite, "_NORM_EPSILON", 1e-1),
    ),
    "the clip of block histograms": ("hog-people", constant(hog, "_CLIP", 0.1)),
    "the curve of HOG's scores": ("hog-people", constant(hog, "score_of", torch.sigmoid)),
    "the darkness of a pixel": ("frame-change", constant(frame_change, "_DARK", 200.0)),
    "the spread of noise": ("frame-change", constant(frame_change, "_WHITE", 100.0)),
    "non-maximum suppression of YOLO": ("yolov3-tiny-608", nothing_suppressed),
    "non-maximum suppression of HOG": ("hog-people", nothing_suppressed),
    "the padding of a letterbox": ("yolov3-tiny", padded_white),
    "the weights of grey": ("hog-people", constant(forms, "_LUMA", (0.0, 0.0, 1.0))),
    "the resizing of every transform": ("efficientnet-lite0", not_averaged),
    "the normalisation of every transform": ("efficientnet-lite0", a_mean_off_by_a_tenth),
    "the order of the decoder's channels": ("efficientnet-lite0", blue_first),
    "the way of boxes onto the frame": ("yolov3-tiny", boxes_of_the_row),
    "the fusing of a classifier": ("efficientnet-lite0", fused_wrongly),
}


@pytest.mark.parametrize("case", CASES)
def test_changed_arithmetic_keeps_the_name_and_is_noticed_by_the_golden_set(
    case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, patch = CASES[case]
    name = load_ensemble([model], verify_weights=False).lock.digest
    patch(monkeypatch)
    changed = load_ensemble([model], verify_weights=False)
    assert changed.lock.digest == name
    assert read_golden(shipped_golden()).faults(changed)


def test_whoever_changed_arithmetic_reads_which_version_to_raise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hog, "_CLIP", 0.1)
    with pytest.raises(pytest.fail.Exception) as failure:
        answers.assert_as_approved(load_ensemble(["hog-people"]))
    assert str(failure.value).startswith(
        "answers of hog-people changed: undo that, or raise the version of the step that changed ("
        "`shrink` in server.ensemble.forms, `detector` in server.ensemble.module, "
        "`nms` in server.ensemble.detections, `hog` in server.ensemble.hog, VERSION in server.ensemble.decode)"
    )


@pytest.mark.parametrize("model", cards())
def test_every_model_of_the_catalogue_answers_as_approved(model: str) -> None:
    ensemble: Ensemble = load_ensemble([model])
    answers.assert_as_approved(ensemble)
    assert read_golden(shipped_golden()).uncovered(ensemble) == []


@pytest.mark.parametrize("model", cards())
def test_answers_that_were_approved_anew_have_a_raised_version(model: str) -> None:
    before, now = answers.recorded()[model], answers.current(read_golden(shipped_golden()).set, model)
    assert not answers.unraised(before, now), answers.advice(model)
    assert before == now, "record them: `python -m tests.server.ensemble.answers`"


def test_other_answers_under_the_same_versions_are_not_recorded() -> None:
    golden = read_golden(shipped_golden()).set
    before = answers.current(golden, "frame-change")
    changed = golden.pictures[0].expected["frame-change"]
    others = golden.pictures[0].expected | {"frame-change": msgspec.structs.replace(changed, label="moving")}
    picture = msgspec.structs.replace(golden.pictures[0], expected=others)
    now = answers.current(msgspec.structs.replace(golden, pictures=(picture, *golden.pictures[1:])), "frame-change")
    assert answers.unraised(before, now)
    assert not answers.unraised(before, msgspec.structs.replace(now, code=now.code | {"frame-change": 9}))
    assert re.search("`frame-change` in server.ensemble.frame_change", answers.advice("frame-change"))
