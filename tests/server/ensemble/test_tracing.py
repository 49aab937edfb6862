"""An ensemble may be loaded while another answers: tracing its networks reaches into no call of the others."""

from __future__ import annotations

import threading

import torch
from torch import Tensor, nn

from server.ensemble import Ensemble
from server.ensemble.tracing import computing, tracing
from server.ensemble.tuning import tuned
from tests.server.ensemble.pictures import encoded, scene
from tests.server.ensemble.test_module import TinyClassifier, card, module_of

PATIENCE_S = 30.0
WHILE_TRACED_S = 0.5


class AsksAnother(nn.Module):
    """While it is traced, another ensemble is asked in another thread."""

    def __init__(self, other: Ensemble, picture: bytes) -> None:
        super().__init__()
        self.inner = TinyClassifier(3)
        self._asking = threading.Thread(target=lambda: self.said.append(other.answer([picture])))
        self.said: list[object] = []

    def __deepcopy__(self, memo: object) -> AsksAnother:
        return self

    def forward(self, rows: Tensor) -> Tensor:
        if not self._asking.ident:
            self._asking.start()
            self._asking.join(WHILE_TRACED_S)
        answer: Tensor = self.inner(rows)
        return answer

    def answered(self) -> object:
        self._asking.join(PATIENCE_S)
        return self.said[0]


def test_an_ensemble_that_is_asked_while_another_is_traced_gives_its_own_answer() -> None:
    other = Ensemble(module_of((card("tiny"), TinyClassifier(1))))
    picture = encoded(scene(60, 40, 1))
    expected = other.answer([picture])
    network = AsksAnother(other, picture).eval()
    tuned(network, card("tiny").input)
    assert network.answered() == expected


def test_nobody_computes_while_somebody_traces() -> None:
    inside, leave, computed = threading.Event(), threading.Event(), threading.Event()

    def trace() -> None:
        with tracing():
            inside.set()
            assert leave.wait(PATIENCE_S)
            assert not computed.is_set()

    def compute() -> None:
        with computing():
            computed.set()

    tracer, worker = threading.Thread(target=trace), threading.Thread(target=compute)
    tracer.start()
    assert inside.wait(PATIENCE_S)
    worker.start()
    assert not computed.wait(0.1)
    leave.set()
    for thread in (tracer, worker):
        thread.join(PATIENCE_S)
    assert computed.is_set()


def test_a_trace_waits_for_those_who_compute_and_those_who_come_wait_for_it() -> None:
    order: list[str] = []
    traced = threading.Event()

    def trace() -> None:
        with tracing():
            order.append("traced")
        traced.set()

    with computing():
        tracer = threading.Thread(target=trace)
        tracer.start()
        assert not traced.wait(0.1)
        order.append("computed")
    assert traced.wait(PATIENCE_S)
    with computing(), torch.inference_mode():
        order.append("computed again")
    assert order == ["computed", "traced", "computed again"]
