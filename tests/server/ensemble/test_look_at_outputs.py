"""What the numbers mean that a network answers with."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from server.catalogue import card_named
from server.domain.errors import ConfigurationError
from server.ensemble import load_ensemble
from server.ensemble.building.look import check_detector
from tests.server.ensemble.networks import PICTURES, refused, traced
from tests.server.ensemble.others import CLASSES, folder_of, network
from tests.server.ensemble.others import adopt_here as adopt
from tests.server.ensemble.pictures import encoded


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
