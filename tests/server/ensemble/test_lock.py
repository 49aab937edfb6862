"""What is served has one name, and what is not as it was locked is refused by name."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from server.app import create_app, runtime_of
from server.catalogue import InputForm
from server.catalogue.lock import Lock, check_lock, differences, read_lock, write_lock
from server.domain.errors import ConfigurationError
from server.ensemble import Ensemble, forms, load_ensemble
from server.serving.loading import engine_of, load
from server.settings import ServerSettings
from tests.server.ensemble.others import CLASSES, folder_of, network
from tests.server.ensemble.pictures import encoded, scene

NAMES = ("hog-people-small", "frame-change")


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """A user's folder with two models: TorchScript, and weights with a factory."""
    folder_of(tmp_path / "models", "torchscript", network(1), "scripted")
    folder_of(tmp_path / "models", "state_dict", network(2), "built")
    return tmp_path / "models"


@pytest.fixture
def settings(models: Path, tmp_path: Path) -> ServerSettings:
    """Of a server of these two, locked."""
    write_lock(load_ensemble(("scripted", "built"), folders=[models]).lock, tmp_path / "ensemble.lock")
    return ServerSettings(
        data_dir=tmp_path, models=("scripted", "built"), models_dir=models, lock=tmp_path / "ensemble.lock"
    )


def edited(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def refused(settings: ServerSettings) -> str:
    with pytest.raises(ConfigurationError) as error:
        load(settings, settings.models)
    return error.value.detail


def test_the_ensembles_name_is_the_locks_digest() -> None:
    ensemble = load_ensemble(NAMES)
    assert ensemble.ensemble_info.ensemble == ensemble.lock.digest
    assert load_ensemble(NAMES).lock == ensemble.lock
    assert load_ensemble(NAMES[::-1]).lock.digest != ensemble.lock.digest


def test_a_lock_that_was_written_is_read_as_it_was(tmp_path: Path) -> None:
    lock = load_ensemble(NAMES).lock
    write_lock(lock, tmp_path / "ensemble.lock")
    assert read_lock(tmp_path / "ensemble.lock") == lock
    assert read_lock(tmp_path / "ensemble.lock").digest == lock.digest
    check_lock(lock, tmp_path / "ensemble.lock")


def test_a_lock_says_of_each_model_what_decides_its_answers() -> None:
    small, change = load_ensemble(NAMES).lock.models
    assert (small.kind, small.dtype, small.classes.count) == ("detector", "float32", 1)
    assert small.weights == "1331d8116a8a4cda1d7b5d33d3ed34dad03c2dfaef63e55a6a702d1065c2ed82"
    assert change.weights is None
    assert (small.source, small.factory, small.code) == (None, "", {"shrink": 1, "hog": 1, "nms": 1, "detector": 1})
    assert change.code == {"shrink": 1, "frame-change": 8, "change": 1}
    assert small.input["size"] == [768, 768]


def test_how_sectors_are_fitted_is_in_the_lock_only_where_it_is_not_the_default() -> None:
    form = InputForm("rgb", "crop", (8, 8), shorter_side=8)
    assert form.content == {
        "colour": "rgb",
        "fit": "crop",
        "size": [8, 8],
        "multiple_of": 1,
        "shorter_side": 8,
        "mean": [0.0],
        "std": [1.0],
        "resample": "bilinear",
    }
    padded = msgspec.structs.replace(form, sector_fit="letterbox")
    assert padded.content == form.content | {"sector_fit": "letterbox"}
    assert forms.versions(form) == {"crop": 1}
    assert forms.versions(padded) == {"crop": 1, "letterbox": 1}


def test_another_calibration_is_another_ensemble_and_none_leaves_the_name_as_it_was(settings: ServerSettings) -> None:
    lock = load_ensemble(NAMES).lock
    small, change = lock.models
    assert small.calibration[0][0] == 0
    bare = msgspec.structs.replace(small, calibration=())
    assert msgspec.structs.replace(lock, models=(bare, change)).digest != lock.digest
    assert "calibration" not in msgspec.to_builtins(bare)
    rows = '[calibration]\nsource = "a yard"\nrows = [[0, 0.3], [0.5, 0.75]]\n'
    card = (settings.models_dir or Path()) / "scripted" / "card.toml"
    card.write_text(f"{card.read_text()}\n{rows}")
    assert "calibration of scripted" in refused(settings)


def test_what_is_as_it_was_locked_is_served(settings: ServerSettings) -> None:
    assert load(settings, settings.models).ensemble.ensemble_info.ensemble == read_lock(settings.lock or Path()).digest


def test_one_byte_in_a_weights_file_is_refused_by_name(settings: ServerSettings, models: Path) -> None:
    weights = models / "scripted" / "net.pt"
    content = bytearray(weights.read_bytes())
    content[len(content) // 2] ^= 1
    weights.write_bytes(content)
    assert "the weights of scripted are not the right ones" in refused(settings)


@pytest.mark.parametrize(
    ("model", "old", "new", "message"),
    [
        ("scripted", '"cedar"', '"ceder"', "the class list of scripted is 5 names ("),
        ("scripted", '"ash", "birch"', '"birch", "ash"', "the class list of scripted is 5 names ("),
        ("built", "mean = [127.0]", "mean = [126.0]", "input form of built: `mean` is [126.0], locked was [127.0]"),
        (
            "built",
            'fit = "stretch"',
            'fit = "letterbox"',
            "input form of built: `fit` is letterbox, locked was stretch",
        ),
    ],
)
def test_one_byte_in_a_class_list_or_a_transform_is_refused_by_name(
    model: str, old: str, new: str, message: str, settings: ServerSettings, models: Path
) -> None:
    edited(models / model / "card.toml", old, new)
    assert message in refused(settings)


def test_one_byte_in_a_factorys_source_is_refused_by_name(settings: ServerSettings, models: Path) -> None:
    edited(models / "built" / "net.py", "nn.ReLU()", "nn.ReLU6()")
    assert "the source of built is" in refused(settings)


def test_other_models_are_refused(settings: ServerSettings) -> None:
    assert "the models are scripted, locked were scripted+built" in refused(
        msgspec.structs.replace(settings, models=("scripted",))
    )


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ({"decoder": {"pillow": "1.0", "rules": "r"}}, "decoder: `pillow` is 1.0, locked was"),
        ({"versions": {"torch": "1.0", "torchvision": "1"}}, "versions: `torch` is 1.0, locked was"),
        ({"execution": {"dtype": "bfloat16"}}, "execution: `dtype` is bfloat16, locked was None"),
    ],
)
def test_what_all_models_share_is_part_of_it(part: dict[str, dict[str, str]], message: str) -> None:
    lock = load_ensemble(NAMES).lock
    changed = msgspec.structs.replace(lock, **part)
    assert changed.digest != lock.digest
    assert message in "; ".join(differences(lock, changed))


def test_a_lock_that_was_changed_by_hand_is_not_believed(settings: ServerSettings) -> None:
    assert settings.lock is not None
    edited(settings.lock, '"count": 5', '"count": 6')
    assert "was changed by hand" in refused(settings)


@pytest.mark.parametrize("content", ["", "{}", '{"models": 3}', "not json"])
def test_what_is_no_lock_is_said_to_be_none(content: str, tmp_path: Path) -> None:
    (tmp_path / "ensemble.lock").write_text(content)
    with pytest.raises(ConfigurationError, match=r"is no lock of this version|was changed by hand"):
        read_lock(tmp_path / "ensemble.lock")
    with pytest.raises(ConfigurationError, match="`sectorwatch models lock` makes one"):
        read_lock(tmp_path / "absent.lock")


def test_a_lock_that_is_no_text_is_said_to_be_none(tmp_path: Path) -> None:
    (tmp_path / "ensemble.lock").write_bytes(b'{"ensemble": "\xff"}')
    with pytest.raises(ConfigurationError, match="cannot be read: line 1 has the byte 0xff"):
        read_lock(tmp_path / "ensemble.lock")


def test_a_lock_is_canonical(tmp_path: Path) -> None:
    lock = load_ensemble(NAMES).lock
    shuffled = msgspec.convert(dict(reversed(list(msgspec.to_builtins(lock).items()))), Lock)
    for place, each in (("a", lock), ("b", shuffled)):
        write_lock(each, tmp_path / place)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_two_ensembles_of_one_name_answer_alike() -> None:
    first, second = (load_ensemble(NAMES) for _ in range(2))
    pictures = [encoded(scene(200, 150, seed)) for seed in range(2)]
    assert first.ensemble_info.ensemble == second.ensemble_info.ensemble
    assert _answers(first, pictures) == _answers(second, pictures)


def test_the_users_models_have_their_classes(settings: ServerSettings) -> None:
    assert {
        frozenset(model_info.classes) for model_info in load(settings, settings.models).ensemble.ensemble_info.models
    } == {frozenset(CLASSES)}


def test_the_cards_of_the_users_models_are_told(settings: ServerSettings, models: Path) -> None:
    engine = engine_of(load_ensemble(settings.models, folders=[models]), settings)
    app = create_app(settings, ensemble=engine.first, channels=[])
    runtime_of(app).store.upgrade()
    told = app.test_client().get("/v1/models").get_json()
    runtime_of(app).stop()
    assert told["ensemble"] == read_lock(settings.lock or Path()).digest
    assert [(model["name"], model["licence"]) for model in told["models"]] == [("scripted", "MIT"), ("built", "MIT")]


def _answers(ensemble: Ensemble, pictures: list[bytes]) -> object:
    return ensemble.answer(pictures)


def test_a_server_process_refuses_what_is_not_locked_and_says_which_model_differs_in_what(
    settings: ServerSettings, models: Path, tmp_path: Path
) -> None:
    edited(models / "built" / "card.toml", "std = [64.0]", "std = [64.5]")
    variables = {
        "SECTORWATCH_MODELS": ",".join(settings.models),
        "SECTORWATCH_MODELS_DIR": str(models),
        "SECTORWATCH_LOCK": str(settings.lock),
        "SECTORWATCH_DATA_DIR": str(tmp_path / "data"),
        "SECTORWATCH_PORT": "0",
    }
    done = subprocess.run(
        [sys.executable, "-m", "server", "serve"],
        env={**os.environ, **variables},
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 78
    assert "input form of built: `std` is [64.5], locked was [64.0]" in done.stdout + done.stderr
