"""A card says how a picture is put in and what an answer means."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from policies.observation import Prediction
from server.catalogue import InputForm, parse_card
from server.domain.errors import ConfigurationError
from server.ensemble import load_ensemble
from server.ensemble.forms import normalised, row_of
from tests.server.ensemble.card_models import BLUE, DARK, LIGHT, RED, labels
from tests.server.ensemble.others import CLASSES, adopt_here
from tests.server.ensemble.pictures import encoded
from tests.server.ensemble.test_readme import CARDS, PYTHON

SIDE = InputForm("rgb", "stretch", (8, 8), std=(255.0,))
README = {match[1]: block for block in CARDS if (match := re.search(r'^name = "(.*)"', block, re.M))}


class Of(nn.Module):
    """Gives numbers from the mean of each channel, by a matrix and a bias; checks the shape of what it gets."""

    def __init__(self, weights: list[list[float]], bias: list[float], shape: list[int]) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.tensor(weights))
        self.bias = nn.Parameter(torch.tensor(bias))
        self.shape = shape

    def forward(self, rows: Tensor) -> Tensor:
        assert list(rows.shape[1:]) == self.shape
        assert rows.dtype == self.weights.dtype
        return rows.mean((2, 3)) @ self.weights.t() + self.bias


class Dict(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, rows: Tensor) -> dict[str, Tensor]:
        numbers = self.inner(rows)
        return {"features": rows.mean((2, 3)) * 7, "probs": numbers.softmax(1)}


class Hens(nn.Module):
    """One hen in the upper left quarter of a light picture, as corners in 0..1 and scores."""

    def forward(self, rows: Tensor) -> Tensor:
        light = rows.mean((1, 2, 3))[:, None]
        box = torch.tensor([[0.1, 0.2, 0.5, 0.5]]).expand(len(rows), 4)
        return torch.cat((box, light * 0.9, light * 0.2), 1)[:, None]


def served(models: Path, name: str, made: nn.Module, code: str = "") -> Callable[[bytes], tuple[Prediction, ...]]:
    """The README's card of that name with this network behind it, served: what it answers about a picture."""
    folder = models / name
    folder.mkdir(parents=True)
    torch.jit.script(made.eval()).save(str(folder / f"{name}.pt"))
    content = (folder / f"{name}.pt").read_bytes()
    text = re.sub(r'sha256 = ".*"', f'sha256 = "{hashlib.sha256(content).hexdigest()}"', README[name])
    (folder / "card.toml").write_text(re.sub(r"size_bytes = \d+", f"size_bytes = {len(content)}", text))
    if code:
        (folder / "boxes.py").write_text(code)
    ensemble = load_ensemble([name], folders=[models])

    def answer(picture: bytes) -> tuple[Prediction, ...]:
        [answered] = ensemble.answer([picture])
        assert answered[name] is not None
        return answered[name] or ()

    return answer


def test_one_logit_is_a_class_or_nothing(tmp_path: Path) -> None:
    answer = served(tmp_path, "dog-or-not", Of([[1.0, 1.0, 1.0]], [0.0], [3, 224, 224]))
    assert labels(answer(LIGHT)) == [("dog", 1.0), ("nothing", 0.0)]
    assert labels(answer(DARK)) == [("nothing", 1.0), ("dog", 0.0)]


def test_of_absent_and_present_the_best_alone_is_there(tmp_path: Path) -> None:
    answer = served(tmp_path, "car-in-bay", Of([[0.0, 0.0, 0.0], [0.6, 0.0, 0.0]], [0.4, 0.0], [3, 128, 128]))
    assert labels(answer(DARK)) == [("absent", 0.6)]  # present has .4, which the policy's min_score takes for a vote
    assert labels(answer(RED)) == [("present", 0.55)]


def test_grey_is_one_channel_in_the_middle_of_black(tmp_path: Path) -> None:
    answer = served(tmp_path, "visitor", Of([[0.0], [4.0]], [0.0, 0.0], [1, 96, 96]))
    assert labels(answer(LIGHT))[0] == ("person", 0.98)
    wide = encoded(Image.new("RGB", (64, 32), (255, 255, 255)))
    assert labels(answer(wide)) == [("no person", 0.5), ("person", 0.5)]  # half white, half padding: 0 on average


def test_bgr_has_blue_first(tmp_path: Path) -> None:
    blue_first = Of([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]], [0.0, 0.0, 0.0], [3, 224, 224])
    answer = served(tmp_path, "crates", blue_first)
    assert labels(answer(BLUE))[0] == ("empty", 1.0)
    assert labels(answer(RED))[0] == ("full", 1.0)


def test_float16_gets_float16(tmp_path: Path) -> None:
    made = Of([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]], [0.0, 0.0, 0.0], [3, 224, 224]).half()
    assert labels(served(tmp_path, "leaf-half", made)(RED)) == [("ash", 0.58), ("birch", 0.21), ("cedar", 0.21)]


def test_of_a_dict_the_part_counts_that_the_card_names(tmp_path: Path) -> None:
    made = Dict(Of([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]], [0.0, 0.0, 0.0], [3, 64, 64]))
    assert labels(served(tmp_path, "weather", made)(RED)) == [("dry", 0.58), ("rain", 0.21), ("snow", 0.21)]


def test_a_postprocess_of_the_models_folder_makes_boxes_in_the_picture(tmp_path: Path) -> None:
    [code] = [block for block in PYTHON if "def boxes_of(" in block]
    [hen] = served(tmp_path, "hens", Hens(), code)(LIGHT)
    assert (hen.label, round(hen.score, 2)) == ("hen", 0.9)
    assert hen.box == pytest.approx((0.1, 0.2, 0.5, 0.5), abs=1e-4)


def test_a_postprocess_of_the_models_folder_is_refused_until_it_is_trusted(tmp_path: Path) -> None:
    served(tmp_path, "hens", Hens(), next(block for block in PYTHON if "def boxes_of(" in block))
    card = tmp_path / "hens" / "card.toml"
    card.write_text(card.read_text().replace("trusted = true", "trusted = false"))
    with pytest.raises(ConfigurationError, match="hens is a TorchScript network, which can run code"):
        load_ensemble(["hens"], folders=[tmp_path])
    weights = tmp_path / "hens" / "hens.safetensors"
    entries = 'format = "safetensors"\nfactory = "torchvision.models:alexnet"'
    card.write_text(card.read_text().replace('format = "torchscript"', entries))
    weights.touch()
    with pytest.raises(ConfigurationError, match=r"comes with the code of its postprocess \(.*boxes\.py\)"):
        load_ensemble(["hens"], folders=[tmp_path], verify_weights=False)


@pytest.mark.parametrize(
    ("entries", "parameters"),
    [
        ('format = "state_dict"\nfactory = "subprocess:run"', 'args = "touch {}"\nshell = true'),
        ('format = "safetensors"\nfactory = "torchvision.models._api:load_state_dict_from_url"', 'url = "file://{}"'),
        ('format = "state_dict"\nfactory = "timm:create_model"', 'model_name = "hf-hub:{}"'),
        ('format = "state_dict"\nfactory = "timm:create_model"', 'checkpoint_path = "{}"'),
        ('format = "factory"\nfactory = "os:system"', ""),
        ('format = "state_dict"\nfactory = "torchvision.models:alexnet"\npostprocess = "subprocess:run"', ""),
    ],
)
def test_any_callable_of_an_installed_package_runs_only_when_the_card_is_trusted(
    entries: str, parameters: str, tmp_path: Path
) -> None:
    (tmp_path / "hens").mkdir()
    (tmp_path / "hens" / "hens.pt").touch()
    text = README["hens"].replace('format = "torchscript"', entries).replace("trusted = true", "#")
    text = re.sub('\npostprocess = "boxes:boxes_of"', "\n", text).replace("score_floor = 0.1", "score_floor = 0.1\n{}")
    card = tmp_path / "hens" / "card.toml"
    card.write_text(text.replace("{}", parameters.format(tmp_path / "ran")))
    with pytest.raises(ConfigurationError, match=r"hens names `.*` as its \w+, which .* write `trusted = true` into"):
        load_ensemble(["hens"], folders=[tmp_path], verify_weights=False)
    assert not (tmp_path / "ran").exists()


def test_models_with_one_input_form_share_its_rows(tmp_path: Path) -> None:
    made = Of([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]], [0.0, 0.0, 0.0], [3, 64, 64])
    for name in ("one", "two"):
        torch.jit.script(made).save(str(tmp_path / f"{name}.pt"))
        form = InputForm("bgr", "stretch", (64, 64), dtype="float32", pad=114)
        adopt_here(tmp_path / f"{name}.pt", CLASSES[:3], tmp_path / "models", form=form)
    ensemble = load_ensemble(["one", "two"], folders=[tmp_path / "models"])
    assert len(ensemble.prepare((RED, 0, {}, ())).rows) == 1


@pytest.mark.parametrize(
    ("form", "pixel"),
    [
        (InputForm("bgr", "stretch", (4, 4), mean=(1.0, 2.0, 3.0)), (29.0, 18.0, 7.0)),
        (InputForm("grey", "stretch", (4, 4)), (18.0,)),
        (InputForm("rgb", "stretch", (4, 4), dtype="uint8"), (10, 20, 30)),
    ],
)
def test_a_form_gives_the_colours_in_its_order_and_its_number_format(form: InputForm, pixel: tuple[float, ...]) -> None:
    frame = torch.tensor([10, 20, 30], dtype=torch.uint8)[:, None, None].expand(3, 6, 6)
    rows = normalised(row_of(frame, form).pixels[None], form)
    assert tuple(rows[0, :, 1, 1].tolist()) == pixel
    assert str(rows.dtype) == f"torch.{form.dtype}"


def test_two_multiples_pad_to_exactly_a_size_that_is_not_square() -> None:
    form = InputForm("rgb", "letterbox", (64, 32), multiple_of=(64, 32), pad=7)
    row = row_of(torch.full((3, 50, 50), 200, dtype=torch.uint8), form)
    assert row.pixels.shape == (3, 32, 64)
    assert (row.pixels[0, 0, 0], row.pixels[0, 0, 32]) == (7, 200)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("pad = 256", "`pad` is a grey of 0..255"),
        ('dtype = "uint8"', 'dtype = "uint8" takes the values 0..255 as they are, so leave out `mean` and `std`'),
        ('dtype = "float8"', "float8"),
        ("multiple_of = [0, 32]", "must be positive"),
    ],
)
def test_a_form_that_cannot_be_is_refused(entry: str, message: str) -> None:
    text = README["weather"].replace("size = [64, 64]", f"size = [64, 64]\n{entry}")
    with pytest.raises(ConfigurationError, match=re.escape(message)):
        parse_card(text, Path("models/weather/card.toml"))


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ('postprocess = "boxes:boxes_of"', "`postprocess` makes boxes for a detector, and this is a classifier"),
        ('postprocess = "boxes.py"', "`postprocess` is package.module:callable, and not `boxes.py`"),
    ],
)
def test_an_answer_that_cannot_be_is_refused(entry: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(message)):
        parse_card(README["weather"].replace("licence", f"{entry}\nlicence"), Path("models/weather/card.toml"))


def test_the_name_of_an_ensemble_knows_the_part_the_decision_and_the_postprocess(tmp_path: Path) -> None:
    form = InputForm("rgb", "stretch", (64, 64), std=(255.0,))
    torch.jit.script(Dict(Of([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]], [0.0, 0.0], [3, 64, 64]))).save(str(tmp_path / "d.pt"))
    digests = set()
    for argmax in (True, False):
        models = tmp_path / f"models-{argmax}"
        adopted = adopt_here(tmp_path / "d.pt", ["a", "b"], models, output="probs", argmax=argmax, form=form)
        assert adopted.card.output == "probabilities"
        [locked] = load_ensemble(["d"], folders=[models]).lock.models
        assert locked.answer == {"output_key": "probs"}
        digests.add(locked.code.get("argmax"))
    assert digests == {1, None}


def test_a_part_that_an_answer_lacks_is_refused_with_those_it_has(tmp_path: Path) -> None:
    torch.jit.script(Dict(Of([[1.0, 0.0, 0.0]], [0.0], [3, 8, 8]))).save(str(tmp_path / "d.pt"))
    with pytest.raises(ConfigurationError, match=r"without the part `logits` .*: it has `features`, `probs`"):
        adopt_here(tmp_path / "d.pt", ["a"], tmp_path / "models", output="logits", activation="none", form=SIDE)


@pytest.mark.parametrize(
    ("activation", "bias", "output"),
    [
        ("softmax", [0.2, 0.3, 0.4], "logits"),
        ("sigmoid", [0.2, 0.3, 0.4], "independent_logits"),
        ("none", [0.2, 0.3, 0.4], "independent_probabilities"),
        ("none", [0.2, 0.3, 0.5], "probabilities"),
    ],
)
def test_an_activation_says_what_the_numbers_are(
    activation: str, bias: list[float], output: str, tmp_path: Path
) -> None:
    torch.jit.script(Of([[0.0, 0.0, 0.0]] * 3, bias, [3, 8, 8])).save(str(tmp_path / "n.pt"))
    adopted = adopt_here(tmp_path / "n.pt", CLASSES[:3], tmp_path / "models", activation=activation, form=SIDE)
    assert adopted.card.output == output


def test_an_activation_that_cannot_be_is_refused(tmp_path: Path) -> None:
    torch.jit.script(Of([[0.0, 0.0, 0.0]] * 3, [-3.0, 0.0, 3.0], [3, 8, 8])).save(str(tmp_path / "n.pt"))
    with pytest.raises(ConfigurationError, match=r"its numbers lie in -3\.\.3, so it does not end in a sigmoid"):
        adopt_here(tmp_path / "n.pt", CLASSES[:3], tmp_path / "models", activation="none", form=SIDE)
