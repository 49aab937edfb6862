"""Networks of torchvision and timm that were trained on for other classes are served by name.

timm is optional, and no part of the extra `dev`: where it is not installed, its test asserts that this is said.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch
import torchvision
from torch import nn

from server.domain.errors import ConfigurationError
from server.ensemble import load_ensemble
from server.ensemble.adoption import adopt_timm, adopt_torchvision
from server.ensemble.building.head import head_size
from server.ensemble.torchvision_models import tuned_content
from tests.server.ensemble.card_models import LIGHT
from tests.server.ensemble.others import CLASSES

DETECTOR = "ssdlite320_mobilenet_v3_large"


def saved(folder: Path, network: nn.Module, prefix: str = "") -> Path:
    state = {prefix + key: value for key, value in network.state_dict().items()}
    torch.save({"state_dict": state, "epoch": 3}, folder / "birds.pth")
    return folder / "birds.pth"


def test_a_classifier_that_was_trained_on_has_the_classes_of_the_list(tmp_path: Path) -> None:
    network = torchvision.models.squeezenet1_1(num_classes=5).eval()
    card = adopt_torchvision("squeezenet1_1", tmp_path / "models", saved(tmp_path, network, "module."), CLASSES)
    assert (card.name, card.classes, card.parameters) == ("birds", CLASSES, {"architecture": "squeezenet1_1"})
    [answer] = load_ensemble(["birds"], folders=[tmp_path / "models"]).answer([LIGHT])
    assert {each.label for each in answer["birds"] or ()} == set(CLASSES)


def test_a_list_of_another_length_than_the_head_is_refused_with_both_numbers(tmp_path: Path) -> None:
    file = saved(tmp_path, torchvision.models.squeezenet1_1(num_classes=5))
    with pytest.raises(ConfigurationError, match="the head of this squeezenet1_1 has 5 outputs, and the list has 2 cl"):
        adopt_torchvision("squeezenet1_1", tmp_path / "models", file, ("a", "b"))
    assert not (tmp_path / "models").exists()


def test_weights_of_another_network_are_refused_by_their_head(tmp_path: Path) -> None:
    file = saved(tmp_path, torchvision.models.squeezenet1_1(num_classes=5))
    with pytest.raises(
        ConfigurationError, match=r"are not those of a mobilenet_v2: they have no `classifier.1.weight`"
    ):
        adopt_torchvision("mobilenet_v2", tmp_path / "models", file, CLASSES)


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> Path:
    network = torchvision.models.get_model(DETECTOR, weights=None, weights_backbone=None, num_classes=3)
    return saved(tmp_path_factory.mktemp("detector"), network)


@pytest.mark.parametrize("names", [("hen", "fox"), ("__background__", "hen", "fox")])
def test_the_first_output_of_a_detector_is_the_background(names: tuple[str, ...], detector: Path) -> None:
    content = tuned_content(DETECTOR, detector, names)
    assert content["classes"] == ("hen", "fox")
    assert content["parameters"] == {"architecture": DETECTOR, "labels": (1, 2), "outputs": 3}


def test_a_detectors_list_of_another_length_is_refused_with_what_is_expected(detector: Path) -> None:
    with pytest.raises(ConfigurationError, match="3 outputs, the first for the background, and the list has 3 classes"):
        tuned_content(DETECTOR, detector, ("hen", "fox", "cat"))


def test_a_detector_without_a_background_may_have_an_output_for_each_name(tmp_path: Path) -> None:
    network = torchvision.models.get_model("fcos_resnet50_fpn", weights=None, weights_backbone=None, num_classes=2)
    content = tuned_content("fcos_resnet50_fpn", saved(tmp_path, network), ("hen", "fox"))
    assert content["parameters"] == {"architecture": "fcos_resnet50_fpn", "labels": (0, 1), "outputs": 2}


def test_heads_of_different_sizes_are_refused() -> None:
    def two_heads(count: int, other: int | None = None) -> nn.Module:
        return nn.Sequential(nn.Linear(4, count), nn.Linear(4, 3 * (other or count)))

    assert head_size(two_heads, two_heads(7).state_dict(), "twins") == 7
    with pytest.raises(ConfigurationError, match=r"this twins have heads of different sizes: 7 by `0.weight`, 9 by `1"):
        head_size(two_heads, two_heads(7, 9).state_dict(), "twins")


def test_a_network_of_timm_is_served_by_name_or_timm_is_said_to_be_missing(tmp_path: Path) -> None:
    file = saved(tmp_path, torchvision.models.resnet18(num_classes=5))  # timm's has the same names
    if importlib.util.find_spec("timm") is None:
        with pytest.raises(
            ConfigurationError, match=r"needs timm, which is not installed: pip install 'sectorwatch\[t"
        ):
            adopt_timm("resnet18", tmp_path / "models", file, CLASSES)
        return
    with pytest.raises(ConfigurationError, match="timm has no network named resnett18: did you mean"):
        adopt_timm("resnett18", tmp_path / "models", file, CLASSES)
    with pytest.raises(ConfigurationError, match="has 5 outputs: name them with --classes FILE"):
        adopt_timm("resnet18", tmp_path / "models", file)
    adopt_timm("resnet18", tmp_path / "models", file, CLASSES)
    ensemble = load_ensemble(["birds"], folders=[tmp_path / "models"])
    assert {each.label for each in ensemble.answer([LIGHT])[0]["birds"] or ()} == set(CLASSES)
    assert ensemble.lock.versions.keys() == {"torch", "torchvision", "timm"}
    assert ensemble.lock.models[0].code.items() >= {("timm", 1)}
