"""What a network takes instead of what its card says."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from server.domain.errors import ConfigurationError
from server.ensemble import load_ensemble
from tests.server.ensemble.networks import PICTURES, refused, traced
from tests.server.ensemble.others import folder_of, network


class Grey(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5))

    def forward(self, rows: Tensor) -> Tensor:
        return self.body(rows)


class Sized(nn.Module):
    def __init__(self, side: int, channels: int = 3) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(channels * side * side, 5))

    def forward(self, rows: Tensor) -> Tensor:
        return self.body(rows)


class ColoursLast(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = network()

    def forward(self, rows: Tensor) -> Tensor:
        return self.inner(rows.permute(0, 3, 1, 2))


class Single(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(3, 5)

    def forward(self, picture: Tensor) -> Tensor:
        return self.inner(picture.permute(1, 2, 0).mean((0, 1)))[None]


@pytest.mark.parametrize(
    ("made", "shape", "message"),
    [
        (
            Grey(),
            (1, 1, 224, 224),
            'it takes one with colour = "grey": give --channels grey (colour = "grey" under [input])',
        ),
        (Sized(96), (1, 3, 96, 96), "it takes one with size = [96, 96]"),
        (Sized(28, 1), (1, 1, 28, 28), 'it takes one with size = [28, 28] and colour = "grey"'),
        (ColoursLast(), (1, 224, 224, 3), "it wants the colours last (H, W, C)"),
        (Single(), (3, 224, 224), "it wants a single picture without a batch (C, H, W)"),
    ],
    ids=["grey", "size", "grey and size", "colours last", "single"],
)
def test_what_a_network_takes_instead_is_said(
    made: nn.Module, shape: tuple[int, ...], message: str, tmp_path: Path
) -> None:
    detail = refused(traced(made.eval(), tmp_path, shape), tmp_path)
    assert "net does not take a colour picture of 224x224" in detail
    assert message in detail


def test_a_network_in_float16_is_refused_in_one_line_also_when_it_is_served(tmp_path: Path) -> None:
    file = tmp_path / "net.pt"
    torch.jit.script(network().half()).save(str(file))
    assert "it wants float16: call `model.float()` before you save it" in refused(file, tmp_path)
    folder = folder_of(tmp_path / "served", "pickle", network().half(), "half")
    with pytest.raises(ConfigurationError, match="half does not take a colour picture of 40x32: it wants float16"):
        load_ensemble([folder.name], folders=[tmp_path / "served"])


def test_weights_in_float16_are_cast_for_a_factory_in_float32(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, "state_dict", network().half(), "half")
    assert load_ensemble([folder.name], folders=[tmp_path]).answer(PICTURES[:1])[0]["half"]


def test_whole_numbers_are_named(tmp_path: Path) -> None:
    class Looked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Embedding(256, 5)

        def forward(self, rows: Tensor) -> Tensor:
            return self.table(rows[:, 0, ::32, ::32]).mean((1, 2))

    file = tmp_path / "net.pt"
    torch.jit.script(Looked()).save(str(file))
    assert "it wants whole numbers (int64)" in refused(file, tmp_path)


def test_a_fixed_number_of_pictures_is_named(tmp_path: Path) -> None:
    class OfOne(nn.Module):
        def forward(self, rows: Tensor) -> Tensor:
            return rows.reshape(1, 3, 50176).mean(2)

    class OfEight(nn.Module):
        def forward(self, rows: Tensor) -> Tensor:
            return rows.reshape(8, 3, 50176).mean(2)

    detail = refused(traced(OfOne(), tmp_path, (1, 3, 224, 224)), tmp_path, ("a", "b", "c"))
    assert "net does not take 3 pictures at once" in detail
    assert "for one picture at a time" in detail
    detail = refused(traced(OfEight(), tmp_path, (8, 3, 224, 224)), tmp_path, ("a", "b", "c"))
    assert "it was traced for 8 pictures at once" in detail


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (("a", "b"), "net gives 5 numbers for a picture, and the list has 2 classes"),
        (("a", "b", "c", "d"), "and the list has 4 classes: one more, perhaps a first class for the background"),
        (("person",), "net gives 5 numbers for a picture, and the list has 1 class"),
    ],
)
def test_another_number_of_classes_is_named_with_both_numbers(
    classes: tuple[str, ...], message: str, tmp_path: Path
) -> None:
    assert message in refused(network(), tmp_path, classes)
