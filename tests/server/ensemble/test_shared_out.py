"""Shared out over workers and merged with others, frames have the answers they have when asked about alone."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from itertools import pairwise

import pytest
import torch
from PIL import Image
from torch import Tensor

from policies.observation import Box
from server.engine import Engine
from server.ensemble import Ensemble, load_ensemble
from tests.server.ensemble.pictures import encoded, scene
from tests.server.ensemble.test_module import TinyClassifier, card, module_of

NAMES = ("yolov3-tiny", "hog-people-small", "frame-change")
CROPS: dict[str, Box] = {"yard": (0.0, 0.0, 0.5, 1.0)}


@pytest.fixture(scope="module")
def ensemble(weights: object) -> Ensemble:
    return load_ensemble(NAMES)


@pytest.fixture
def engine(ensemble: Ensemble) -> Iterator[Engine]:
    engine = engine_around(ensemble)
    yield engine
    engine.stop()


def engine_around(ensemble: Ensemble, workers: int = 3) -> Engine:
    engine = Engine(ensemble, workers=workers, max_queued_images=100, answer_within_s=300)
    engine.start(lambda: None)
    return engine


def test_bursts_that_are_asked_about_at_once_have_the_answers_of_each_model_alone(
    engine: Engine, footage_frames: list[bytes]
) -> None:
    bursts = [
        footage_frames[0:5],
        footage_frames[5:6],
        [],
        footage_frames[6:8],
        [encoded(scene(90, 70)), *footage_frames[8:10]],
    ]
    told: list[object] = [None] * len(bursts)

    def ask(place: int) -> None:
        told[place] = engine.first.answer(bursts[place], CROPS)

    threads = [threading.Thread(target=ask, args=(place,)) for place in range(len(bursts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(300)
    for name in NAMES:
        alone = load_ensemble([name])
        for burst, answers in zip(bursts, told, strict=True):
            assert isinstance(answers, list)
            assert [answer[name] for answer in answers] == [answer[name] for answer in alone.answer(burst, CROPS)]


@pytest.mark.parametrize("cuts", [(0, 1, 6), (0, 3, 4, 6), (0, 1, 2, 3, 4, 5, 6)])
def test_what_changed_between_frames_is_the_same_in_spans_as_in_one_piece(
    ensemble: Ensemble, footage_frames: list[bytes], cuts: tuple[int, ...]
) -> None:
    burst = [*footage_frames[:3], encoded(scene(90, 70)), *footage_frames[3:5]]
    alone = load_ensemble(["frame-change"])
    asked = alone.infer([alone.prepare((image, place, {}, ())) for place, image in enumerate(burst)])
    spans = [alone.postprocess(asked, start, stop) for start, stop in pairwise(cuts)]
    assert [answer for span in spans for answer in span] == alone.answer(burst)


class ChokesOnPlain(TinyClassifier):
    """Raises on any batch that holds a row of one colour only."""

    def forward(self, rows: Tensor) -> Tensor:
        if any(float(row.std()) < 1e-3 for row in rows):
            raise RuntimeError("cannot see")
        return super().forward(rows)


def test_an_image_that_brings_a_model_down_costs_that_model_s_answer_for_that_image_only() -> None:
    models = (card("choosy"), ChokesOnPlain(1)), (card("calm"), TinyClassifier(2))
    plain = encoded(Image.new("RGB", (60, 40), "grey"))
    pictures = [encoded(scene(60, 40, 1)), plain, encoded(scene(60, 40, 2)), encoded(scene(60, 40, 3))]
    engine = engine_around(Ensemble(module_of(*models)), workers=1)
    answers = engine.first.answer(pictures)
    engine.stop()
    assert [answer["choosy"] is None for answer in answers] == [False, True, False, False]
    alone = Ensemble(module_of(models[1]))
    assert [answer["calm"] for answer in answers] == [alone.answer([picture])[0]["calm"] for picture in pictures]


def test_a_worker_computes_on_one_thread(ensemble: Ensemble) -> None:
    before = torch.get_num_threads()
    found: list[int] = []

    def work() -> None:
        torch.set_num_threads(2)
        ensemble.enter()
        found.append(torch.get_num_threads())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(30)
    torch.set_num_threads(before)
    assert found == [1]


def test_the_images_of_a_call_fill_a_chunk_of_the_smallest_form() -> None:
    assert load_ensemble(["hog-people-small", "frame-change"]).batch_images == 1
    assert Ensemble(module_of((card("a"), TinyClassifier(1)))).batch_images == 32


def test_who_asks_for_one_model_has_only_that_one_asked_and_gets_its_answers(
    ensemble: Ensemble, engine: Engine, footage_frames: list[bytes]
) -> None:
    burst = footage_frames[:3]
    whole = ensemble.answer(burst)
    for name in NAMES:
        alone = engine.first.only(name)
        assert alone.ensemble_info == engine.first.ensemble_info
        assert alone.answer(burst) == [{name: answer[name]} for answer in whole]


def test_each_call_of_a_model_is_timed(weights: object, footage_frames: list[bytes]) -> None:
    took: list[tuple[str, float]] = []
    ensemble = load_ensemble(NAMES, took=lambda model, seconds: took.append((model, seconds)))
    ensemble.only("hog-people-small").answer(footage_frames[:2])
    assert [model for model, _seconds in took] == ["hog-people-small"]
    ensemble.answer(footage_frames[:2])
    assert [model for model, _seconds in took[1:]] == list(NAMES)
    assert all(seconds > 0 for _model, seconds in took)
