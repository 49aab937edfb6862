"""`sectorwatch models lock|approve|check|adopt|torchvision`: proofs and cards from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result

from server.__main__ import command
from server.catalogue import card_named
from server.catalogue.lock import read_lock
from server.ensemble.adoption import format_of
from tests.server.ensemble.others import CLASSES, FORMATS, folder_of, network, save
from tests.server.ensemble.pictures import encoded, scene


@pytest.fixture
def models(tmp_path: Path) -> Path:
    folder_of(tmp_path / "models", "torchscript", network(1), "mine")
    return tmp_path / "models"


@pytest.fixture
def dmodels(tmp_path: Path) -> Path:
    """As FlexServe keeps them: files beside each other, and the names of the classes elsewhere."""
    folder = tmp_path / "dmodels"
    folder.mkdir()
    for form, name in (("torchscript", "first.pt"), ("pickle", "Second Net.pth"), ("state_dict", "third.pth")):
        save(network(len(name)), form, folder).rename(folder / name)
    (folder / "readme.txt").write_text("not a network")
    (tmp_path / "classes.txt").write_text("\n".join(CLASSES) + "\n")
    return folder


def run(*arguments: object, **variables: object) -> Result:
    environment = {f"SECTORWATCH_{name}": str(value) for name, value in variables.items()}
    result = CliRunner(env=environment).invoke(command, ["models", *(str(each) for each in arguments)])
    assert result.exception is None or isinstance(result.exception, SystemExit), "a traceback"
    return result


def test_lock_writes_what_check_then_holds_against(models: Path, tmp_path: Path) -> None:
    of = {"MODELS": "mine", "MODELS_DIR": models, "LOCK": tmp_path / "ensemble.lock"}
    locked = run("lock", **of)
    assert locked.exit_code == 0
    assert read_lock(tmp_path / "ensemble.lock").digest in locked.stdout
    checked = run("check", **of)
    assert checked.exit_code == 0
    assert "as locked" in checked.stdout
    assert "golden set: does not cover mine" in checked.stdout
    card = models / "mine" / "card.toml"
    card.write_text(card.read_text().replace('"elm"', '"oak"'))
    refused = run("check", **of)
    assert refused.exit_code == 78
    assert "the class list of mine is" in refused.stderr


SILENT = """
from torch import nn

class Net(nn.Module):
    def forward(self, rows):
        raise RuntimeError("no anchors for this size")

def build(card, path):
    return Net()
"""


@pytest.mark.parametrize("kind", ["detector", "classifier"])
def test_check_fails_with_the_reason_for_a_model_that_never_answers(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / f"silent_{kind}.py").write_text(SILENT)
    monkeypatch.syspath_prepend(str(tmp_path))
    folder = tmp_path / "own" / "silent"
    folder.mkdir(parents=True)
    (folder / "card.toml").write_text(
        f'name = "silent"\nsummary = "s"\nkind = "{kind}"\nfactory = "silent_{kind}:build"\nclasses = ["a", "b"]\n'
        'trusted = true\nlicence = "MIT"\ncitation = "none"\n[input]\ncolour = "rgb"\nfit = "stretch"\nsize = [8, 8]\n'
    )
    checked = run("check", MODELS="silent,frame-change", MODELS_DIR=tmp_path / "own")
    assert checked.exit_code == 78
    why = "silent answered about none of 11 pictures: RuntimeError: no anchors for this size"
    assert why in checked.stderr
    assert "as approved" not in checked.stdout


def test_approve_keeps_what_check_then_replays(models: Path, tmp_path: Path) -> None:
    of = {"MODELS": "mine", "MODELS_DIR": models, "GOLDEN": tmp_path / "golden"}
    (tmp_path / "shown").mkdir()
    for seed in range(3):
        (tmp_path / "shown" / f"{seed}.png").write_bytes(encoded(scene(60, 50, seed)))
    approved = run("approve", "--pictures", tmp_path / "shown", **of)
    assert approved.exit_code == 0
    assert "0.png: mine " in approved.stdout
    assert run("check", **of).stdout.endswith("golden set: answers as approved\n")
    (models / "mine" / "net.pt").unlink()
    (models / "mine" / "card.toml").unlink()
    (models / "mine").rmdir()
    folder_of(models, "torchscript", network(2), "mine")
    refused = run("check", **of)
    assert refused.exit_code == 1
    assert "golden set: mine " in refused.stderr


def test_approve_warns_of_a_model_that_is_sure_of_no_picture(models: Path, tmp_path: Path) -> None:
    undecided = network(1)
    for parameter in undecided.parameters():
        parameter.data.zero_()
    folder_of(models, "torchscript", undecided, "mild")
    approved = run("approve", "mine", "mild", MODELS_DIR=models, GOLDEN=tmp_path / "golden")
    assert approved.exit_code == 0
    [warning] = [line for line in approved.stderr.splitlines() if line.startswith("warning")]
    assert warning.startswith("warning: mild is sure of no picture")
    assert warning.endswith("--pictures FOLDER")


def test_approve_wants_to_know_where(tmp_path: Path) -> None:
    assert "--out FOLDER" in run("approve", "frame-change").stderr
    (tmp_path / "empty").mkdir()
    refused = run("approve", "frame-change", "--pictures", tmp_path / "empty", "--out", tmp_path / "golden")
    assert "has no pictures" in refused.stderr


def test_adopt_makes_cards_that_are_served_and_says_what_it_would_not_take(dmodels: Path, tmp_path: Path) -> None:
    (dmodels / "Second Net.pth").unlink()
    result = run("adopt", dmodels, "--classes", tmp_path / "classes.txt", "--trust", "--out", tmp_path / "models")
    assert result.exit_code == 1
    assert "first: torchscript, 5 classes" in result.stdout
    assert "first is a TorchScript network, which can run code; you trust it, and its card says so" in result.stdout
    assert "third.pth holds weights without a network" in result.stderr
    card = card_named("first", [tmp_path / "models"])
    assert card.classes == CLASSES
    assert card.input.shorter_side == 256
    checked = run("check", MODELS="first", MODELS_DIR=tmp_path / "models")
    assert checked.exit_code == 0


@pytest.mark.parametrize("form", FORMATS)
def test_the_format_of_a_file_is_told_without_running_it(form: str, tmp_path: Path) -> None:
    form_of_file = format_of(save(network(), form, tmp_path))
    assert form_of_file == {"nested": "state_dict"}.get(form, form.partition("-")[0])


def test_adopt_takes_pickled_modules_from_those_one_trusts_and_moves_nothing(dmodels: Path, tmp_path: Path) -> None:
    before = sorted(path.name for path in dmodels.iterdir())
    result = run(
        "adopt", dmodels / "Second Net.pth", "--classes", tmp_path / "classes.txt", "--trust", MODELS_DIR=tmp_path / "m"
    )
    assert (result.exit_code, result.stderr) == (0, "")
    card = card_named("second-net", [tmp_path / "m"])
    assert card.trusted
    assert card.sha256 is not None
    assert sorted(path.name for path in dmodels.iterdir()) == before
    assert run("verify", "second-net", MODELS_DIR=tmp_path / "m").exit_code == 0


def test_adopt_refuses_what_can_run_code_until_it_is_trusted_and_names_the_safe_way(
    dmodels: Path, tmp_path: Path
) -> None:
    result = run("adopt", dmodels, "--classes", tmp_path / "classes.txt", "--out", tmp_path / "models")
    assert result.exit_code == 1
    assert f"{dmodels}/first.pt is a TorchScript network: this can run code." in result.stderr
    assert "Second Net.pth is a pickled module: this can run code." in result.stderr
    assert "trust it (--trust); its weights as safetensors with a --factory of torchvision.models," in result.stderr
    assert not (tmp_path / "models").exists()


def test_adopt_takes_weights_with_what_makes_their_network(dmodels: Path, tmp_path: Path) -> None:
    torch.save(torch.nn.Linear(2, 2).state_dict(), dmodels / "third.pth")
    arguments = ("adopt", dmodels / "third.pth", "--classes", tmp_path / "classes.txt", "--out", tmp_path / "models")
    refused = run(*arguments, "--factory", "torchvision.models:squeezenet1_1")
    assert refused.exit_code == 1
    assert "do not fit what its factory makes" in refused.stderr
    assert "no file models/net.py for --factory" in run(*arguments, "--factory", "models/net.py:build").stderr
    for wrong in ("torchvision.models.squeezenet1_1", "torchvision.models:"):
        assert f"`factory` is package.module:callable, and not `{wrong}`" in run(*arguments, "--factory", wrong).stderr
    assert not (tmp_path / "models").exists()


def test_adopt_refuses_a_list_of_another_length(dmodels: Path, tmp_path: Path) -> None:
    (tmp_path / "classes.json").write_text(json.dumps({"0": ["n0", "ash"], "1": ["n1", "birch"]}))
    result = run(
        "adopt", dmodels / "first.pt", "--trust", "--classes", tmp_path / "classes.json", "--out", tmp_path / "models"
    )
    assert result.exit_code == 1
    assert "gives 5 numbers for a picture, and the list has 2 classes" in result.stderr


def test_adopt_says_of_each_file_that_is_no_network_that_it_is_none_and_goes_on(dmodels: Path, tmp_path: Path) -> None:
    (dmodels / "a.pt").write_bytes(b"junk")
    (dmodels / "b.pt").write_bytes(b"")
    result = run("adopt", dmodels, "--trust", "--classes", tmp_path / "classes.txt", "--out", tmp_path / "models")
    assert result.exit_code == 1
    assert [f"{dmodels / name} is no network that PyTorch can read" in result.stderr for name in ("a.pt", "b.pt")] == [
        True,
        True,
    ]
    assert "first: torchscript" in result.stdout


def test_a_list_of_classes_in_no_known_writing_is_a_message(dmodels: Path, tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_bytes(b"\xff\xfe\x00")
    result = run("adopt", dmodels, "--classes", tmp_path / "classes.txt", "--out", tmp_path / "models")
    assert result.exit_code == 1
    assert "is no list of classes in UTF-8" in result.stderr


def test_a_picture_that_cannot_be_read_is_named_when_answers_are_approved(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "odd.jpg").write_bytes(b"junk")
    result = run("approve", "--pictures", tmp_path / "pictures", "--out", tmp_path / "golden", MODELS="frame-change")
    assert result.exit_code == 78
    assert "odd.jpg: not a whole JPEG" in result.stderr
    assert "take it out of the folder" in result.stderr
    assert not (tmp_path / "golden").exists()


def test_adopt_does_not_write_over_a_card(dmodels: Path, tmp_path: Path) -> None:
    arguments = (
        *("adopt", dmodels / "first.pt", "--trust", "--classes", tmp_path / "classes.txt"),
        *("--out", tmp_path / "models"),
    )
    assert run(*arguments).exit_code == 0
    again = run(*arguments)
    assert again.exit_code == 1
    assert "there is already a card" in again.stderr


def test_torchvision_by_a_name_it_does_not_have_is_refused(tmp_path: Path) -> None:
    result = run("torchvision", "resnet17", "--out", tmp_path)
    assert result.exit_code == 78
    assert "no classifier and no detector named resnet17: did you mean resnet1" in result.stderr


def test_without_names_the_ensemble_of_the_settings_is_pulled(tmp_path: Path) -> None:
    result = run("pull", MODELS="hog-people,frame-change", CACHE_DIR=tmp_path)
    assert result.exit_code == 0
    assert [line.partition(":")[0] for line in result.stdout.splitlines()] == ["hog-people", "frame-change"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n", "it is a Git LFS pointer"),
        (b"<!doctype html><title>Sign in</title>", "it is an HTML page"),
        (b'{"message": "Not Found"}', "it is a JSON text"),
        (b"", "it is empty"),
        (b"\x80\x02junk that no pickle has", "is no network that PyTorch can read"),
    ],
)
def test_a_file_that_is_no_network_is_named_and_nobody_is_advised_to_trust_it(
    content: bytes, message: str, dmodels: Path, tmp_path: Path
) -> None:
    (dmodels / "first.pt").write_bytes(content)
    for trust in ((), ("--trust",)):
        result = run(
            "adopt", dmodels / "first.pt", "--classes", tmp_path / "classes.txt", "--out", tmp_path / "m", *trust
        )
        assert result.exit_code == 1
        assert message in result.stderr
        assert "trust it" not in result.stderr
        assert len(result.stderr.splitlines()) == 1


def test_the_librarys_own_error_is_behind_verbose(dmodels: Path, tmp_path: Path) -> None:
    torch.jit.script(network().half()).save(str(dmodels / "first.pt"))
    arguments = (
        "adopt",
        dmodels / "first.pt",
        "--classes",
        tmp_path / "classes.txt",
        "--trust",
        "--out",
        tmp_path / "models",
    )
    short = run(*arguments)
    assert len(short.stderr.splitlines()) == 1
    assert "first does not take a colour picture of 224x224: it wants float16" in short.stderr
    assert "(--verbose shows all of it)" in short.stderr
    long = run(*arguments, "--verbose")
    assert "Traceback of TorchScript" in long.stderr
    assert short.stderr.partition(" (--verbose")[0] in long.stderr


@pytest.mark.parametrize(
    "verb",
    ["list", "pull", "verify", "lock", "approve", "check", "swap", "rollback", "history", "adopt", "torchvision"],
)
def test_every_subcommand_takes_verbose(verb: str) -> None:
    assert "--verbose" in run(verb, "--help").stdout


def test_an_ensemble_that_cannot_be_loaded_is_one_line_and_more_with_verbose(models: Path) -> None:
    folder = folder_of(models, "pickle", network().half(), "half")
    short = run("lock", folder.name, MODELS_DIR=models)
    assert (short.exit_code, len(short.stderr.splitlines())) == (78, 1)
    long = run("lock", folder.name, "--verbose", MODELS_DIR=models)
    assert "Traceback" in long.stderr
    assert long.stderr.endswith(short.stderr)


def test_a_list_of_classes_that_windows_saved_has_no_mark_in_its_first_name(dmodels: Path, tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_bytes(b"\xef\xbb\xbf" + "\r\n".join(CLASSES).encode())
    result = run(
        "adopt", dmodels / "first.pt", "--trust", "--classes", tmp_path / "classes.txt", "--out", tmp_path / "models"
    )
    assert result.exit_code == 0
    assert card_named("first", [tmp_path / "models"]).classes == CLASSES


def test_lock_and_golden_set_are_read_as_windows_saves_them(models: Path, tmp_path: Path) -> None:
    of = {"MODELS": "mine", "MODELS_DIR": models, "LOCK": tmp_path / "ensemble.lock", "GOLDEN": tmp_path / "golden"}
    assert run("lock", **of).exit_code == 0
    assert run("approve", **of).exit_code == 0
    for file in (tmp_path / "ensemble.lock", tmp_path / "golden" / "golden.json"):
        file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes().replace(b"\n", b"\r\n"))
    checked = run("check", **of)
    assert (checked.exit_code, checked.stderr) == (0, "")


def test_a_folder_among_the_pictures_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "pictures" / "old.jpg").mkdir(parents=True)
    (tmp_path / "pictures" / "._a.png").write_bytes(b"\0\5\x16\7")
    (tmp_path / "pictures" / "a.png").write_bytes(encoded(scene(60, 50, 1)))
    result = run("approve", "--pictures", tmp_path / "pictures", "--out", tmp_path / "golden", MODELS="frame-change")
    assert result.exit_code == 0
    assert "a.png: frame-change" in result.stdout
