"""A folder of `save_pretrained` becomes a card, and what cannot be served is refused.

transformers is optional, and no part of the extra `dev`: where it is not installed, the first test asserts that this is
said. The others need it not.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from server.catalogue import InputForm, ModelCard
from server.commands.models.form_options import form_of
from server.domain.errors import ConfigurationError
from server.ensemble import load_ensemble
from server.ensemble.adoption import adopt_hugging_face
from server.ensemble.building.hugging_face import Boxes, build, card_content
from server.ensemble.forms import row_of
from tests.server.ensemble.card_models import LIGHT

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
        ({"size": 224, "crop_pct": 0.875}, "crop", (224, 224), 256),
        ({"size": 384, "crop_pct": 0.875}, "stretch", (384, 384), None),
        ({"size": {"shortest_edge": 224}, "crop_pct": 0.9, "crop_size": 224}, "crop", (224, 224), 248),
        ({"size": 256, "do_center_crop": True, "crop_size": 224}, "crop", (224, 224), 256),
        ({"size": 224, "do_center_crop": False, "crop_size": 200}, "stretch", (224, 224), None),
        ({"do_center_crop": True, "crop_size": 32}, "stretch", (32, 32), None),
    ],
)
def test_the_preprocessing_becomes_the_form(
    preprocessing: dict[str, Any], fit: str, size: tuple[int, int], shorter_side: int | None, tmp_path: Path
) -> None:
    form = card_content(folder_of(tmp_path, preprocessing=preprocessing))["input"]
    assert (form["fit"], tuple(form["size"]), form["shorter_side"]) == (fit, size, shorter_side)
    assert (form["mean"], form["std"]) == ([127.5] * 3, [127.5] * 3)


@pytest.mark.parametrize(
    "edges", [{"size": {"shortest_edge": 800, "longest_edge": 1333}}, {"size": 800, "max_size": 1333}]
)
def test_a_detector_gets_the_whole_picture_upright_or_not(edges: dict[str, Any], tmp_path: Path) -> None:
    content = card_content(folder_of(tmp_path, {"architectures": ["DetrForObjectDetection"]}, edges))
    form = msgspec.convert(content["input"], InputForm)
    shapes = [
        tuple(row_of(torch.zeros(3, height, width, dtype=torch.uint8), form).pixels.shape[1:])
        for height, width in ((480, 640), (640, 480), (900, 1600))
    ]
    assert (content["kind"], shapes) == ("detector", [(800, 1067), (1067, 800), (750, 1333)])
    unchanged = form_of(dict.fromkeys(("size", "fit", "std", "channels", "pad", "dtype")) | {"mean": (0.5,)}, form)
    assert unchanged.shorter_side == 800


@pytest.mark.parametrize(
    ("preprocessing", "message"),
    [
        ({"include_top": True}, "`include_top` is set"),
        ({"rescale_offset": True}, "`rescale_offset` is set"),
        ({"do_pad": True}, "`do_pad` is set"),
        ({"size_divisor": 32}, "`size_divisor` is set"),
        ({"do_resize": False}, "`do_resize` is false"),
        ({"resample": 1}, "`resample` is 1"),
        ({"resample": 0}, "`resample` is 0"),
        ({"do_center_crop": True, "crop_size": 28}, "`size` of width and height, which is then cut"),
        ({"size": {"shortest_edge": 224}}, "nothing cuts the rest"),
        ({"size": {"shortest_edge": 224}, "crop_size": 256}, "`crop` needs a `shorter_side`"),
        ({"size": "224"}, "`size` has '224'"),
        ({"size": -224}, "`size` has -224"),
        ({"size": None}, "has no `size`"),
        ({"image_std": None}, "`image_std` is None"),
        ({"image_std": [0.5, 0, 0.5]}, "`image_std` has a number that is not positive"),
        ({"image_mean": ["a"]}, "`image_mean` is 'a'"),
        ({"image_mean": None}, "`image_mean` is None"),
        ({"rescale_factor": 0}, "`rescale_factor` is 0"),
        ({"do_flip_channel_order": True, "image_mean": [0.4, 0.5, 0.6]}, "for each colour is unclear"),
    ],
)
def test_preprocessing_that_no_form_says_is_refused_by_name(
    preprocessing: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigurationError, match=rf"preprocessor_config\.json: .*{message}"):
        card_content(folder_of(tmp_path, preprocessing=preprocessing))


def test_a_flip_of_the_colours_a_number_for_all_and_raw_values_become_the_form(tmp_path: Path) -> None:
    stated = {"do_flip_channel_order": True, "image_mean": 0.5, "rescale_factor": None}
    form = card_content(folder_of(tmp_path, preprocessing=stated))["input"]
    assert (form["colour"], form["mean"]) == ("bgr", [127.5])
    (tmp_path / "raw").mkdir()
    raw = {"do_rescale": False, "image_mean": [100.0] * 3, "image_std": [50.0] * 3}
    form = card_content(folder_of(tmp_path / "raw", preprocessing=raw))["input"]
    assert (form["mean"], form["std"]) == ([100.0] * 3, [50.0] * 3)


def test_twins_get_numbers_and_outputs_without_a_class_are_left_out(tmp_path: Path) -> None:
    names = {"0": "N/A", "1": "crane", "2": "crane", "3": "N/A", "4": "crane"}
    content = card_content(folder_of(tmp_path, {"id2label": names}))
    assert content["classes"] == ("N/A", "crane", "crane (2)", "N/A (2)", "crane (3)")
    assert "labels" not in content["parameters"]
    (tmp_path / "coco").mkdir()
    detector = {"id2label": names, "architectures": ["DetrForObjectDetection"], "num_labels": 6}
    content = card_content(folder_of(tmp_path / "coco", detector))
    assert content["classes"] == ("crane", "crane (2)", "crane (3)")
    assert content["parameters"]["labels"] == (2, 3, 5)
    assert json.loads(content["parameters"]["config"])["num_labels"] == 6


class Queries(nn.Module):
    def forward(self, pixel_values: Tensor) -> dict[str, Tensor]:
        width = 7 if pixel_values.shape[-1] == 32 else 6
        logits = torch.full((len(pixel_values), 1, width), -9.0)
        logits[..., 4] = 9.0
        return {"logits": logits, "pred_boxes": torch.full((len(pixel_values), 1, 4), 0.5)}


def test_a_detector_with_outputs_left_out_still_counts_them() -> None:
    for softmax, side in ((True, 32), (False, 64)):
        [row] = Boxes(Queries(), 6, softmax=softmax)([torch.zeros(3, side, side)])
        best = row["scores"].argmax()
        assert (row["labels"][best], round(float(row["scores"][best]), 2)) == (5, 1.0)
    with pytest.raises(ValueError, match="`detr-sigmoid`"):
        Boxes(Queries(), 6, softmax=True)([torch.zeros(3, 64, 64)])


FETCHING = {
    "_attn_implementation": "owner/repo",
    "attn_implementation": "owner/repo",
    "use_pretrained_backbone": True,
    "backbone_config": {"_attn_implementation": "owner/repo", "use_pretrained_backbone": True},
}


def test_what_would_be_downloaded_is_left_out_of_a_card_and_of_the_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[dict[str, Any]] = []

    class AutoConfig:
        @staticmethod
        def for_model(_kind: str, **config: Any) -> None:
            asked.append(config)
            raise ValueError(f"offline {os.environ['HF_HUB_OFFLINE']}")

    monkeypatch.setitem(sys.modules, "transformers", SimpleNamespace(AutoConfig=AutoConfig))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    content = card_content(folder_of(tmp_path, FETCHING))
    for config in (content["parameters"]["config"], json.dumps(FETCHING | {"num_labels": 2})):
        stated = content | {"parameters": {"config": config}, "name": "net", "summary": "s", "licence": "MIT"}
        card = msgspec.convert(stated, ModelCard)
        with pytest.raises(ConfigurationError, match="offline 1"):
            build(card, tmp_path / "vit-birds" / "model.safetensors")
        assert "owner/repo" not in json.dumps(asked[-1])
        assert asked[-1]["use_pretrained_backbone"] is asked[-1]["backbone_config"]["use_pretrained_backbone"] is False


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"auto_map": {"AutoModel": "net.Net"}}, "names code of its own"),
        ({"architectures": ["BertForMaskedLM"]}, "no image classifier and no object detector"),
        ({"architectures": [None]}, "holds a network without a name"),
        ({"architectures": "ViT"}, "holds a network without a name"),
        ({"id2label": {"1": "ash", "2": "birch"}}, "does not name its classes: .* no name for the output 0"),
        ({"id2label": {"ash": "0"}}, "does not name its classes: .* `ash` where a number"),
        ({"id2label": ["ash", "birch"]}, "does not name its classes: .* no object"),
        ({"id2label": {"0": None}}, "does not name its classes: .* no object"),
        ({"id2label": None}, "does not name its classes"),
        ({"num_labels": 1}, "has `num_labels` 1"),
        ({"backbone_config": {"auto_map": {"AutoModel": "net.Net"}}}, "names code of its own"),
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
