"""Small, real networks of other people, in every format they may come in, each in a folder with a card."""

from __future__ import annotations

import hashlib
import importlib.util
from functools import partial
from pathlib import Path
from types import ModuleType

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from server.ensemble.adoption import adopt
from server.ensemble.adoption.examination import examine

CLASSES = ("ash", "birch", "cedar", "dogwood", "elm")
FORMATS = ("torchscript", "export", "export-of-one", "export-of-three", "safetensors", "state_dict", "nested", "pickle")

adopt_here = partial(adopt, trusted=True, examine=lambda question, _limits: examine(question))
"""Adopts what the user trusts, and examines it in this process instead of in one of its own, which takes seconds."""

SOURCE = '''\
"""A network as somebody may have written it."""

from torch import nn


def build(classes, width=8):
    return nn.Sequential(
        nn.Conv2d(3, width, 3, stride=2),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(4 * width, classes),
    )
'''

CARD = """\
name = "{name}"
summary = "for tests"
kind = "classifier"
format = "{format}"
classes = ["ash", "birch", "cedar", "dogwood", "elm"]
licence = "MIT"
citation = "none"
sha256 = "{sha256}"
size_bytes = {size_bytes}
{more}
[input]
colour = "rgb"
fit = "stretch"
size = [40, 32]
mean = [127.0]
std = [64.0]

[[sources]]
from = "file"
path = "{file}"
"""

_WITH_FACTORY = 'factory = "net:build"\nparameters = { classes = 5, width = 8 }\n'


def network(seed: int = 1) -> nn.Module:
    """The network of SOURCE with weights of its own, in evaluation mode."""
    module = module_of_source()
    torch.manual_seed(seed)
    made = module.build(len(CLASSES))
    assert isinstance(made, nn.Module)
    for parameter in made.parameters():
        parameter.data = torch.randn(parameter.shape)
    return made.eval()


def module_of_source() -> ModuleType:
    spec = importlib.util.spec_from_loader("others_net", loader=None)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    exec(SOURCE, module.__dict__)
    return module


def folder_of(models_dir: Path, form: str, made: nn.Module, name: str | None = None) -> Path:
    """A model's folder with card, weights in that format, and the factory's source where one is needed."""
    name = name or f"mine-{form.replace('_', '-')}"
    folder = models_dir / name
    folder.mkdir(parents=True)
    file = save(made, form, folder)
    written = form.partition("-")[0] if form.startswith("export") else "state_dict" if form == "nested" else form
    more = ""
    if written in ("safetensors", "state_dict"):
        (folder / "net.py").write_text(SOURCE)
        more = _WITH_FACTORY
    elif written == "pickle":
        more = "trusted = true\n"
    write_card(folder, name, written, file, more)
    return folder


def write_card(folder: Path, name: str, form: str, file: Path, more: str = "") -> None:
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    text = CARD.format(name=name, format=form, sha256=digest, size_bytes=file.stat().st_size, file=file.name, more=more)
    (folder / "card.toml").write_text(text)


def save(made: nn.Module, form: str, folder: Path) -> Path:
    rows: Tensor = torch.zeros(2, 3, 32, 40)
    if form == "torchscript":
        torch.jit.trace(made, rows).save(str(folder / "net.pt"))
        return folder / "net.pt"
    if form.startswith("export"):
        count = {"export": 2, "export-of-one": 1, "export-of-three": 3}[form]
        dynamic = ({0: torch.export.Dim("rows")},) if form == "export" else None
        program = torch.export.export(made, (torch.zeros(count, 3, 32, 40),), dynamic_shapes=dynamic)
        torch.export.save(program, folder / "net.pt2")
        return folder / "net.pt2"
    if form == "safetensors":
        save_file(made.state_dict(), folder / "net.safetensors")
        return folder / "net.safetensors"
    saved = {"state_dict": made.state_dict(), "nested": {"epoch": 3, "state_dict": made.state_dict()}, "pickle": made}
    torch.save(saved[form], folder / "net.pth")
    return folder / "net.pth"
