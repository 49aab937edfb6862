"""The engine with its threads: around stages that do as they are told, without torch."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import Any

import pytest

from policies.observation import EnsembleInfo, ModelInfo, Prediction
from server.domain.ensemble_protocol import Payload
from server.domain.errors import RetryLater, Unprocessable
from server.engine import Engine
from server.engine.stages import Answer

PATIENCE_S = 30.0
READER = ModelInfo("reader", frozenset({"word"}), boxes=False)


class ReadingStages:
    """Says of each image what its bytes are. While `gate` is closed no worker gets past asking."""

    def __init__(self, *, needs_postprocessing: bool = False, on_accelerator: bool = False) -> None:
        self.ensemble_info = EnsembleInfo("e" * 64, (READER,))
        self.batch_images = 4
        self.needs_postprocessing = needs_postprocessing
        self.on_accelerator = on_accelerator
        self.gate = threading.Event()
        self.gate.set()
        self.asking = threading.Semaphore(0)
        self.prepared_by: set[str] = set()
        self.asked_by: set[str] = set()
        self.entered: list[str] = []

    def only(self, model: str) -> ReadingStages:
        assert model == "reader"
        return self

    def enter(self) -> None:
        self.entered.append(threading.current_thread().name)

    def prepare(self, payload: Payload) -> str:
        self.prepared_by.add(threading.current_thread().name)
        image, index, *_ = payload
        if image == b"broken":
            raise Unprocessable("not a picture", frame=index)
        return image.decode()

    def infer(self, rows: Sequence[str]) -> list[str]:
        self.asked_by.add(threading.current_thread().name)
        self.asking.release()
        assert self.gate.wait(PATIENCE_S)
        return [row.upper() for row in rows]

    def answer(self, images: Sequence[bytes]) -> list[Answer]:
        """All of it at once, as an ensemble alone has it."""
        inferred = self.infer([self.prepare((image, place, {}, ())) for place, image in enumerate(images)])
        return self.postprocess(inferred, 0, len(inferred))

    def postprocess(self, inferred: Sequence[str], start: int, stop: int) -> list[Answer]:
        said = [
            "".join(inferred[max(0, place - 1) : place + 1]) if self.needs_postprocessing else inferred[place]
            for place in range(start, stop)
        ]
        return [{"reader": (Prediction(word, 1.0),)} for word in said]


def words(answers: Sequence[Answer]) -> list[str]:
    return [said[0].label for answer in answers if (said := answer["reader"])]


Begin = Callable[..., Engine]


@pytest.fixture
def begin() -> Iterator[Begin]:
    """Starts engines, and stops them in the end."""
    with ExitStack() as stack:

        def start(stages: ReadingStages, on_stuck: Callable[[], None] = lambda: None, **settings: Any) -> Engine:
            given = {"workers": 2, "max_queued_images": 8, "answer_within_s": PATIENCE_S} | settings
            engine = Engine(stages, **given)
            stack.callback(engine.stop)
            stack.callback(stages.gate.set)
            engine.start(on_stuck)
            return engine

        yield start


class Asker(threading.Thread):
    """Asks in a thread of its own; `told` is the answer, `refused` what was raised instead."""

    def __init__(self, engine: Engine, images: Sequence[bytes]) -> None:
        super().__init__()
        self._engine = engine
        self._images = images
        self.told: list[str] | None = None
        self.refused: Exception | None = None
        self.start()

    def run(self) -> None:
        try:
            self.told = words(self._engine.first.answer(self._images))
        except Exception as error:  # noqa: BLE001
            self.refused = error


@pytest.mark.parametrize("needs_postprocessing", [False, True])
def test_many_clients_at_once_each_get_their_own_answers_in_order(begin: Begin, needs_postprocessing: bool) -> None:
    stages = ReadingStages(needs_postprocessing=needs_postprocessing)
    engine = begin(stages, max_queued_images=1000)
    requests = [[f"<{client}.{place}>".encode() for place in range(1 + client % 7)] for client in range(40)]
    askers = [Asker(engine, images) for images in requests]
    for asker, images in zip(askers, requests, strict=True):
        asker.join(PATIENCE_S)
        said = [image.decode().upper() for image in images]
        assert asker.told == (
            [a + b for a, b in zip(["", *said], said, strict=False)] if needs_postprocessing else said
        )


def test_each_worker_enters_once_and_the_workers_prepare(begin: Begin) -> None:
    stages = ReadingStages()
    engine = begin(stages, workers=3)
    engine.first.answer([b"a"] * 8)
    engine.stop()
    assert sorted(stages.entered) == [f"sectorwatch-engine-{number}" for number in range(3)]
    assert stages.prepared_by <= set(stages.entered)


def test_on_an_accelerator_one_worker_asks_and_the_clients_prepare(begin: Begin) -> None:
    stages = ReadingStages(on_accelerator=True)
    engine = begin(stages, workers=4)
    assert words(engine.first.answer([b"a", b"b"])) == ["A", "B"]
    assert stages.asked_by == set(stages.entered) == {"sectorwatch-engine-0"}
    assert stages.prepared_by == {threading.current_thread().name}


def test_an_image_that_cannot_be_judged_is_named_and_costs_nobody_else_an_answer(begin: Begin) -> None:
    engine = begin(ReadingStages(), workers=1)
    with pytest.raises(Unprocessable) as refused:
        engine.first.answer([b"a", b"broken", b"c"])
    assert refused.value.frame == 1
    assert words(engine.first.answer([b"a"])) == ["A"]


def test_who_finds_the_line_full_is_refused_at_once_and_told_when_to_come_back(begin: Begin) -> None:
    stages = ReadingStages()
    engine = begin(stages, workers=1, max_queued_images=4)
    stages.gate.clear()
    first = Asker(engine, [b"a"])
    assert stages.asking.acquire(timeout=PATIENCE_S)
    second = Asker(engine, [b"b"] * 4)
    while engine.load().queued_images < 4:
        assert second.is_alive()
    with pytest.raises(RetryLater) as refused:
        engine.first.answer([b"c"])
    with pytest.raises(RetryLater):
        engine.refuse_if_full()
    assert refused.value.retry_after_s >= 1
    stages.gate.set()
    first.join(PATIENCE_S)
    second.join(PATIENCE_S)
    assert (first.told, second.told) == (["A"], ["B"] * 4)


def test_who_waits_for_too_long_is_told_to_come_back_and_the_engine_goes_on(begin: Begin) -> None:
    stages = ReadingStages()
    engine = begin(stages, workers=1, answer_within_s=0.05)
    stages.gate.clear()
    with pytest.raises(RetryLater, match="not judged in time"):
        engine.first.answer([b"a"])
    stages.gate.set()
    again = begin(stages, workers=1)
    assert words(again.first.answer([b"b"])) == ["B"]
    assert engine.load().queued_images == 0


def test_a_silent_engine_answers_all_who_wait_with_later_and_says_that_it_is_stuck(begin: Begin) -> None:
    stages, stuck = ReadingStages(), threading.Event()
    engine = begin(stages, stuck.set, workers=1, silence_s=0.05)
    stages.gate.clear()
    askers = [Asker(engine, [b"a"]), Asker(engine, [b"b"])]
    assert stuck.wait(PATIENCE_S)
    for asker in askers:
        asker.join(PATIENCE_S)
        assert isinstance(asker.refused, RetryLater)
    with pytest.raises(RetryLater):
        engine.first.answer([b"c"])


@pytest.mark.parametrize("ends", [SystemExit(2), KeyboardInterrupt(), GeneratorExit()])
def test_what_would_end_a_thread_ends_the_request_that_provoked_it_and_no_worker(
    begin: Begin, ends: BaseException
) -> None:
    class Ending(ReadingStages):
        def infer(self, rows: Sequence[str]) -> list[str]:
            if "end" in rows:
                raise ends
            return super().infer(rows)

    engine = begin(Ending(), workers=1)
    with pytest.raises(RuntimeError, match=type(ends).__name__):
        engine.first.answer([b"end"])
    assert words(engine.first.answer([b"a"])) == ["A"]


def test_a_worker_that_dies_is_told_as_a_silent_engine_is(begin: Begin) -> None:
    class Stillborn(ReadingStages):
        def enter(self) -> None:
            super().enter()
            if len(self.entered) == 1:
                raise MemoryError

    stuck = threading.Event()
    engine = begin(Stillborn(), stuck.set, silence_s=4 * PATIENCE_S)
    assert stuck.wait(PATIENCE_S)
    with pytest.raises(RetryLater):
        engine.first.answer([b"a"])


def test_an_engine_without_work_is_not_stuck_however_long_it_is_silent(begin: Begin) -> None:
    stuck = threading.Event()
    begin(ReadingStages(), stuck.set, silence_s=0.02)
    assert not stuck.wait(0.2)


def test_stopping_finishes_what_was_taken_in(begin: Begin) -> None:
    stages = ReadingStages(needs_postprocessing=True)
    engine = begin(stages, workers=2)
    stages.gate.clear()
    asker = Asker(engine, [b"a", b"b", b"c"])
    assert stages.asking.acquire(timeout=PATIENCE_S)
    stopper = threading.Thread(target=engine.stop)
    stopper.start()
    stages.gate.set()
    asker.join(PATIENCE_S)
    stopper.join(PATIENCE_S)
    assert asker.told == ["A", "AB", "BC"]
    with pytest.raises(RetryLater, match="stopping"):
        engine.first.answer([b"d"])


def test_who_has_less_time_than_others_waits_no_longer_and_what_is_left_of_it_is_not_begun(begin: Begin) -> None:
    stages = ReadingStages()
    stages.gate.clear()
    engine = begin(stages, workers=1)
    first = Asker(engine, [b"a"])
    stages.asking.acquire(timeout=PATIENCE_S)
    with pytest.raises(RetryLater, match="not judged in time"):
        engine.first.only(None, 0.05).answer([b"b"])
    stages.gate.set()
    first.join(PATIENCE_S)
    assert first.told == ["A"]
    assert not stages.asking.acquire(blocking=False)


def test_nobody_gets_more_time_than_the_engine_gives(begin: Begin) -> None:
    stages = ReadingStages()
    stages.gate.clear()
    engine = begin(stages, answer_within_s=0.05)
    with pytest.raises(RetryLater):
        engine.first.only("reader", 1000.0).answer([b"a"])
