"""Models that no longer answer as they did when they were approved are not served, and it is said which and where."""

from __future__ import annotations

import re
import shutil
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
import pytest

from policies.observation import EnsembleInfo, ModelInfo, Prediction
from server.app import create_app, runtime_of
from server.catalogue import card_named, cards, locate
from server.domain.errors import ConfigurationError, Unapproved
from server.ensemble import Ensemble, approve, load_ensemble, read_golden, shipped_golden
from server.ensemble.building import network_of
from server.ensemble.decode import decode
from server.ensemble.golden import CERTAIN, COARSE_DRIFT, DRIFT, FILE, PLACED, SURE
from server.ensemble.module import EnsembleModule
from server.serving.loading import load
from server.settings import ServerSettings
from tests.server.ensemble import drawn
from tests.server.ensemble.answers import assert_as_approved
from tests.server.ensemble.others import folder_of, network
from tests.server.ensemble.test_lock import edited

DEFAULT = ServerSettings().models
PICTURES = {"a.jpg": b"first", "b.jpg": b"second"}
BOX = (0.1, 0.2, 0.3, 0.4)


class Says:
    """An ensemble of one model, a detector unless told otherwise, that says the same of every picture."""

    def __init__(self, *predictions: Prediction, silent: bool = False, boxes: bool = True) -> None:
        self.ensemble_info = EnsembleInfo("name", (ModelInfo("eye", frozenset({"person", "car"}), boxes=boxes),))
        self._said = None if silent else predictions

    def answer(self, images: Sequence[bytes]) -> list[Mapping[str, tuple[Prediction, ...] | None]]:
        return [{"eye": self._said} for _ in images]


def person(score: float = 0.8, box: tuple[float, float, float, float] = BOX) -> Prediction:
    return Prediction("person", score, box)


def car(score: float = 0.8) -> Prediction:
    return Prediction("car", score, BOX)


@pytest.fixture
def golden(tmp_path: Path) -> Path:
    """Approved: one person with 0.8, and a car with 0.5."""
    approve(Says(person(), car(0.5)), PICTURES, tmp_path / "golden")
    return tmp_path / "golden"


@pytest.fixture(scope="module")
def default(weights: Path) -> Ensemble:
    return load_ensemble(DEFAULT)


def test_the_default_ensemble_answers_as_it_was_approved(default: Ensemble) -> None:
    assert_as_approved(default)
    read_golden(shipped_golden()).check(default)


def test_the_shipped_set_covers_the_whole_catalogue_and_each_kind_of_answer(default: Ensemble) -> None:
    shipped = read_golden(shipped_golden())
    golden, pictures = shipped.set, shipped.pictures
    assert golden.models == set(cards())
    assert sum(map(len, pictures)) < 120_000
    labels = {model: [picture.expected[model].label for picture in golden.pictures] for model in golden.models}
    assert set(labels["frame-change"]) == {"still", "moving"}
    assert set(labels["hog-people"]) == {"nothing", "person"}
    assert set(labels["ssdlite-people"]) == {"nothing", "person"}
    assert {"person", "stop sign", "clock", "umbrella"} <= set(labels["nanodet-g"])
    assert golden.unsure == []
    assert set(labels["yolov3-tiny"]) == {"nothing", "person", "stop sign", "clock", "orange"}
    things = {"street sign", "analog clock", "balloon", "jack-o'-lantern", "soccer ball", "parachute"}
    assert things <= set(labels["efficientnet-lite0"])
    assert read_golden(shipped_golden()).uncovered(default) == []


def test_the_shipped_pictures_are_drawn_by_ourselves() -> None:
    shipped, pictures = read_golden(shipped_golden()).named_pictures, drawn.pictures()
    assert list(shipped) == list(pictures)
    for name, picture in pictures.items():  # other versions of Pillow encode a JPEG a little differently
        difference = (decode(picture).float() - decode(shipped[name]).float()).abs()
        assert difference.mean() < 1, name


def test_a_changed_transform_of_a_shipped_model_is_noticed(weights: Path, tmp_path: Path) -> None:
    card = card_named("hog-people-small")
    smaller = msgspec.structs.replace(card, input=msgspec.structs.replace(card.input, size=(288, 288)))
    path = locate(card, tmp_path)
    changed = Ensemble(EnsembleModule([(smaller, network_of(smaller, path))]))
    with pytest.raises(Unapproved, match=r"hog-people-small says `person` .* instead of `nothing`"):
        read_golden(shipped_golden()).check(changed)


def test_what_was_approved_is_right(golden: Path) -> None:
    assert read_golden(golden).faults(Says(person(), car(0.5))) == []


@pytest.mark.parametrize(
    ("now", "fault"),
    [
        (Says(car(0.9), person(0.8)), "eye says `car` (0.90) instead of `person` (0.80, ahead by 0.30) for a.jpg"),
        (Says(), "eye says `nothing` (0.00) instead of `person` (0.80, ahead by 0.30) for a.jpg"),
        (Says(person(0.8 - 2 * DRIFT)), "eye gives `person` a score of 0.7600 instead of 0.8000 for a.jpg"),
        (Says(person(box=(0.2, 0.2, 0.4, 0.4))), "eye sees `person` at (0.2, 0.2, 0.4, 0.4) instead of"),
        (Says(silent=True), "eye did not answer, where it had said `person` for a.jpg"),
        (
            Says(person(), person(CERTAIN, (0.5, 0.2, 0.7, 0.4)), car(0.5)),
            "eye also sees `person` (0.60) at (0.5, 0.2,",
        ),
        (Says(person(), person(CERTAIN, BOX), car(0.5)), "eye also sees `person` (0.60) at (0.1, 0.2, 0.3, 0.4)"),
    ],
)
def test_another_answer_is_named_with_model_and_picture(now: Says, fault: str, golden: Path) -> None:
    wrong = read_golden(golden).faults(now)
    assert len(wrong) == 2
    assert wrong[0].startswith(fault)


def test_a_little_drift_is_no_other_answer(golden: Path) -> None:
    assert read_golden(golden).faults(Says(person(0.8 - DRIFT / 2, (0.1 + PLACED / 2, 0.2, 0.3, 0.4)), car(0.5))) == []


def test_a_certain_box_that_is_gone_is_noticed(tmp_path: Path) -> None:
    approve(Says(person(), person(CERTAIN, (0.5, 0.2, 0.7, 0.4))), PICTURES, tmp_path)
    [fault, _again] = read_golden(tmp_path).faults(Says(person()))
    assert fault == "eye no longer sees `person` (0.60) at (0.5, 0.2, 0.7, 0.4) for a.jpg"


def test_a_doubtful_box_may_come_and_go(golden: Path) -> None:
    assert read_golden(golden).faults(Says(person(), person(CERTAIN - 0.01, (0.5, 0.2, 0.7, 0.4)))) == []


def test_a_set_of_version_0_1_without_boxes_judges_the_best_label_alone(golden: Path) -> None:
    (golden / FILE).write_text(re.sub(r',\s*"boxes": \[.*?\}\s*\]', "", (golden / FILE).read_text(), flags=re.S))
    assert all(each.boxes is None for picture in read_golden(golden).set.pictures for each in picture.expected.values())
    assert read_golden(golden).faults(Says(person(), person(0.7, (0.5, 0.2, 0.7, 0.4)), car(0.5))) == []
    assert len(read_golden(golden).faults(Says(car(0.9), person(0.8)))) == len(PICTURES)


def test_in_bf16_scores_of_classifiers_may_drift_further_and_those_of_detectors_not(golden: Path) -> None:
    boxless = Says(Prediction("person", 0.8), boxes=False)
    approve(boxless, PICTURES, golden)
    drifted = Says(Prediction("person", 0.8 - COARSE_DRIFT / 2), boxes=False)
    assert len(read_golden(golden).faults(drifted)) == len(PICTURES)
    assert read_golden(golden).faults(drifted, execution="bf16") == []
    detects = Says(Prediction("person", 0.8 - COARSE_DRIFT / 2))
    assert len(read_golden(golden).faults(detects, execution="bf16")) == len(PICTURES)


def test_a_label_that_had_hardly_won_may_change(tmp_path: Path) -> None:
    approve(Says(person(0.8), car(0.8 - SURE / 2)), PICTURES, tmp_path)
    assert read_golden(tmp_path).faults(Says(car(0.8), person(0.79))) == []


def test_models_that_nobody_approved_are_named_and_not_judged(default: Ensemble, golden: Path) -> None:
    assert read_golden(golden).faults(default) == []
    assert read_golden(golden).uncovered(default) == list(DEFAULT)


def test_a_model_that_nobody_approved_and_that_never_answers_is_not_served(tmp_path: Path) -> None:
    mute = network(1)
    for parameter in mute.parameters():
        parameter.data.fill_(float("nan"))
    folder_of(tmp_path / "models", "state_dict", mute, "mute")
    folder_of(tmp_path / "models", "state_dict", network(1), "mine")
    settings = ServerSettings(data_dir=tmp_path, models_dir=tmp_path / "models")
    with pytest.raises(ConfigurationError, match=r"^mute answered about none of 11 pictures"):
        load(settings, ["mine", "mute"])
    assert load(settings, ["mine"]).models == ("mine",)


def test_a_model_that_nobody_approved_is_asked_once_for_its_answers_and_the_memory_they_take(tmp_path: Path) -> None:
    folder_of(tmp_path / "models", "state_dict", network(1), "mine")
    asked: list[str] = []
    load(
        ServerSettings(data_dir=tmp_path, models_dir=tmp_path / "models"), ["mine"], took=lambda m, _s: asked.append(m)
    )
    assert asked == ["mine"]


def test_a_model_that_does_not_answer_cannot_be_approved(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"eye did not answer for a\.jpg"):
        approve(Says(silent=True), PICTURES, tmp_path / "golden")
    assert not (tmp_path / "golden").exists()


def test_a_picture_that_was_changed_is_not_replayed(golden: Path) -> None:
    (golden / "b.jpg").write_bytes(b"other")
    with pytest.raises(ConfigurationError, match=r"b\.jpg is not the picture that was approved"):
        read_golden(golden).faults(Says())


def test_a_set_that_is_not_there_says_how_to_make_one(golden: Path) -> None:
    (golden / FILE).write_text("{}")
    with pytest.raises(ConfigurationError, match="is no golden set"):
        read_golden(golden).faults(Says())
    shutil.rmtree(golden)
    with pytest.raises(ConfigurationError, match="`sectorwatch models approve` makes one"):
        read_golden(golden).faults(Says())


def test_a_server_whose_models_answer_otherwise_stays_unready_and_says_why(tmp_path: Path) -> None:
    folder_of(tmp_path / "models", "state_dict", network(1), "mine")
    approve(
        load_ensemble(["mine"], folders=[tmp_path / "models"]),
        read_golden(shipped_golden()).named_pictures,
        tmp_path / "golden",
    )
    edited(tmp_path / "models" / "mine" / "card.toml", '"ash", "birch"', '"birch", "ash"')
    edited(tmp_path / "models" / "mine" / "card.toml", '"cedar", "dogwood", "elm"', '"elm", "cedar", "dogwood"')
    settings = ServerSettings(
        data_dir=tmp_path, models=("mine",), models_dir=tmp_path / "models", golden=tmp_path / "golden"
    )
    app = create_app(settings, channels=[])
    runtime = runtime_of(app)
    runtime.store.upgrade()
    failed = threading.Event()
    runtime.start(on_failure=lambda _error: failed.set(), on_stuck=failed.set)
    try:
        for thread in list(runtime._threads):
            if thread.name == "sectorwatch-loading":
                thread.join(timeout=60)
        answer = app.test_client().get("/readyz")
        assert answer.status_code == 503
        assert "the models do not answer as approved" in answer.get_json()["detail"]
        assert "mine says `" in answer.get_json()["detail"]
        assert not failed.is_set()
    finally:
        runtime.stop()
