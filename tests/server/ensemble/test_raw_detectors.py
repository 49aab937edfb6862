"""Raw detectors with a postprocess, and factories given by path."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from server.catalogue import InputForm
from server.domain.errors import ConfigurationError
from server.ensemble import load_ensemble
from server.ensemble.adoption import adopt
from server.ensemble.building import raw_boxes
from tests.server.ensemble.card_models import LIGHT, RED
from tests.server.ensemble.others import CLASSES, SOURCE, adopt_here, network


def test_a_factory_given_by_path_is_copied_into_the_models_folder_and_needs_trust(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "net.py").write_text(SOURCE.replace("classes, width=8", "classes=5, width=8"))
    torch.save(network().state_dict(), tmp_path / "oak.pth")
    named = f"{tmp_path}/mine/net.py:build"
    with pytest.raises(ConfigurationError, match=r"comes with the code of its factory .*: this can run code\. If you"):
        adopt(tmp_path / "oak.pth", CLASSES, tmp_path / "models", factory=named)
    assert not (tmp_path / "models").exists()
    adopted = adopt_here(tmp_path / "oak.pth", CLASSES, tmp_path / "models", factory=named)
    assert (adopted.card.factory, adopted.card.trusted) == ("net:build", True)
    (tmp_path / "mine" / "net.py").unlink()
    assert load_ensemble(["oak"], folders=[tmp_path / "models"]).answer([RED])[0]["oak"]


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ("{}/none.py:build", "there is no file"),
        ("{}/my-net.py:build", "its name of letters, digits and _ only"),
        ("{}/net.py", "there is no file|is given as file.py:callable|is package.module:callable"),
    ],
)
def test_a_factory_file_that_cannot_be_is_refused(named: str, message: str, tmp_path: Path) -> None:
    for name in ("net.py", "my-net.py"):
        (tmp_path / name).write_text(SOURCE)
    torch.save(network().state_dict(), tmp_path / "oak.pth")
    with pytest.raises(ConfigurationError, match=message):
        adopt_here(tmp_path / "oak.pth", CLASSES, tmp_path / "models", factory=named.format(tmp_path))


HEN = [0.2, 0.3, 0.1, 0.2]  # centre, width, height


def raw_yolo() -> Tensor:
    boxes = torch.tensor([HEN, [0.21, 0.3, 0.1, 0.2], [0.8, 0.7, 0.2, 0.2]]) * 100
    return torch.cat((boxes, torch.tensor([[0.9, 0.1], [0.8, 0.1], [0.0, 0.7]])), 1)[None]


def raw_yolov5() -> Tensor:
    raw = raw_yolo()
    return torch.cat((raw[..., :4], torch.full((1, 3, 1), 0.5), raw[..., 4:] * 2), 2)


def raw_detr(logits: list[list[float]]) -> dict[str, Tensor]:
    return {"logits": torch.tensor([logits]), "pred_boxes": torch.tensor([[HEN, [0.8, 0.7, 0.2, 0.2]]])}


@pytest.mark.parametrize(
    ("answer", "least"),
    [
        (raw_boxes.yolo(raw_yolo(), (100, 100), 2), 0.6),
        (raw_boxes.yolo((raw_yolo().transpose(1, 2), [torch.zeros(1)]), (100, 100), 2), 0.6),
        (raw_boxes.yolov5(raw_yolov5(), (100, 100), 2), 0.6),
        (
            raw_boxes.yolo_end_to_end(
                torch.tensor([[[15.0, 20, 25, 40, 0.9, 0], [70.0, 60, 90, 80, 0.7, 1]]]), (100, 100), 2
            ),
            0.6,
        ),
        (raw_boxes.detr(raw_detr([[4.0, 0.0, 0.0], [0.0, 3.0, 0.0]]), (100, 100), 2), 0.6),
        (raw_boxes.detr_sigmoid(raw_detr([[2.0, -5.0], [-5.0, 1.0]]), (100, 100), 2), 0.6),
    ],
    ids=["yolo", "yolo swapped in a tuple", "yolov5", "end to end", "detr", "detr of sigmoids"],
)
def test_raw_answers_become_boxes(answer: list[dict[str, Tensor]], least: float) -> None:
    [row] = answer
    kept = row["scores"] >= least
    assert row["labels"][kept].tolist() == [1, 2]
    assert row["boxes"][kept].flatten().tolist() == pytest.approx([15, 20, 25, 40, 70, 60, 90, 80], abs=1e-3)


def test_a_raw_answer_of_another_shape_is_refused_with_what_is_expected() -> None:
    with pytest.raises(ValueError, match=r"shape \(1, 9, 3\) came, and one with 6 numbers for each box is expected"):
        raw_boxes.yolo(torch.zeros(1, 9, 3), (100, 100), 2)
    with pytest.raises(ValueError, match=r"\[N, queries, 3\] .* expected of `detr`.* are \(1, 2, 2\)"):
        raw_boxes.detr({"logits": torch.zeros(1, 2, 2), "pred_boxes": torch.zeros(1, 2, 4)}, (100, 100), 2)
    with pytest.raises(ValueError, match=r"queries, 2\] .* expected of `detr-sigmoid`.* are \(1, 2, 3\)"):
        raw_boxes.detr_sigmoid({"logits": torch.zeros(1, 2, 3), "pred_boxes": torch.zeros(1, 2, 4)}, (100, 100), 2)


class Yolo(nn.Module):
    def forward(self, rows: Tensor) -> Tensor:
        light = rows.mean((1, 2, 3))[:, None]
        box = torch.tensor([[20.0, 30.0, 10.0, 20.0]]).expand(len(rows), 4)
        return torch.cat((box, light * 0.9, light * 0.1), 1)[:, :, None]


def test_a_raw_detector_is_adopted_with_a_postprocess(tmp_path: Path) -> None:
    torch.jit.script(Yolo()).save(str(tmp_path / "y.pt"))
    adopted = adopt_here(
        tmp_path / "y.pt",
        ["hen", "fox"],
        tmp_path / "models",
        kind="detector",
        postprocess="server.ensemble.building.raw_boxes:yolo",
        form=InputForm("rgb", "letterbox", (100, 100), multiple_of=100, std=(255.0,)),
    )
    assert (adopted.card.kind, adopted.card.argmax) == ("detector", False)
    ensemble = load_ensemble(["y"], folders=[tmp_path / "models"])
    [hen] = ensemble.answer([LIGHT])[0]["y"] or ()
    assert (hen.label, hen.box) == ("hen", pytest.approx((0.15, 0.2, 0.25, 0.4), abs=1e-4))
    assert ensemble.lock.models[0].code.items() >= {("raw-boxes", 1), ("detector-dicts", 1), ("nms", 1)}


class Boxed(nn.Module):
    """Answers as the detectors of torchvision, in the second part of a dict."""

    def forward(self, rows: list[Tensor]) -> dict[str, list[dict[str, Tensor]]]:
        found: list[dict[str, Tensor]] = []
        for row in rows:
            box, score = torch.tensor([[15.0, 20.0, 25.0, 40.0]]), row.mean().reshape(1) * 0.9
            found.append({"boxes": box, "scores": score, "labels": torch.tensor([1])})
        return {"nothing": found[:0], "found": found}


def test_of_a_detectors_answer_the_part_counts_that_the_card_names(tmp_path: Path) -> None:
    torch.jit.script(Boxed()).save(str(tmp_path / "b.pt"))
    form = InputForm("rgb", "stretch", (100, 100), std=(255.0,))
    adopt_here(tmp_path / "b.pt", ["hen"], tmp_path / "models", output="found", kind="detector", form=form)
    [hen] = load_ensemble(["b"], folders=[tmp_path / "models"]).answer([LIGHT])[0]["b"] or ()
    assert (hen.label, hen.box) == ("hen", pytest.approx((0.15, 0.2, 0.25, 0.4), abs=1e-4))
    with pytest.raises(ConfigurationError, match=r"without the part `lost` .*: it has `nothing`, `found`"):
        adopt_here(tmp_path / "b.pt", ["hen"], tmp_path / "others", output="lost", kind="detector", form=form)


def test_a_factory_file_that_cannot_be_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "net.py").write_text(SOURCE)
    torch.save(network().state_dict(), tmp_path / "oak.pth")
    read = Path.read_bytes

    def refuse(path: Path) -> bytes:
        if path.name == "net.py":  # root reads every file
            raise PermissionError(13, "Permission denied")
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(ConfigurationError, match=r"net\.py cannot be read: Permission denied"):
        adopt_here(tmp_path / "oak.pth", CLASSES, tmp_path / "models", factory=f"{tmp_path}/net.py:build")


def test_a_raw_detector_without_postprocess_is_refused_with_what_it_needs(tmp_path: Path) -> None:
    torch.jit.script(Yolo()).save(str(tmp_path / "y.pt"))
    form = InputForm("rgb", "letterbox", (100, 100), multiple_of=100, std=(255.0,))
    with pytest.raises(ConfigurationError, match=r"y takes pictures as one batch .* of 1x6x1: .*--postprocess yolo"):
        adopt_here(tmp_path / "y.pt", ["hen", "fox"], tmp_path / "models", kind="detector", form=form)
