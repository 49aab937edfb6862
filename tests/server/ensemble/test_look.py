"""A network is adopted only if its answers can be used, and its card says what its numbers are."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from server.catalogue import card_named
from server.domain.errors import ConfigurationError
from server.ensemble import load_ensemble
from server.ensemble.building.look import check_detector
from tests.server.ensemble.others import CLASSES, folder_of, network, write_card
from tests.server.ensemble.others import adopt_here as adopt
from tests.server.ensemble.pictures import encoded, scene

PICTURES = [encoded(scene(60 + 13 * index, 50 + 7 * index, seed=index)) for index in range(5)]


class Mean(nn.Module):
    """Numbers that follow the mean of each picture: (brightness + `offset`) * `factor`."""

    def __init__(self, factors: tuple[float, ...], offset: float = 0.0) -> None:
        super().__init__()
        self.factors = nn.Parameter(torch.tensor(factors))
        self.offset = offset

    def forward(self, rows: Tensor) -> Tensor:
        return (rows.mean((1, 2, 3))[:, None] + self.offset) * self.factors


class Then(nn.Module):
    def __init__(self, first: nn.Module, then: str) -> None:
        super().__init__()
        self.first, self.then = first, then

    def forward(self, rows: Tensor) -> Tensor:
        output = self.first(rows)
        if self.then == "sigmoid":
            return output.sigmoid()
        return output.softmax(1) if self.then == "softmax" else output.log_softmax(1)


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


def traced(made: nn.Module, folder: Path, shape: tuple[int, ...] = (2, 3, 224, 224), name: str = "net") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{name}.pt"
    torch.jit.trace(made, torch.rand(shape), check_trace=False).save(str(file))
    return file


def refused(made: nn.Module | Path, tmp_path: Path, classes: tuple[str, ...] = CLASSES, **options: str) -> str:
    file = made if isinstance(made, Path) else traced(made, tmp_path)
    with pytest.raises(ConfigurationError) as error:
        adopt(file, classes, tmp_path / "models", **options)  # type: ignore[arg-type]
    assert not (tmp_path / "models").exists()
    assert "\n" not in error.value.detail
    assert len(error.value.detail) < 600
    return error.value.detail


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


def test_one_logit_becomes_a_class_that_is_there_or_nothing(tmp_path: Path) -> None:
    adopted = adopt(traced(Mean((9.0,), 0.2), tmp_path), ["person"], tmp_path / "models")
    assert adopted.card.output == "independent_logits"
    ensemble = load_ensemble(["net"], folders=[tmp_path / "models"])
    dark, light = (encoded(Image.new("RGB", (64, 64), colour)) for colour in ("black", "white"))
    answers = [answer["net"] for answer in ensemble.answer([dark, light])]
    assert [(each.label, each.score) for each in answers[0] or ()] == [("nothing", 1.0), ("person", 0.0)]
    assert [(each.label, each.score) for each in answers[1] or ()] == [("person", 1.0), ("nothing", 0.0)]


def test_one_number_in_0_to_1_is_refused_until_somebody_says_what_it_is(tmp_path: Path) -> None:
    file = traced(Then(Mean((2.0,)), "sigmoid"), tmp_path)
    detail = refused(file, tmp_path, ("person",))
    assert "--activation none if the network ends in a sigmoid" in detail
    assert "--activation sigmoid if it does not" in detail
    adopted = adopt(file, ["person"], tmp_path / "models", output="independent_probabilities")
    assert adopted.remarks == ()
    [answer] = load_ensemble(["net"], folders=[tmp_path / "models"]).answer(PICTURES[:1])
    person = next(each.score for each in answer["net"] or () if each.label == "person")
    other = next(each.score for each in answer["net"] or () if each.label == "nothing")
    assert 0.01 < person < 0.99
    assert abs(person + other - 1) < 2e-4


@pytest.mark.parametrize("output", ["logits", "probabilities"])
def test_a_softmax_of_one_number_is_never_served(output: str, tmp_path: Path) -> None:
    detail = refused(Mean((9.0,)), tmp_path, ("person",), output=output)
    assert 'it gives one number, whose softmax is always 1: the card needs output = "independent_logits"' in detail
    folder = folder_of(tmp_path / "served", "torchscript", Mean((9.0,)), "one")
    text = (folder / "card.toml").read_text().replace('["ash", "birch", "cedar", "dogwood", "elm"]', '["person"]')
    (folder / "card.toml").write_text(text.replace("licence", f'output = "{output}"\nlicence', 1))
    with pytest.raises(ConfigurationError, match='one class with a softmax always has the score 1: write output = "in'):
        load_ensemble(["one"], folders=[tmp_path / "served"])


def test_independent_classes_keep_their_scores_also_when_several_are_there(tmp_path: Path) -> None:
    class Sure(nn.Module):
        def forward(self, rows: Tensor) -> Tensor:
            return torch.tensor([0.0001, 0.963, 0.999, 0.2, 0.3, 0.4, 0.98]) + rows.mean((1, 2, 3))[:, None] * 1e-6

    classes = ["a", "b", "c", "d", "e", "f", "g"]
    file = traced(Sure(), tmp_path)
    assert "--activation none if the network ends in a sigmoid" in refused(file, tmp_path, tuple(classes))
    adopt(file, classes, tmp_path / "models", output="independent_probabilities")
    [answer] = load_ensemble(["net"], folders=[tmp_path / "models"]).answer(PICTURES[:1])
    scores = {each.label: each.score for each in answer["net"] or ()}
    assert scores == {"c": 0.999, "g": 0.98, "b": 0.963, "f": 0.4, "e": 0.3, "d": 0.2, "nothing": 0.001}


def test_probabilities_are_known_and_get_no_second_softmax(tmp_path: Path) -> None:
    file = traced(Then(network(), "softmax"), tmp_path)
    assert 'they sum to 1: the card needs output = "probabilities"' in refused(file, tmp_path, output="logits")
    adopted = adopt(file, CLASSES, tmp_path / "models")
    assert adopted.card.output == "probabilities"


def test_a_hand_written_card_that_softens_probabilities_again_is_not_served(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, "torchscript", Then(network(), "softmax"), "soft")
    with pytest.raises(ConfigurationError, match=r"they sum to 1: the card needs output = .probabilities."):
        load_ensemble([folder.name], folders=[tmp_path])


def test_logits_are_no_probabilities(tmp_path: Path) -> None:
    detail = refused(network(), tmp_path, output="probabilities")
    assert 'so it does not end in a softmax: the card needs output = "logits"' in detail
    detail = refused(network(), tmp_path, output="independent_probabilities")
    assert 'so it does not end in a sigmoid: the card needs output = "independent_logits"' in detail


def test_the_logarithms_of_a_softmax_are_logits_with_the_same_scores(tmp_path: Path) -> None:
    plain = adopt(traced(network(), tmp_path, name="plain"), CLASSES, tmp_path / "models")
    logged = adopt(traced(Then(network(), "log"), tmp_path, name="logged"), CLASSES, tmp_path / "models")
    assert (plain.card.output, logged.card.output) == ("logits", "logits")
    answers = load_ensemble(["plain", "logged"], folders=[tmp_path / "models"]).answer(PICTURES)
    for answer in answers:
        assert [each.label for each in answer["plain"] or ()] == [each.label for each in answer["logged"] or ()]


def test_a_factory_of_the_users_may_end_in_a_softmax(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ends_soft.py").write_text(
        "import torch\nfrom torch import nn\n\nclass Net(nn.Module):\n    def forward(self, rows):\n"
        "        return torch.tensor([[0.75, 0.25]]).expand(len(rows), 2)\n\n\n"
        "def build(card, path):\n    return Net()\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "models" / "soft").mkdir(parents=True)
    (tmp_path / "models" / "soft" / "card.toml").write_text(
        'name = "soft"\nsummary = "s"\nkind = "classifier"\nfactory = "ends_soft:build"\nclasses = ["a", "b"]\n'
        'trusted = true\nlicence = "MIT"\ncitation = "none"\noutput = "probabilities"\n'
        '[input]\ncolour = "rgb"\nfit = "stretch"\nsize = [8, 8]\n'
    )
    [answer] = load_ensemble(["soft"], folders=[tmp_path / "models"]).answer(PICTURES[:1])
    assert [(each.label, each.score) for each in answer["soft"] or ()] == [("a", 0.75), ("b", 0.25)]


def test_new_ways_of_output_have_a_version_and_old_cards_keep_theirs(tmp_path: Path) -> None:
    adopt(traced(Mean((9.0,), 0.2), tmp_path, name="one"), ["person"], tmp_path / "models")
    adopt(traced(network(), tmp_path, name="many"), CLASSES, tmp_path / "models")
    one, many = load_ensemble(["one", "many"], folders=[tmp_path / "models"]).lock.models
    assert one.code == many.code | {"independent": 1}
    assert many.code == {"crop": 1, "classifier": 1, "fuse": 1, "torchscript": 1}


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


def test_one_number_for_two_classes_is_explained(tmp_path: Path) -> None:
    detail = refused(Mean((9.0,)), tmp_path, ("nothing", "person"))
    assert "net gives 1 number for a picture, and the list has 2 classes: one number is of one class" in detail


def test_a_network_that_wants_0_to_255_is_adopted_with_a_warning_that_names_the_entries(tmp_path: Path) -> None:
    class Own(nn.Module):
        def forward(self, rows: Tensor) -> Tensor:
            features = rows.mean((2, 3)) / 255
            return (features - features.flip(1) + features[:, :1] - 0.5) * 6

    adopted = adopt(traced(Own(), tmp_path), ["a", "b", "c"], tmp_path / "models")
    [remark] = adopted.remarks
    assert "by much more with values in 0..255" in remark
    assert "write mean = [0.0] and std = [1.0] under [input]" in remark


def test_a_network_that_ends_in_a_sigmoid_and_is_adopted_as_logits_gets_a_warning(tmp_path: Path) -> None:
    file = traced(Then(Mean((2.0,)), "sigmoid"), tmp_path)
    adopted = adopt(file, ["person"], tmp_path / "models", output="independent_logits")
    assert 'If the network ends in a sigmoid, the entry is output = "independent_probabilities"' in adopted.remarks[0]


def test_a_network_that_answers_with_boxes_is_known_as_a_detector(tmp_path: Path) -> None:
    class Boxes(nn.Module):
        def forward(self, rows: Tensor) -> list[dict[str, Tensor]]:
            return [{"boxes": torch.zeros(0, 4), "scores": torch.zeros(0), "labels": torch.zeros(0)}]

    torch.jit.script(Boxes()).save(str(tmp_path / "net.pt"))
    assert 'it is a detector, and its card needs kind = "detector"' in refused(tmp_path / "net.pt", tmp_path)


class Answering(nn.Module):
    def __init__(self, answer: object) -> None:
        super().__init__()
        self.answer = answer

    def forward(self, rows: list[Tensor]) -> object:
        return self.answer


def boxes(*edges: list[float], scores: float = 0.9, label: int = 1) -> list[dict[str, Tensor]]:
    count = len(edges)
    return [
        {
            "boxes": torch.tensor(edges),
            "scores": torch.full((count,), scores),
            "labels": torch.full((count,), label),
        }
    ]


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (boxes([0.1, 0.2, 0.5, 0.9]), "gives boxes in 0..1 of the picture, for example [0.1, 0.2, 0.5, 0.9]"),
        (boxes([200.0, 100.0, 40.0, 90.0]), "gives boxes that are not x1, y1, x2, y2"),
        (boxes([10.0, 10.0, 40.0, 4000.0]), "gives boxes beyond the picture of"),
        (boxes([10.0, 10.0, 40.0, 90.0], label=0), "gives the label 0, and the card has no `labels`"),
        (boxes([10.0, 10.0, 40.0, 90.0], label=90), "gives the label 90, and the card has no `labels`"),
        (boxes([10.0, 10.0, 40.0, 90.0], scores=4.5), "gives scores in 4.5..4.5, and scores lie in 0..1"),
        (boxes([10.0, float("nan"), 40.0, 90.0]), "gives boxes or scores that are no numbers"),
        (torch.zeros(1, 84, 8400), "answers with a tensor of 1x84x8400"),
        ([{"boxes": torch.zeros(0, 4), "classes": torch.zeros(0)}], "answers without scores and labels (it has boxes"),
        (boxes([10.0, 10.0, 40.0, 90.0])[0], "answers with one dict for the whole batch"),
    ],
)
def test_a_detector_that_answers_otherwise_is_refused_with_what_is_seen(answer: object, message: str) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        check_detector(card_named("yolov3-tiny"), Answering(answer))
    assert message in refusal.value.detail


@pytest.mark.parametrize("answer", [boxes([10.0, 10.0, 40.0, 90.0]), ({}, boxes([10.0, 10.0, 40.0, 90.0]))])
def test_a_detector_that_answers_as_its_card_says_is_taken(answer: object) -> None:
    check_detector(card_named("yolov3-tiny"), Answering(answer))


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
