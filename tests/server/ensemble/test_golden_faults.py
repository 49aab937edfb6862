"""What the shipped golden set is for: each of these faults leaves all digests as they are, and is noticed, by model.

A name that no picture shows, and a perturbation deep inside a network, may pass: the lock and the digest of the weights
are what tells of those.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
import torch
from torch import Tensor, nn

from server.catalogue import ModelCard, card_named, locate
from server.ensemble import Ensemble, read_golden, shipped_golden
from server.ensemble.building import network_of
from server.ensemble.golden import SURE, Golden
from server.ensemble.module import EnsembleModule

CLASSIFIERS = ["efficientnet-lite0", "efficientnet-lite1", "efficientnet-lite2"]
DETECTORS = ["yolov3-tiny", "yolov3-tiny-608"]

Fault = Callable[[ModelCard, nn.Module], tuple[ModelCard, nn.Module]]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def one_by_one(golden: Golden) -> Iterator[Golden]:
    """The set in sets of one picture each: a fault that one shows need not be looked for in the others."""
    for picture, image in zip(golden.set.pictures, golden.pictures, strict=True):
        of_one = msgspec.structs.replace(golden.set, pictures=(picture,))
        yield Golden(golden.folder, of_one, (image,))


class BlueFirst(nn.Module):
    """A network that is fed blue, green, red instead of red, green, blue."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, rows: Tensor) -> Tensor:
        answer: Tensor = self.network(rows.flip(1))
        return answer


def formed(**changed: object) -> Fault:
    """Another input form than the network was made for."""

    def fault(card: ModelCard, network: nn.Module) -> tuple[ModelCard, nn.Module]:
        return msgspec.structs.replace(card, input=msgspec.structs.replace(card.input, **changed)), network

    return fault


def uncropped(card: ModelCard, network: nn.Module) -> tuple[ModelCard, nn.Module]:
    return formed(shorter_side=card.input.size[0])(card, network)


def cropped_a_pixel_off(card: ModelCard, network: nn.Module) -> tuple[ModelCard, nn.Module]:
    assert card.input.shorter_side is not None
    return formed(shorter_side=card.input.shorter_side + 2)(card, network)


def blue_first(card: ModelCard, network: nn.Module) -> tuple[ModelCard, nn.Module]:
    return card, BlueFirst(network)


def one_layer_perturbed(card: ModelCard, network: nn.Module) -> tuple[ModelCard, nn.Module]:
    """Every weight of the first convolution is off by some 5 %."""
    first = next(value for value in network.parameters() if value.ndim == 4)
    with torch.no_grad():
        first.mul_(1 + 0.05 * torch.randn(first.shape, generator=torch.Generator().manual_seed(1)))
    return card, network


def one_name_swapped(card: ModelCard, network: nn.Module) -> tuple[ModelCard, nn.Module]:
    """The first class that some picture shows clearly changes names with its neighbour."""
    expected = [picture.expected[card.name] for picture in read_golden(shipped_golden()).set.pictures]
    shown = {each.label for each in expected if each.margin >= SURE and each.score >= SURE}
    place = next(place for place, name in enumerate(card.classes[1:], 1) if name in shown)
    names = [*card.classes[: place - 1], card.classes[place], card.classes[place - 1], *card.classes[place + 1 :]]
    return msgspec.structs.replace(card, classes=tuple(names)), network


EVERYWHERE: dict[str, Fault] = {
    "blue first": blue_first,
    "ImageNet's mean and deviation": formed(mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375)),
    "stretched": formed(fit="stretch", shorter_side=None),
    "one name swapped": one_name_swapped,
    "one layer perturbed": one_layer_perturbed,
}
OF_CLASSIFIERS = EVERYWHERE | {
    "divided by 255": formed(mean=(0.0,), std=(255.0,)),
    "uncropped": uncropped,
    "cropped a pixel off": cropped_a_pixel_off,
    "bilinear": formed(resample="bilinear"),
}
OF_DETECTORS = EVERYWHERE | {"bicubic": formed(resample="bicubic")}
CASES = [(name, fault) for name in CLASSIFIERS for fault in OF_CLASSIFIERS]
CASES += [("yolov3-tiny", fault) for fault in OF_DETECTORS]  # the same network as the other one, at half the cost


@pytest.mark.usefixtures("weights")
@pytest.mark.parametrize(("name", "fault"), CASES)
def test_a_fault_that_no_digest_shows_is_noticed(name: str, fault: str, cache_dir: Path) -> None:
    card = card_named(name)
    faulty = (OF_CLASSIFIERS | OF_DETECTORS)[fault](card, network_of(card, locate(card, cache_dir)))
    ensemble = Ensemble(EnsembleModule([faulty]))
    assert any(picture.faults(ensemble) for picture in one_by_one(read_golden(shipped_golden())))


@pytest.mark.parametrize(("name", "least"), [*((name, 0.4) for name in CLASSIFIERS), *((n, 0.2) for n in DETECTORS)])
def test_every_model_is_sure_of_several_pictures(name: str, least: float) -> None:
    expected = [picture.expected[name] for picture in read_golden(shipped_golden()).set.pictures]
    sure = {each.label for each in expected if each.margin >= least and each.score >= SURE}
    assert len(sure) >= 3
