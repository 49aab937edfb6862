"""A network is looked at before it is adopted, and again when it is served: does it always answer alike?"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from server.domain.errors import ConfigurationError
from server.ensemble import load_ensemble
from tests.server.ensemble.networks import PICTURES, refused
from tests.server.ensemble.others import folder_of, network, write_card


class Counting(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = network()
        self.register_buffer("calls", torch.zeros(1))

    def forward(self, rows: Tensor) -> Tensor:
        self.calls += 1
        return self.inner(rows) + self.calls


class Dropping(nn.Module):
    """Its features are 0 for most pictures, so that dropout shows in few."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.inner, self.rate = network(), rate

    def forward(self, rows: Tensor) -> Tensor:
        return functional.dropout(self.inner(rows), self.rate, self.training)


@pytest.mark.parametrize("rate", [0.5, 1e-7])
def test_a_network_that_was_traced_in_training_mode_is_refused_with_what_to_do(rate: float, tmp_path: Path) -> None:
    detail = refused(Dropping(rate).train(), tmp_path)
    assert "net was saved in training mode (its `dropout` trains)" in detail
    assert "call `model.eval()` before `torch.jit.trace`" in detail


def test_a_network_that_was_exported_in_training_mode_is_refused(tmp_path: Path) -> None:
    program = torch.export.export(Dropping(0.5).train(), (torch.zeros(1, 3, 224, 224),))
    torch.export.save(program, tmp_path / "net.pt2")
    detail = refused(tmp_path / "net.pt2", tmp_path)
    assert "training mode" in detail
    assert "call `model.eval()`" in detail


def test_batch_normalisation_in_training_mode_is_refused(tmp_path: Path) -> None:
    assert "was saved in training mode (its `batch_norm` trains)" in refused(network().train(), tmp_path)


def test_a_network_whose_answer_depends_on_the_batch_is_refused(tmp_path: Path) -> None:
    class Centred(nn.Module):
        def forward(self, rows: Tensor) -> Tensor:
            features = rows.mean((2, 3))
            return features - features.mean(0)

    detail = refused(Centred().eval(), tmp_path, ("a", "b", "c"))
    assert "answers a picture differently when other pictures are in the batch" in detail


def test_a_network_with_a_state_is_refused_when_it_is_adopted_and_when_it_is_served(tmp_path: Path) -> None:
    detail = refused(Counting().eval(), tmp_path)
    assert "net does not answer the same picture the same way" in detail
    folder = folder_of(tmp_path / "served", "torchscript", Counting().eval(), "counting")
    with pytest.raises(ConfigurationError, match="counting does not answer the same picture the same way"):
        load_ensemble([folder.name], folders=[tmp_path / "served"])


def test_a_network_that_trains_is_not_served_either(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, "torchscript", Dropping(0.5).train(), "dropping")
    with pytest.raises(ConfigurationError, match="dropping was saved in training mode"):
        load_ensemble([folder.name], folders=[tmp_path])


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "model.", "module._orig_mod."])
def test_a_prefix_that_all_weights_have_is_left_out(prefix: str, tmp_path: Path) -> None:
    folder = folder_of(tmp_path, "state_dict", network(), "plain")
    again = folder_of(tmp_path, "state_dict", network(), "wrapped")
    wrapped = {prefix + key: value for key, value in network().state_dict().items()}
    torch.save(wrapped, again / "net.pth")
    write_card(
        again, "wrapped", "state_dict", again / "net.pth", 'factory = "net:build"\nparameters = { classes = 5 }\n'
    )
    answers = load_ensemble([folder.name, "wrapped"], folders=[tmp_path]).answer(PICTURES)
    assert all(answer["plain"] == answer["wrapped"] for answer in answers)


def test_a_prefix_that_some_weights_have_is_named(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, "state_dict", network(), "mine")
    state = {f"model.{key}": value for key, value in network().state_dict().items()} | {"loss.weight": torch.zeros(1)}
    torch.save(state, folder / "net.pth")
    write_card(
        folder, "mine", "state_dict", folder / "net.pth", 'factory = "net:build"\nparameters = { classes = 5 }\n'
    )
    with pytest.raises(ConfigurationError, match=r"9 of 10 names of weights begin with `model\.`"):
        load_ensemble(["mine"], folders=[tmp_path])
