"""The ensemble that comes with the package: real weights, real footage, an honest digest."""

from __future__ import annotations

import threading
from pathlib import Path

import msgspec
import pytest

from server.catalogue import card_named
from server.domain.errors import ConfigurationError, TooLarge, Unprocessable
from server.ensemble import Ensemble, load_ensemble
from server.ensemble.module import EnsembleModule
from server.pipeline.response import top_label
from tests.server.ensemble.pictures import encoded, png_header, scene
from tests.server.ensemble.test_module import TinyClassifier, card, module_of

NAMES = ("yolov3-tiny", "hog-people", "hog-people-small", "frame-change")


@pytest.fixture(scope="module")
def ensemble(weights: Path) -> Ensemble:
    return load_ensemble(NAMES)


def test_people_of_the_footage_are_seen_by_every_detector(ensemble: Ensemble, footage_frames: list[bytes]) -> None:
    answers = ensemble.answer(footage_frames[:3])
    assert [list(answer) for answer in answers] == [list(NAMES)] * 3
    for answer in answers:
        for model_info in ensemble.ensemble_info.models:
            predictions = answer[model_info.model]
            assert predictions is not None
            assert top_label(predictions) == ("person" if model_info.votes else "moving")
            assert list(predictions) == sorted(predictions, key=lambda s: (-s.score, s.label, s.box or ()))
            assert {s.label for s in predictions} <= model_info.classes


def test_labels_are_those_of_each_model_alone(ensemble: Ensemble, footage_frames: list[bytes]) -> None:
    frames = footage_frames[:2]
    together = ensemble.answer(frames)
    for name in NAMES:
        alone = load_ensemble([name]).answer(frames)
        assert [answer[name] for answer in together] == [answer[name] for answer in alone]


def test_the_same_bytes_have_the_same_answers_whoever_travels_with_them(
    ensemble: Ensemble, footage_frames: list[bytes]
) -> None:
    """Except for frame-change, whose answers are about neighbours."""
    among_others = ensemble.answer([footage_frames[4], encoded(scene(90, 70)), footage_frames[5]])[2]
    alone = ensemble.answer([footage_frames[5]])[0]
    for name in NAMES[:3]:
        assert among_others[name] == alone[name]


def test_several_threads_may_ask_at_once(footage_frames: list[bytes]) -> None:
    ensemble = load_ensemble(["hog-people-small", "frame-change"])
    expected = ensemble.answer(footage_frames[:1])
    given: list[object] = []
    threads = [threading.Thread(target=lambda: given.append(ensemble.answer(footage_frames[:1]))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert given == [expected] * 4


def test_no_frames_have_no_answers(ensemble: Ensemble) -> None:
    assert ensemble.answer([]) == []


def test_a_frame_that_cannot_be_decoded_is_named(ensemble: Ensemble, footage_frames: list[bytes]) -> None:
    with pytest.raises(Unprocessable) as refused:
        ensemble.answer([footage_frames[0], footage_frames[1][:5000]])
    assert refused.value.frame == 1
    with pytest.raises(TooLarge) as too_large:
        ensemble.answer([png_header(20_000, 10_000)])
    assert too_large.value.frame == 0


def test_seats_say_what_each_model_can_see(ensemble: Ensemble) -> None:
    models = {model_info.model: model_info for model_info in ensemble.ensemble_info.models}
    assert tuple(models) == NAMES
    assert {"person", "car", "bicycle"} < models["yolov3-tiny"].classes
    assert models["hog-people"].classes == {"person"}
    assert models["yolov3-tiny"].boxes
    assert [model_info.votes for model_info in ensemble.ensemble_info.models] == [True, True, True, False]
    assert not Ensemble(module_of((card("a"), TinyClassifier(1)))).ensemble_info.models[0].boxes


def test_the_digest_is_the_same_again_and_another_for_whatever_changes_answers(ensemble: Ensemble) -> None:
    assert load_ensemble(NAMES).ensemble_info == ensemble.ensemble_info
    original = card("a")
    other_form = msgspec.structs.replace(original.input, size=(16, 16))
    digests = {
        Ensemble(EnsembleModule([(changed, TinyClassifier(1))])).ensemble_info.ensemble
        for changed in (
            original,
            msgspec.structs.replace(original, name="b"),
            msgspec.structs.replace(original, sha256="0" * 64, size_bytes=1, sources=card_named("hog-people").sources),
            msgspec.structs.replace(original, input=other_form),
            msgspec.structs.replace(original, parameters={"score_floor": 0.2}),
        )
    }
    assert len(digests) == 5
    assert load_ensemble(NAMES[::-1]).ensemble_info.ensemble != ensemble.ensemble_info.ensemble


def test_a_summary_or_a_folder_does_not_change_the_digest() -> None:
    original = card("a")
    moved = msgspec.structs.replace(original, folder="elsewhere", summary="other words")
    panels = [Ensemble(EnsembleModule([(each, TinyClassifier(1))])).ensemble_info for each in (original, moved)]
    assert panels[0] == panels[1]


def test_weights_that_are_not_the_cards_are_refused_with_both_digests(tmp_path: Path, weights: Path) -> None:
    place = tmp_path / "weights" / weights.name
    place.parent.mkdir()
    place.write_bytes(weights.read_bytes()[:-1] + b"\0")
    with pytest.raises(
        ConfigurationError,
        match=r"has sha256 [0-9a-f]{64}, its card dccea06f\w+; run `sectorwatch models pull yolov3-tiny`$",
    ):
        load_ensemble(["yolov3-tiny"], cache=tmp_path)


def test_weights_that_are_not_here_say_how_to_get_them(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="run `sectorwatch models pull yolov3-tiny`"):
        load_ensemble(["yolov3-tiny"], cache=tmp_path)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "at least one model"),
        (["yolov3-tinny"], "did you mean `yolov3-tiny`"),
        (["frame-change", "frame-change"], "named twice"),
    ],
)
def test_names_that_make_no_ensemble_are_refused(names: list[str], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        load_ensemble(names)
