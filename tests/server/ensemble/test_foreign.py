"""Any PyTorch model, unconverted: a folder with a card, and its labels are those of the model run alone."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from io import BytesIO
from pathlib import Path

import msgspec
import pytest
import torch
import torchvision
from torch import Tensor, nn

from policies.observation import Prediction
from server.catalogue import InputForm, ModelCard, card_named, locate, parse_card
from server.domain.errors import ConfigurationError
from server.ensemble import Ensemble, load_ensemble
from server.ensemble.adoption import adopt, adopt_torchvision
from server.ensemble.building import foreign, network_of
from server.ensemble.building.detector import Detector
from server.ensemble.decode import decode
from server.ensemble.forms import normalised, row_of
from tests.server.ensemble.others import CLASSES, FORMATS, SOURCE, adopt_here, folder_of, network, write_card
from tests.server.ensemble.pictures import encoded, scene

PICTURES = [encoded(scene(60 + 13 * index, 50 + 7 * index, seed=index)) for index in range(5)]
CROPS = {"left": (0.0, 0.0, 0.5, 1.0)}


class Marks:
    """Leaves a mark where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (self.path,))


def rows_of(form: InputForm) -> Tensor:
    return torch.cat([normalised(row_of(decode(picture), form).pixels[None], form) for picture in PICTURES])


def labels_alone(made: nn.Module, card: ModelCard) -> list[tuple[str, float]]:
    with torch.inference_mode():
        scores, labels = made(rows_of(card.input)).softmax(1).max(1)
    return [
        (card.classes[label], round(score, 3)) for score, label in zip(scores.tolist(), labels.tolist(), strict=True)
    ]


def best(answer: tuple[Prediction, ...] | None) -> tuple[str, float]:
    assert answer
    whole = [prediction for prediction in answer if prediction.sector is None]
    return whole[0].label, round(whole[0].score, 3)


def asked(name: str, folder: Path) -> tuple[Ensemble, list[tuple[str, float]]]:
    ensemble = load_ensemble([name], folders=[folder])
    return ensemble, [best(answer[name]) for answer in ensemble.answer(PICTURES, CROPS)]


def close(ours: list[tuple[str, float]], theirs: list[tuple[str, float]]) -> bool:
    pairs = list(zip(ours, theirs, strict=True))
    return all(a[0] == b[0] and abs(a[1] - b[1]) <= 0.002 for a, b in pairs)


@pytest.mark.parametrize("form", FORMATS)
def test_labels_of_every_format_are_those_of_the_model_alone(form: str, tmp_path: Path) -> None:
    made = network()
    name = folder_of(tmp_path, form, made).name
    _ensemble, said = asked(name, tmp_path)
    alone = labels_alone(made, card_named(name, [tmp_path]))
    assert close(said, alone)
    assert len({label for label, _score in alone}) > 1


def test_a_scripted_network_may_use_torchvisions_operators_and_another_does_without_its_import(tmp_path: Path) -> None:
    class Suppressing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = network()

        def forward(self, rows: Tensor) -> Tensor:
            kept = torchvision.ops.nms(torch.tensor([[0.0, 0.0, 1.0, 1.0]]), torch.ones(1), 0.5)
            return self.inner(rows) + kept[0]

    folder_of(tmp_path, "torchscript", Suppressing(), "suppressing")
    folder_of(tmp_path, "torchscript", network(), "plain")
    code = """
import sys; from pathlib import Path; from server.ensemble import load_ensemble
for name in ("plain", "suppressing"):
    model_info = load_ensemble([name], folders=[Path(sys.argv[1])]).ensemble_info.models[0]
    print(model_info.model, "torchvision" in sys.modules)
"""
    command = [sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["plain False", "suppressing True"]


def test_two_models_with_modules_of_one_name_do_not_meet(tmp_path: Path) -> None:
    folder_of(tmp_path, "state_dict", network(1), "first")
    second = folder_of(tmp_path, "state_dict", network(2), "second")
    (second / "net.py").write_text(SOURCE + "\n\nWHOSE = 'second'\n")
    ensemble = load_ensemble(["first", "second"], folders=[tmp_path])
    first, other = ensemble.lock.models
    assert first.source != other.source
    for seed, name in enumerate(("first", "second"), 1):
        said = [best(answer[name]) for answer in ensemble.answer(PICTURES)]
        assert close(said, labels_alone(network(seed), card_named(name, [tmp_path])))


def test_a_model_that_ends_in_a_softmax_keeps_its_scores(tmp_path: Path) -> None:
    made = nn.Sequential(network(), nn.Softmax(1)).eval()
    folder = folder_of(tmp_path, "torchscript", made)
    text = (folder / "card.toml").read_text()
    (folder / "card.toml").write_text(text.replace("licence", 'output = "probabilities"\nlicence', 1))
    _ensemble, said = asked(folder.name, tmp_path)
    assert close(said, labels_alone(network(), card_named(folder.name, [tmp_path])))


def test_a_model_that_answers_with_more_than_its_logits_is_taken_at_the_first(tmp_path: Path) -> None:
    class WithFeatures(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = network()

        def forward(self, rows: Tensor) -> tuple[Tensor, Tensor]:
            return self.inner(rows), rows.mean((2, 3))

    folder = folder_of(tmp_path, "torchscript", WithFeatures().eval())
    _ensemble, said = asked(folder.name, tmp_path)
    assert close(said, labels_alone(network(), card_named(folder.name, [tmp_path])))


@pytest.mark.parametrize("form", ["state_dict", "pickle"])
def test_a_plain_classifier_is_not_hidden_in_a_wrapper_so_that_it_can_be_made_quicker(
    form: str, tmp_path: Path
) -> None:
    card = card_named(folder_of(tmp_path, form, network()).name, [tmp_path])
    assert isinstance(network_of(card, locate(card, tmp_path)), nn.Sequential)


def test_a_pickled_module_is_refused_unless_its_card_says_it_is_trusted(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, "pickle", network())
    text = (folder / "card.toml").read_text().replace("trusted = true\n", "")
    with pytest.raises(ConfigurationError, match="only with `trusted = true`"):
        parse_card(text, folder / "card.toml")


@pytest.mark.parametrize("form", ["state_dict", "torchscript", "export", "safetensors"])
def test_what_a_file_says_is_not_run_in_any_other_format(form: str, tmp_path: Path) -> None:
    folder = folder_of(tmp_path, form, network())
    mark = tmp_path / "was-run"
    file = next(path for path in folder.iterdir() if path.stem == "net" and path.suffix != ".py")
    torch.save({"weight": Marks(mark)}, file)
    factory = 'factory = "net:build"\nparameters = { classes = 5 }\n' if (folder / "net.py").exists() else ""
    write_card(folder, folder.name, form, file, factory)
    with pytest.raises(ConfigurationError, match=folder.name):
        load_ensemble([folder.name], folders=[tmp_path])
    assert not mark.exists()


def packed(path: Path, name: str, content: bytes, fault: str = "") -> Path:
    """A zip archive with one member, which is damaged or encrypted as `fault` says."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content)
    made = bytearray(path.read_bytes())
    if fault == "damaged":
        made[30 + len(name)] = 0xFF  # the first byte of the deflated content
    if fault == "encrypted":
        made[6] |= 1
        made[made.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(made)
    return path


@pytest.mark.parametrize("fault", ["damaged", "encrypted"])
def test_an_archive_that_cannot_be_unpacked_is_named_with_what_to_do(fault: str, tmp_path: Path) -> None:
    path = packed(tmp_path / "net.pt2", "net/data/constants/model_constants_config.json", b'{"config": {}}', fault)
    with pytest.raises(ConfigurationError, match=r"net\.pt2 cannot be unpacked, get it again"):
        foreign._check_unpickled(path)
    assert foreign._calls_others_operators(
        packed(tmp_path / "net.pt", "net/code/net.py", b"return ops.aten.add(1)", fault)
    )


@pytest.mark.parametrize(
    ("code", "calls"),
    [
        (b"return ops.torchvision.nms(x)", True),
        (b"return ops . torchvision.nms(x)", True),
        (b"return ops .\n  aten.add(x)", False),
        (b"return torch.add(x)", False),
        (b" " * (foreign._MOST_CODE + 1), True),
    ],
)
def test_the_code_of_a_scripted_network_is_searched_for_operators_of_others_up_to_a_bound(
    code: bytes, calls: bool, tmp_path: Path
) -> None:
    assert foreign._calls_others_operators(packed(tmp_path / "net.pt", "net/code/net.py", code)) is calls


@pytest.mark.parametrize("where", ["net/data/sample_inputs/model.pt", "net/data/constants/model_constants_config.json"])
def test_an_exported_program_with_pickled_parts_is_refused_unread(where: str, tmp_path: Path) -> None:
    folder = folder_of(tmp_path, "export", network())
    mark, pickled = tmp_path / "was-run", BytesIO()
    torch.save((Marks(mark),), pickled)
    config = b'{"config": {"x": {"path_name": "opaque_obj_0", "is_param": false, "use_pickle": true}}}'
    with zipfile.ZipFile(folder / "net.pt2") as whole:
        members = {name: whole.read(name) for name in whole.namelist()}
    members[where] = config if where.endswith("json") else pickled.getvalue()
    with zipfile.ZipFile(folder / "net.pt2", "w") as changed:
        for name, content in members.items():
            changed.writestr(name, content)
    write_card(folder, folder.name, "export", folder / "net.pt2")
    with pytest.raises(ConfigurationError, match="has pickled parts"):
        load_ensemble([folder.name], folders=[tmp_path])
    assert not mark.exists()


def test_weights_that_do_not_fit_at_all_are_told_in_a_few_lines(tmp_path: Path) -> None:
    many = nn.Sequential(*(nn.Linear(1, 1) for _ in range(200)))
    folder = folder_of(tmp_path, "state_dict", many)
    with pytest.raises(ConfigurationError, match=r"do not fit what its factory makes: Error.* Missing key") as refused:
        load_ensemble([folder.name], folders=[tmp_path])
    assert len(refused.value.detail) < 600


def test_weights_that_do_not_fit_the_factory_are_named(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, "state_dict", network())
    text = (folder / "card.toml").read_text()
    (folder / "card.toml").write_text(text.replace("width = 8", "width = 9"))
    with pytest.raises(ConfigurationError, match=f"the weights of {folder.name} do not fit what its factory makes"):
        load_ensemble([folder.name], folders=[tmp_path])


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("import nowhere_to_be_found\n", "cannot be had: No module named 'nowhere_to_be_found'"),
        ("def other(): pass\n", "cannot be had"),
        ("def build(**_):\n    return 7\n", "gives a int, not an nn.Module"),
        ("def build():\n    return 7\n", "TypeError"),
    ],
)
def test_a_factory_that_makes_no_network_is_named(source: str, message: str, tmp_path: Path) -> None:
    folder = folder_of(tmp_path, "state_dict", network())
    (folder / "net.py").write_text(source)
    with pytest.raises(ConfigurationError, match=message):
        load_ensemble([folder.name], folders=[tmp_path])


def test_a_format_takes_a_factory_or_takes_none(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, "torchscript", network())
    text = (folder / "card.toml").read_text()
    with pytest.raises(ConfigurationError, match="format `torchscript` takes no `factory`"):
        parse_card(text.replace("licence", 'factory = "a:b"\nlicence', 1), folder / "card.toml")
    with pytest.raises(ConfigurationError, match="format `state_dict` needs a `factory`"):
        parse_card(text.replace('"torchscript"', '"state_dict"'), folder / "card.toml")


def test_a_detectors_numbers_become_classes_and_its_pixels_shares_of_the_row() -> None:
    class Says(nn.Module):
        def forward(self, rows: list[Tensor]) -> list[dict[str, Tensor]]:
            boxes = torch.tensor([[0.0, 0.0, 20.0, 10.0], [10.0, 5.0, 40.0, 20.0], [0.0, 0.0, 4.0, 4.0]])
            said = {"boxes": boxes, "scores": torch.tensor([0.4, 0.9, 0.8]), "labels": torch.tensor([3, 7, 5])}
            return [said for _row in rows]

    card = msgspec.structs.replace(card_named("yolov3-tiny"), classes=("magpie", "sparrow"))
    found = Detector(Says(), card, labels=(7, 3), score_floor=0.1)(torch.zeros(2, 3, 20, 40))
    assert len(found) == 2
    assert found[0].classes.tolist() == [0, 1]
    assert found[0].boxes.tolist() == [[0.25, 0.25, 1.0, 1.0], [0.0, 0.0, 0.5, 0.5]]


def test_a_classifier_of_torchvisions_by_name_answers_as_it_does_alone(tmp_path: Path) -> None:
    torch.manual_seed(0)
    made = torchvision.models.shufflenet_v2_x0_5(weights=None)
    for part in made.modules():  # untrained, it would say everything equally
        if isinstance(part, nn.BatchNorm2d):
            part.momentum = 1.0
    made.train()(torch.randn(16, 3, 96, 96))
    made.fc.weight.data *= 50
    made.eval()
    torch.save(made.state_dict(), tmp_path / "weights.pth")
    card = adopt_torchvision("shufflenet_v2_x0_5", tmp_path / "models", tmp_path / "weights.pth")
    assert (card.kind, len(card.classes), card.input.shorter_side) == ("classifier", 1000, 256)
    _ensemble, said = asked(card.name, tmp_path / "models")
    assert close(said, labels_alone(made, card))


def test_a_detector_of_torchvisions_by_name_answers_as_it_does_alone(tmp_path: Path) -> None:
    torch.manual_seed(0)
    made = torchvision.models.get_model("ssdlite320_mobilenet_v3_large", weights=None, weights_backbone=None).eval()
    torch.save(made.state_dict(), tmp_path / "weights.pth")
    card = adopt_torchvision("ssdlite320_mobilenet_v3_large", tmp_path / "models", tmp_path / "weights.pth")
    assert len(card.classes) == 80
    assert card.parameters["labels"][:2] == (1, 2)  # type: ignore[index]
    answer = load_ensemble([card.name], folders=[tmp_path / "models"]).answer(PICTURES[:1])[0][card.name]
    form = card.input
    row = normalised(row_of(decode(PICTURES[0]), form).pixels[None], form)
    with torch.inference_mode():
        alone = made([row[0]])[0]
    numbers = [number for number in alone["labels"].tolist() if number in card.parameters["labels"]]  # type: ignore[operator]
    assert answer
    assert len(answer) == len(numbers)
    assert abs(answer[0].score - float(alone["scores"].max())) < 0.001


def test_weights_of_another_torchvision_network_are_refused(tmp_path: Path) -> None:
    torch.save(torchvision.models.squeezenet1_1(weights=None).state_dict(), tmp_path / "weights.pth")
    with pytest.raises(ConfigurationError, match="are not those of torchvision's shufflenet_v2_x0_5"):
        adopt_torchvision("shufflenet_v2_x0_5", tmp_path / "models", tmp_path / "weights.pth")
    assert not (tmp_path / "models").exists()
    with pytest.raises(ConfigurationError, match="no classifier and no detector named resnet17"):
        adopt_torchvision("resnet17", tmp_path / "models", tmp_path / "weights.pth")


def test_torchvisions_usual_place_is_where_pytorch_keeps_what_it_downloaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    place = tmp_path / "hub" / "checkpoints" / "shufflenetv2_x0.5-f707e7126e.pth"
    place.parent.mkdir(parents=True)
    torch.save(torchvision.models.shufflenet_v2_x0_5(weights=None).state_dict(), place)
    card = adopt_torchvision("shufflenet_v2_x0_5", tmp_path / "models")
    assert msgspec.to_builtins(card.sources[1])["url"].endswith("shufflenetv2_x0.5-f707e7126e.pth")
    assert load_ensemble([card.name], folders=[tmp_path / "models"]).ensemble_info.models[0].model == card.name


def test_the_classes_are_those_of_the_card(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, "torchscript", network())
    assert load_ensemble([folder.name], folders=[tmp_path]).ensemble_info.models[0].classes == frozenset(CLASSES)


def test_a_network_that_answers_with_no_numbers_gets_no_card(tmp_path: Path) -> None:
    mute = network(1)
    for parameter in mute.parameters():
        parameter.data.fill_(float("nan"))
    file = tmp_path / "mute.pt"
    torch.jit.save(torch.jit.script(mute), str(file))  # type: ignore[no-untyped-call]
    with pytest.raises(ConfigurationError, match="mute answers a picture with values that are no numbers"):
        adopt(file, CLASSES, tmp_path / "models", trusted=True)
    assert not (tmp_path / "models").exists()


def test_a_card_that_cannot_be_written_is_told_with_what_to_do(tmp_path: Path) -> None:
    file = tmp_path / "mine.pt"
    torch.jit.save(torch.jit.script(network(1)), str(file))  # type: ignore[no-untyped-call]
    (tmp_path / "models").write_text("no folder")
    with pytest.raises(
        ConfigurationError, match=r"card\.toml cannot be written: Not a directory; --out names another folder"
    ):
        adopt_here(file, CLASSES, tmp_path / "models")


def test_a_factory_that_ends_the_process_is_refused_by_name(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, "state_dict", network(1), "leaves")
    (folder / "net.py").write_text("raise SystemExit(2)\n")
    with pytest.raises(ConfigurationError, match="the factory `net:build` of leaves cannot be had"):
        load_ensemble(["leaves"], folders=[tmp_path])
