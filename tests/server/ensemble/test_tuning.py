"""Tuning makes a network quicker and its answers no other; what cannot be tuned stays as it is."""

from __future__ import annotations

import pytest
import torch
import torchvision
from torch import Tensor, nn

from server.catalogue import InputForm
from server.ensemble import Ensemble
from server.ensemble.forms import normalised
from server.ensemble.tuning import tuned
from tests.server.ensemble.pictures import encoded, scene
from tests.server.ensemble.test_module import TinyClassifier, card, module_of

FORM = InputForm("rgb", "stretch", (64, 64), mean=(127.0,), std=(64.0,))


class Branches(nn.Module):
    """Cannot be traced: it looks at its input."""

    def forward(self, rows: Tensor) -> Tensor:
        return rows.mean((2, 3)) if rows.sum() > 0 else -rows.mean((2, 3))


class Shifty(nn.Module):
    """Traced, it keeps what was true while it was traced."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 5, 3)
        self.calls = 0

    def forward(self, rows: Tensor) -> Tensor:
        self.calls += 1
        return self.conv(rows).mean((2, 3)) * self.calls


def with_norms(network: nn.Module) -> nn.Module:
    """Batch normalisation that is not the identity, as after training."""
    torch.manual_seed(1)
    for part in network.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.uniform_(part.running_mean, -0.1, 0.1)
            nn.init.uniform_(part.running_var, 0.5, 2.0)
    return network.eval().requires_grad_(False)


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small", "shufflenet_v2_x1_0"])
def test_a_tuned_network_has_no_batch_normalisation_beside_convolutions_and_the_same_answers(name: str) -> None:
    torch.manual_seed(0)
    network = with_norms(getattr(torchvision.models, name)(weights=None))
    quicker = tuned(network, FORM)
    assert not any(isinstance(part, nn.BatchNorm2d) for part in quicker.modules())
    rows = normalised(torch.randint(0, 256, (5, 3, 64, 64), dtype=torch.uint8), FORM)
    with torch.inference_mode():
        one, other = network(rows), quicker(rows)
    torch.testing.assert_close(other, one, atol=1e-4, rtol=1e-4)
    assert torch.equal(one.argmax(1), other.argmax(1))


@pytest.mark.parametrize("network", [Branches(), torch.jit.script(Branches())])
def test_a_network_that_cannot_be_traced_stays_as_it_is(network: nn.Module) -> None:
    network.eval()
    assert tuned(network, FORM) is network


def test_a_network_that_answers_otherwise_once_traced_stays_as_it_is() -> None:
    network = Shifty().eval()
    assert tuned(network, FORM) is network


def test_the_original_is_left_as_it_was() -> None:
    network = with_norms(torchvision.models.resnet18(weights=None))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    tuned(network, FORM)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_a_tuned_ensemble_keeps_its_name_and_its_labels() -> None:
    pictures = [encoded(scene(90, 70, seed)) for seed in range(12)]
    plain, quicker = (Ensemble(module_of((card("a"), with_norms(TinyClassifier(1))))) for _ in range(2))
    quicker.tune()
    assert quicker.ensemble_info == plain.ensemble_info
    for one, other in zip(plain.answer(pictures), quicker.answer(pictures), strict=True):
        assert [s.label for s in one["a"] or ()] == [s.label for s in other["a"] or ()]
