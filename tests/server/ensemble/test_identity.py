"""An ensemble keeps its name while its code is reworded and moved, and gets another with every version that is raised.

The golden set is the guard: it notices arithmetic that changed while the version stayed.
"""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import server
from server.catalogue import card_named, cards
from server.catalogue.lock import differences
from server.ensemble import (
    detections,
    efficientnet_lite,
    forms,
    frame_change,
    hog,
    load_ensemble,
    module,
    tuning,
    yolov3_tiny,
)
from server.ensemble.building import foreign, module_of
from server.ensemble.identity import code_versions
from tests.server.ensemble.others import folder_of, network

SMALL = ("hog-people-small", "frame-change")
MOVED = {"hog": "gradients", "detections": "overlapping", "decode": "pixels"}
RENAMED = {"misfit": "residue", "sides": "widths", "oriented": "by_angle"}


class Reworded(ast.NodeTransformer):
    """Other docstrings, and strings that explain an assignment gone; comments go as the tree is written again."""

    def visit_Expr(self, node: ast.Expr) -> ast.Expr:
        if isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            return ast.Expr(ast.Constant("Something else."))
        return node


def reworded(source: str) -> str:
    text = ast.unparse(Reworded().visit(ast.parse(source)))
    for old, new in RENAMED.items():
        text = re.sub(rf"\b{old}\b", new, text)
    return moved(text)


def moved(text: str) -> str:
    for old, new in MOVED.items():
        text = text.replace(f"server.ensemble.{old} import", f"server.ensemble.{new} import")
        text = text.replace(f"server.ensemble.{old}:", f"server.ensemble.{new}:")
    return text


def test_rewording_every_docstring_renaming_locals_and_moving_files_keeps_the_ensembles_name(tmp_path: Path) -> None:
    package = tmp_path / "server"
    shutil.copytree(Path(server.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    for path in package.rglob("*.py"):
        path.write_text(reworded(path.read_text()))
    for path in package.rglob("cards/*.toml"):
        path.write_text(moved(path.read_text()))
    for old, new in MOVED.items():
        (package / "ensemble" / f"{old}.py").rename(package / "ensemble" / f"{new}.py")
    names = tuple(cards())
    asked = "import sys; from server.ensemble import load_ensemble; print(load_ensemble(sys.argv[1:]).lock.digest)"
    done = subprocess.run(
        [sys.executable, "-c", asked, *names],
        env={**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{Path(server.__file__).parents[1]}"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip() == load_ensemble(names).lock.digest, done.stderr


@pytest.mark.parametrize("name", cards())
def test_every_network_of_the_catalogue_has_a_version_of_its_own(name: str) -> None:
    card = card_named(name)
    own = module_of(card).VERSIONS
    assert own.items() <= code_versions(card).items()
    assert {card.input.fit, card.kind} <= code_versions(card).keys()


@pytest.mark.parametrize(
    ("versions", "step", "raises"),
    [
        (forms.VERSIONS, "shrink", {"hog-people-small", "frame-change"}),
        (forms.VERSIONS, "letterbox", {"yolov3-tiny"}),
        (forms.VERSIONS, "crop", {"efficientnet-lite0"}),
        (module.VERSIONS, "classifier", {"efficientnet-lite0"}),
        (module.VERSIONS, "detector", {"yolov3-tiny", "hog-people-small"}),
        (module.VERSIONS, "change", {"frame-change"}),
        (tuning._VERSIONS, "fuse", {"efficientnet-lite0"}),
        (yolov3_tiny.VERSIONS, "yolov3-tiny", {"yolov3-tiny"}),
        (hog.VERSIONS, "hog", {"hog-people-small"}),
        (efficientnet_lite.VERSIONS, "efficientnet-lite", {"efficientnet-lite0"}),
        (frame_change.VERSIONS, "frame-change", {"frame-change"}),
    ],
)
def test_raising_a_version_renames_the_ensembles_whose_answers_it_decides(
    versions: dict[str, int], step: str, raises: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("yolov3-tiny", "hog-people-small", "efficientnet-lite0", "frame-change")
    before = {name: code_versions(card_named(name)) for name in names}
    monkeypatch.setitem(versions, step, versions[step] + 1)
    after = {name: code_versions(card_named(name)) for name in names}
    assert {name for name in names if before[name] != after[name]} == raises


def test_a_raised_version_is_in_the_lock_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    before = load_ensemble(SMALL).lock
    monkeypatch.setitem(frame_change.VERSIONS, "frame-change", 9)
    after = load_ensemble(SMALL).lock
    assert after.digest != before.digest
    assert differences(before, after) == ["code of frame-change: `frame-change` is 9, locked was 8"]


def test_the_version_of_the_decoder_is_in_every_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    before = load_ensemble(SMALL).lock
    monkeypatch.setattr("server.ensemble.decode.VERSION", 2)
    assert differences(before, load_ensemble(SMALL).lock) == ["decoder: `rules` is 2, locked was 1"]


def test_both_kinds_of_detectors_carry_the_version_of_what_they_share() -> None:
    assert hog.VERSIONS["nms"] == yolov3_tiny.VERSIONS["nms"] == detections.NMS_VERSIONS["nms"]


def test_bf16_has_a_version_of_its_own() -> None:
    card = card_named("efficientnet-lite0")
    assert code_versions(card, "bf16").keys() - code_versions(card).keys() == {"bf16"}


@pytest.mark.parametrize("form", ["torchscript", "export", "state_dict", "safetensors", "pickle"])
def test_every_foreign_format_has_a_version(form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder_of(tmp_path, form, network(1), "mine")
    [before] = load_ensemble(["mine"], folders=[tmp_path]).lock.models
    monkeypatch.setitem(foreign.VERSIONS, form, 2)
    [after] = load_ensemble(["mine"], folders=[tmp_path]).lock.models
    assert (before.code[form], after.code[form]) == (1, 2)


def source_of(folder: Path) -> str | None:
    [model] = load_ensemble(["mine"], folders=[folder]).lock.models
    return model.source


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"""A network as somebody may have written it."""', '"""What my network is."""  # mine'),
        ("def build(classes, width=8):\n", 'def build(classes, width=8):\n    """My network."""\n'),
        ("nn.ReLU(),", "nn.ReLU(),  # Nair and Hinton 2010"),
        ("nn.Flatten(),\n", "(\n            nn.Flatten()\n        ),\n"),
    ],
)
def test_comments_docstrings_and_layout_of_a_users_code_are_no_part_of_its_name(
    old: str, new: str, tmp_path: Path
) -> None:
    file = folder_of(tmp_path, "state_dict", network(1), "mine") / "net.py"
    before = source_of(tmp_path)
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new))
    assert source_of(tmp_path) == before


def test_another_statement_of_a_users_code_and_another_module_beside_it_are_another_name(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, "state_dict", network(1), "mine")
    names = [source_of(tmp_path)]
    (folder / "net.py").write_text((folder / "net.py").read_text().replace("nn.ReLU()", "nn.ReLU6()"))
    names.append(source_of(tmp_path))
    (folder / "more.py").write_text("SIDE = 3\n")
    names.append(source_of(tmp_path))
    (folder / "more.py").rename(folder / "other.py")
    names.append(source_of(tmp_path))
    (folder / "other.py").write_text("this is no Python\n")
    names.append(source_of(tmp_path))
    assert None not in names
    assert len(set(names)) == len(names)


def test_another_factory_of_the_same_file_is_another_name(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, "state_dict", network(1), "mine")
    before = load_ensemble(["mine"], folders=[tmp_path]).lock
    (folder / "net.py").write_text((folder / "net.py").read_text() + "\n\nother = build\n")
    (folder / "card.toml").write_text((folder / "card.toml").read_text().replace("net:build", "net:other"))
    changed = differences(before, load_ensemble(["mine"], folders=[tmp_path]).lock)
    assert changed[0] == "the factory of mine is net:other, locked was net:build"


def test_a_factory_of_an_installed_module_counts_by_its_syntax(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    sources = []
    for name, word in (("counted_a", "one"), ("counted_b", "two"), ("counted_c", "three")):
        folder = folder_of(tmp_path / name, "state_dict", network(1), "mine")
        source = (folder / "net.py").read_text().replace("somebody", word)
        (tmp_path / f"{name}.py").write_text(source if word != "three" else source.replace("ReLU()", "ReLU6()"))
        (folder / "net.py").unlink()
        card = folder / "card.toml"
        card.write_text("trusted = true\n" + card.read_text().replace("net:build", f"{name}:build"))
        sources.append(source_of(tmp_path / name))
    assert sources[0] == sources[1] != sources[2]
    assert sources[0] is not None


def test_a_pickled_module_of_a_users_class_counts_by_the_syntax_of_its_module_and_one_of_torch_has_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "pickled_net.py").write_text("from torch import nn\n\nclass Net(nn.Sequential):\n    pass\n")
    from pickled_net import Net  # type: ignore[import-not-found]

    plain = network(1)
    assert isinstance(plain, torch.nn.Sequential)
    folder_of(tmp_path / "torchs", "pickle", plain, "mine")
    folder_of(tmp_path / "users", "pickle", Net(*plain), "mine")
    assert source_of(tmp_path / "torchs") is None
    assert source_of(tmp_path / "users") is not None
