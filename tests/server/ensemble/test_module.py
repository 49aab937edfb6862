"""One forward call answers for all models and all frames as each model alone would."""

from __future__ import annotations

import sys

import msgspec
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from policies.fusion.judge import judge
from policies.observation import Observation, Prediction
from policies.site.site_policy import parse_site_policy
from server.catalogue import InputForm, ModelCard, card_named
from server.ensemble.decode import decode
from server.ensemble.detections import Detections
from server.ensemble.ensemble import Ensemble
from server.ensemble.hog import build as build_hog
from server.ensemble.module import EnsembleModule
from tests.server.ensemble.pictures import encoded, in_all_forms, scene

CLASSES = ("red", "green", "blue", "bright", "dark", "wide", "tall")
SMALL = InputForm("rgb", "stretch", (32, 24), mean=(127.0,), std=(128.0,))


class TinyClassifier(nn.Module):
    """A real, if small, convolutional classifier with fixed weights. Counts the rows it was asked about."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.conv = nn.Conv2d(3, 8, 3, stride=2)
        self.norm = nn.BatchNorm2d(8)
        self.head = nn.Linear(8, len(CLASSES))
        for parameter in self.parameters():
            parameter.data = torch.randn(parameter.shape, generator=generator)
        self.batches: list[tuple[int, ...]] = []

    def forward(self, rows: Tensor) -> Tensor:
        self.batches.append(tuple(rows.shape))
        return self.head(self.norm(self.conv(rows)).relu().mean((2, 3)))


class FixedDetector(nn.Module):
    """Says the same boxes of every row."""

    def __init__(self, boxes: list[list[float]], scores: list[float]) -> None:
        super().__init__()
        self.said = Detections(torch.tensor(boxes), torch.tensor(scores), torch.zeros(len(scores), dtype=torch.int64))

    def forward(self, rows: Tensor) -> list[Detections]:
        return [self.said] * len(rows)


class Raises(nn.Module):
    def forward(self, rows: Tensor) -> Tensor:
        raise RuntimeError("out of order")


class Exits(nn.Module):
    def forward(self, rows: Tensor) -> Tensor:
        sys.exit("out of order")


class SaysNaN(nn.Module):
    def forward(self, rows: Tensor) -> Tensor:
        return torch.full((len(rows), len(CLASSES)), torch.nan)


def card(name: str, kind: str = "classifier", form: InputForm = SMALL) -> ModelCard:
    return ModelCard(
        name=name,
        summary="for tests",
        kind=kind,  # type: ignore[arg-type]
        factory="none:none",
        classes=CLASSES,
        input=form,
        licence="MIT",
        citation="none",
    )


class AlmostUndecided(nn.Module):
    """Prefers its later classes, by less than a score's four decimals can show."""

    def forward(self, rows: Tensor) -> Tensor:
        return torch.arange(len(CLASSES)).mul(1e-5).expand(len(rows), -1)


def module_of(*models: tuple[ModelCard, nn.Module], chunk_pixels: int = 1 << 18) -> EnsembleModule:
    return EnsembleModule(models, chunk_pixels=chunk_pixels).eval()


def mixed_pictures(count: int) -> list[bytes]:
    """Pictures of different sizes in all forms, one after the other."""
    pictures: list[bytes] = []
    while len(pictures) < count:
        index = len(pictures)
        pictures += in_all_forms(scene(40 + 7 * (index % 11), 30 + 5 * (index % 7), seed=index)).values()
    return pictures[:count]


def test_the_first_label_is_the_networks_best_even_where_rounded_scores_are_equal() -> None:
    said = Ensemble(module_of((card("unsure"), AlmostUndecided()))).answer(mixed_pictures(2))
    for answer in said:
        predictions = answer["unsure"]
        assert predictions is not None
        assert [one.label for one in predictions] == list(CLASSES[:-6:-1])
        assert len({one.score for one in predictions}) == 1


@pytest.mark.parametrize("count", [1, 2, 13, 64])
def test_any_number_of_frames_of_any_size_and_form_has_answers_as_each_model_alone(count: int) -> None:
    hog_card = card_named("hog-people")
    hog = build_hog(hog_card, _hog_weights())
    models = [
        (card("first.pt"), TinyClassifier(1)),
        (hog_card, hog),
        (card("second.v1.0"), TinyClassifier(2)),
    ]
    pictures = mixed_pictures(count)
    crops = {"left": (0.0, 0.0, 0.5, 1.0), "corner": (0.7, 0.7, 1.0, 1.0)}
    together = Ensemble(module_of(*models)).answer(pictures, crops)
    assert len(together) == count
    for model in models:
        ensemble_of_one = Ensemble(module_of(model))
        alone = [ensemble_of_one.answer([picture], crops)[0] for picture in pictures]
        for mine, others in zip(alone, together, strict=True):
            _assert_same(mine[model[0].name], others[model[0].name])


def test_parameters_are_registered_under_names_with_dots() -> None:
    module = module_of((card("a.pt"), TinyClassifier(1)), (card("b.c.pt"), TinyClassifier(2)))
    assert module.names == ("a.pt", "b.c.pt")
    assert len(list(module.parameters())) == 2 * len(list(TinyClassifier(1).parameters()))
    assert {key.split(".")[1] for key in module.state_dict()} == {"0", "1"}
    module.double()
    assert all(parameter.dtype == torch.float64 for parameter in module.parameters())


def test_training_mode_is_refused() -> None:
    module = module_of((card("a"), TinyClassifier(1)))
    module.networks["0"].train()
    with torch.inference_mode(), pytest.raises(RuntimeError, match="training mode"):
        module([])


def test_gradients_are_refused() -> None:
    with pytest.raises(RuntimeError, match="inference_mode"):
        module_of((card("a"), TinyClassifier(1)))([])


def test_a_form_that_models_share_is_applied_once() -> None:
    other = msgspec.structs.replace(SMALL, size=(16, 16))
    module = module_of(
        (card("a"), TinyClassifier(1)),
        (card("b", form=msgspec.structs.replace(SMALL)), TinyClassifier(2)),
        (card("c", form=other), TinyClassifier(3)),
    )
    prepared = module.prepare(decode(encoded(scene(50, 40))), {"yard": (0.0, 0.0, 1.0, 0.5)})
    assert set(prepared.rows) == {SMALL, other}
    assert [row.sector for row in prepared.rows[SMALL]] == [None, "yard"]


def test_a_classifier_judges_the_whole_view_and_each_crop_as_rows_of_the_same_batch() -> None:
    network = TinyClassifier(1)
    ensemble = Ensemble(module_of((card("a"), network)))
    crops = {"yard": (0.0, 0.0, 0.5, 0.5), "road": (0.5, 0.0, 1.0, 1.0)}
    picture = encoded(scene(64, 48))
    predictions = ensemble.answer([picture, picture], crops)[0]["a"]
    assert network.batches == [(6, 3, 24, 32)]
    assert predictions is not None
    for sector in (None, "yard", "road"):
        scores = [prediction.score for prediction in predictions if prediction.sector == sector]
        assert len(scores) == 5
        assert scores == sorted(scores, reverse=True)
    of_crop = encoded(scene(64, 48).crop((0, 0, 32, 24)))
    cropped = ensemble.answer([of_crop])[0]["a"]
    assert cropped is not None
    yard = [msgspec.structs.replace(s, sector=None) for s in predictions if s.sector == "yard"]
    _assert_same(tuple(yard), cropped)


class FindsRed(nn.Module):
    """Sees `red` where a tenth of a row is red, else `dark`."""

    def forward(self, rows: Tensor) -> Tensor:
        reddish = (rows[:, 0] - rows[:, 1:].amax(1) > 50).float().mean((1, 2))
        logits = torch.zeros(len(rows), len(CLASSES))
        logits[:, CLASSES.index("red")] = torch.where(reddish > 0.1, 9.0, 0.0)
        logits[:, CLASSES.index("dark")] = 4.0
        return logits


def red_at_the_side() -> bytes:
    """A dark picture of 16:9 with red at its left edge, outside of the square in its centre."""
    picture = Image.new("RGB", (320, 180))
    picture.paste((220, 0, 0), (0, 0, 60, 180))
    return encoded(picture)


VIEW = {"view": (0.0, 0.0, 1.0, 1.0)}


def centre(sector_fit: str = "stretch") -> InputForm:
    return InputForm("rgb", "crop", (32, 32), shorter_side=36, sector_fit=sector_fit)  # type: ignore[arg-type]


def labels_of(ensemble: Ensemble, picture: bytes, **crops: tuple[float, float, float, float]) -> dict[str | None, str]:
    """By sector, the best label."""
    (answer,) = ensemble.answer([picture], crops)
    predictions = answer["a"]
    assert predictions is not None
    return {each.sector: each.label for each in reversed(predictions)}


@pytest.mark.parametrize("sector_fit", ["stretch", "letterbox"])
def test_the_whole_view_as_a_sector_is_judged_on_the_whole_picture(sector_fit: str) -> None:
    ensemble = Ensemble(module_of((card("a", form=centre(sector_fit)), FindsRed())))
    assert labels_of(ensemble, red_at_the_side()) == {None: "dark"}
    assert labels_of(ensemble, red_at_the_side(), **VIEW) == {None: "dark", "view": "red"}


def test_the_label_of_a_frame_is_the_same_with_and_without_a_sector_of_the_whole_view() -> None:
    model = (card("a", form=centre()), TinyClassifier(1))
    for picture in [*mixed_pictures(8), red_at_the_side()]:
        (alone,), (asked,) = (
            Ensemble(module_of(model)).answer([picture]),
            Ensemble(module_of(model)).answer([picture], VIEW),
        )
        assert alone["a"] == tuple(each for each in asked["a"] or () if each.sector is None)


@pytest.mark.parametrize("fit", ["stretch", "letterbox", "shrink"])
def test_a_form_that_shows_the_whole_frame_anyway_has_no_second_row_for_the_whole_view(fit: str) -> None:
    form = InputForm("rgb", fit, (32, 32))  # type: ignore[arg-type]
    ensemble = Ensemble(module_of((card("a", form=form), FindsRed())))
    assert labels_of(ensemble, red_at_the_side(), **VIEW) == {None: "red"}
    assert labels_of(ensemble, red_at_the_side(), left=(0.0, 0.0, 0.5, 1.0)) == {None: "red", "left": "red"}


@pytest.mark.parametrize(("target", "seen"), [("red", True), ("green", False)])
def test_a_thing_at_the_side_of_a_wide_picture_is_present_in_a_sector_of_the_whole_view(
    target: str, seen: bool
) -> None:
    text = f'site = "yard"\ntargets = ["thing"]\n[target.thing]\nclasses = ["{target}"]\n[cameras.gate]'
    policy = parse_site_policy(text).camera("gate")
    ensemble = Ensemble(module_of((card("a", form=centre()), FindsRed())))
    info = ensemble.ensemble_info
    (answer,) = ensemble.answer([red_at_the_side()], policy.crops(info))
    judged = judge(policy, Observation("yard", "gate", "b", 0, 0, info, answer, "sha", size=(320, 180)))
    assert [c.sectors for c in judged.candidates if c.present] == ([("view",)] if seen else [])


def test_detectors_are_not_asked_about_crops() -> None:
    network = FixedDetector([[0.1, 0.1, 0.2, 0.3]], [0.5])
    answer = Ensemble(module_of((card("a", "detector"), network))).answer(
        [encoded(scene(64, 48))], {"yard": (0.0, 0.0, 0.5, 0.5)}
    )
    assert answer == [{"a": (Prediction("red", 0.5, (0.1, 0.1, 0.2, 0.3)),)}]


def test_boxes_come_back_onto_the_frame_rounded_clipped_and_sorted() -> None:
    padded = InputForm("rgb", "letterbox", (64, 64), multiple_of=64)
    network = FixedDetector(
        [[0.1, 0.3, 0.2, 0.5], [-0.3, 0.2, 0.3333333, 0.9], [0.2, 0.0, 0.4, 0.1]], [0.25, 0.987654, 0.9]
    )
    answer = Ensemble(module_of((card("a", "detector", padded), network))).answer([encoded(scene(64, 32))])
    assert answer[0]["a"] == (
        Prediction("red", 0.9877, (0.0, 0.0, 0.33333, 1.0)),
        Prediction("red", 0.25, (0.1, 0.1, 0.2, 0.5)),
    )  # the third box was of nothing but padding


@pytest.mark.parametrize("broken", [Raises(), Exits(), SaysNaN()])
def test_a_model_that_fails_has_not_answered_and_the_others_have(
    broken: nn.Module, caplog: pytest.LogCaptureFixture
) -> None:
    pictures = mixed_pictures(3)
    answers = Ensemble(module_of((card("broken"), broken), (card("a"), TinyClassifier(1)))).answer(pictures)
    alone = Ensemble(module_of((card("a"), TinyClassifier(1)))).answer(pictures)
    assert [answer["broken"] for answer in answers] == [None] * 3
    assert [answer["a"] for answer in answers] == [answer["a"] for answer in alone]
    assert [(record.__dict__["model"], bool(record.exc_info)) for record in caplog.records] == [("broken", True)]


def test_no_batch_has_more_pixels_than_the_bound() -> None:
    network = TinyClassifier(1)
    bounded = module_of((card("a"), network), chunk_pixels=32 * 24 * 5)
    answers = Ensemble(bounded).answer(mixed_pictures(13))
    assert [shape[0] for shape in network.batches] == [5, 5, 3]
    unbounded = Ensemble(module_of((card("a"), TinyClassifier(1)))).answer(mixed_pictures(13))
    for one, other in zip(answers, unbounded, strict=True):
        _assert_same(one["a"], other["a"])


def _hog_weights():  # type: ignore[no-untyped-def]
    from server.catalogue import cache_dir, locate

    return locate(card_named("hog-people"), cache_dir())


def _assert_same(one: tuple[Prediction, ...] | None, other: tuple[Prediction, ...] | None) -> None:
    """Same labels, sectors and boxes; scores may differ in the last decimal that is kept."""
    assert one is not None
    assert other is not None
    assert {(s.label, s.sector, s.box) for s in one} == {(s.label, s.sector, s.box) for s in other}
    scores = {(s.label, s.sector, s.box): s.score for s in other}
    for prediction in one:
        assert abs(prediction.score - scores[prediction.label, prediction.sector, prediction.box]) <= 1e-4
