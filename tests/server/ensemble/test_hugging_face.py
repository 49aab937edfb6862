"""A folder of `save_pretrained` becomes a card, and what cannot be served is refused.

transformers is optional, and no part of the extra `dev`: where it is not installed, the first test asserts that this is
said. The others need it not.
"""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from server.domain.errors import ConfigurationError
from server.ensemble import load_ensemble
from server.ensemble.adoption import adopt_hugging_face
from server.ensemble.building.hugging_face import card_content
from tests.server.ensemble.test_said_on_the_card import LIGHT

CONFIG = {
    "architectures": ["ViTForImageClassification"],
    "model_type": "vit",
    "hidden_size": 8,
    "intermediate_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 32,
    "patch_size": 16,
    "id2label": {"0": "ash", "1": "birch"},
    "label2id": {"ash": 0, "birch": 1},
}
PREPROCESSING = {
    "size": {"height": 32, "width": 32},
    "resample": 2,
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5],
}


def folder_of(
    tmp_path: Path, config: dict[str, Any] | None = None, preprocessing: dict[str, Any] | None = None
) -> Path:
    folder = tmp_path / "vit-birds"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(CONFIG | (config or {})))
    (folder / "preprocessor_config.json").write_text(json.dumps(PREPROCESSING | (preprocessing or {})))
    save_file({"weight": torch.zeros(1)}, folder / "model.safetensors")
    return folder


def test_a_folder_is_served_or_transformers_is_said_to_be_missing(tmp_path: Path) -> None:
    folder = folder_of(tmp_path)
    if importlib.util.find_spec("transformers") is None:
        with pytest.raises(ConfigurationError, match=r"needs transformers, which is not installed: pip install 'sec"):
            adopt_hugging_face(folder, tmp_path / "models")
        return
    import transformers

    config = transformers.ViTConfig(**{key: value for key, value in CONFIG.items() if key != "model_type"})
    network = transformers.ViTForImageClassification(config).eval()
    network.save_pretrained(folder, safe_serialization=True)
    card = adopt_hugging_face(folder, tmp_path / "models")
    assert (card.name, card.classes, card.input.size) == ("vit-birds", ("ash", "birch"), (32, 32))
    (folder / "config.json").unlink()  # the card has it
    ensemble = load_ensemble(["vit-birds"], folders=[tmp_path / "models"])
    with torch.inference_mode():
        scores = network(pixel_values=torch.ones(1, 3, 32, 32)).logits.softmax(1)[0].tolist()
    answered = {each.label: each.score for each in ensemble.answer([LIGHT])[0]["vit-birds"] or ()}
    assert answered == pytest.approx(dict(zip(card.classes, scores, strict=True)), abs=1e-3)
    assert "transformers" in ensemble.lock.versions


@pytest.mark.parametrize(
    ("preprocessing", "fit", "size", "shorter_side"),
    [
        ({}, "stretch", (32, 32), None),
        ({"size": 224}, "stretch", (224, 224), None),
        ({"size": {"shortest_edge": 256}, "crop_size": {"height": 224, "width": 224}}, "crop", (224, 224), 256),
        ({"size": {"shortest_edge": 224}, "crop_pct": 0.875}, "crop", (224, 224), 256),
    ],
)
def test_the_preprocessing_becomes_the_form(
    preprocessing: dict[str, Any], fit: str, size: tuple[int, int], shorter_side: int | None, tmp_path: Path
) -> None:
    form = card_content(folder_of(tmp_path, preprocessing=preprocessing))["input"]
    assert (form["fit"], tuple(form["size"]), form["shorter_side"]) == (fit, size, shorter_side)
    assert (form["mean"], form["std"]) == ([127.5] * 3, [127.5] * 3)


def test_a_detector_gets_the_whole_picture_at_its_size(tmp_path: Path) -> None:
    edges = {"size": {"shortest_edge": 800, "longest_edge": 1333}}
    content = card_content(folder_of(tmp_path, {"architectures": ["DetrForObjectDetection"]}, edges))
    assert (content["kind"], content["input"]["fit"], content["input"]["size"]) == (
        "detector",
        "letterbox",
        [1333, 800],
    )


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"auto_map": {"AutoModel": "net.Net"}}, "names code of its own"),
        ({"architectures": ["BertForMaskedLM"]}, "no image classifier and no object detector"),
        ({"id2label": {"1": "ash", "2": "birch"}}, "does not name its classes"),
    ],
)
def test_a_network_that_cannot_be_served_is_refused(config: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=message):
        card_content(folder_of(tmp_path, config))


def test_weights_that_are_no_safetensors_are_refused_unread(tmp_path: Path) -> None:
    folder = folder_of(tmp_path)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ConfigurationError, match=r"has no model.safetensors: save it with `safe_serialization=True`"):
        card_content(folder)
