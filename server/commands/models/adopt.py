"""`sectorwatch models adopt|torchvision`: write cards for existing networks."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from server.commands.options import config_option
from server.domain.errors import SectorwatchError
from server.settings import load_settings

F = TypeVar("F", bound=Callable[..., Any])


def _out(command: F) -> F:
    """Adds --config and --out, the folder of the cards."""
    folder = click.Path(file_okay=False, path_type=Path)
    what = "Folder of your own models [the setting `models_dir`]."
    return config_option(click.option("--out", "models_dir", type=folder, help=what)(command))


@click.command()
@click.argument("dmodels", type=click.Path(exists=True, path_type=Path))
@click.option(
    "--classes",
    "classes_file",
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The class names in the networks' order: a name per line, or a JSON list or object in ImageNet's form.",
)
@click.option("--factory", default="", help="For state dicts: package.module:callable that makes the network.")
@click.option("--trust", is_flag=True, help="Load pickled modules, which can run any code.")
@click.option("--probabilities", is_flag=True, help="The networks end in a softmax.")
@_out
def adopt(
    dmodels: Path,
    classes_file: Path,
    factory: str,
    models_dir: Path | None,
    config: Path | None,
    *,
    trust: bool,
    probabilities: bool,
) -> None:
    """Write a card for each network in a FlexServe folder, or for a single file.

    Reads TorchScript, torch.export (.pt2), safetensors, state dicts and pickled modules, with FlexServe's transform.
    The files stay where they are. Exit code 1 if a file cannot be adopted.
    """
    from server.ensemble.adopt import SUFFIXES
    from server.ensemble.adopt import adopt as adopted

    place, classes = _place(models_dir, config), _classes(classes_file)
    files = [dmodels] if dmodels.is_file() else sorted(file for file in dmodels.iterdir() if file.suffix in SUFFIXES)
    if not files:
        raise click.ClickException(f"{dmodels} has no networks ({', '.join(SUFFIXES)})")
    output = "probabilities" if probabilities else "logits"
    failed = False
    for file in files:
        try:
            card = adopted(file, classes, place, factory=factory, trusted=trust, output=output)
        except SectorwatchError as error:
            click.echo(error.detail, err=True)
            failed = True
        else:
            click.echo(f"{card.name}: {card.format}, {len(card.classes)} classes, sha256 {card.sha256}")
    if failed:
        raise SystemExit(1)


@click.command()
@click.argument("architecture")
@click.option(
    "--weights",
    "file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The state dict [default: PyTorch's download folder, or the network].",
)
@_out
def torchvision(architecture: str, file: Path | None, models_dir: Path | None, config: Path | None) -> None:
    """Write a card for a classifier or detector of torchvision's, pinned to its weights as they are now."""
    from server.ensemble.adopt import adopt_torchvision

    card = adopt_torchvision(architecture, _place(models_dir, config), file)
    click.echo(f"{card.name}: {card.kind}, {len(card.classes)} classes, sha256 {card.sha256}")


def _place(models_dir: Path | None, config: Path | None) -> Path:
    place = load_settings(config, models_dir=models_dir).models_dir
    if place is None:
        raise click.UsageError("give --out FOLDER for the cards, or the setting `models_dir`")
    return place


def _classes(file: Path) -> list[str]:
    """One name per line, `["a", "b"]`, or `{"0": "a"}` and `{"0": ["n01440764", "a"]}` in the usual forms."""
    try:
        text = file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise click.ClickException(f"{file} is no list of classes in UTF-8: {error}") from error
    if not text.lstrip().startswith(("[", "{")):
        return [line.strip() for line in text.splitlines() if line.strip()]
    try:
        read = json.loads(text)
        if isinstance(read, dict):
            read = [read[str(index)] for index in range(len(read))]
        return [each[-1] if isinstance(each, list) else str(each) for each in read]
    except (ValueError, KeyError, IndexError) as error:
        raise click.ClickException(f"{file} is no list of classes: {error}") from error
