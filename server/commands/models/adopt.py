"""`sectorwatch models adopt|torchvision`: write cards for existing networks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

import click

from server.catalogue.card import Output
from server.catalogue.class_list import read_classes
from server.commands.models.verbose import echo_fault
from server.commands.options import config_option
from server.domain.errors import SectorwatchError
from server.serving.machine import this_machine
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
    help="The class names in the networks' order: a name per line, numbers with names, or JSON.",
)
@click.option("--factory", default="", help="For state dicts: package.module:callable that makes the network.")
@click.option(
    "--trust", is_flag=True, help="Load files that can run code: TorchScript, .pt2, pickles, factories beside."
)
@click.option(
    "--output",
    type=click.Choice(get_args(Output)),
    help="What the networks' numbers are [default: what they show; where they may be two things, it is refused].",
)
@click.option(
    "--probabilities", is_flag=True, help="The networks end in a softmax; the same as --output probabilities."
)
@_out
def adopt(
    dmodels: Path,
    classes_file: Path,
    factory: str,
    output: Output | None,
    models_dir: Path | None,
    config: Path | None,
    *,
    trust: bool,
    probabilities: bool,
) -> None:
    """Write a card for each network in a FlexServe folder, or for a single file.

    Reads TorchScript, torch.export (.pt2), safetensors, state dicts and pickled modules, with FlexServe's transform.
    Asks each about some pictures, in a process that cannot write and has bounds of time and memory, and refuses one
    that cannot be served well. The files stay where they are. Exit code 1 if a file cannot be adopted.
    """
    from server.ensemble.adoption import Limits
    from server.ensemble.adoption import adopt as adopted

    if probabilities and output not in (None, "probabilities"):
        raise click.UsageError(f"--probabilities and --output {output} contradict each other")
    stated: Output | None = "probabilities" if probabilities else output
    place = _place(models_dir, config)
    try:
        classes = read_classes(classes_file)
    except SectorwatchError as error:
        raise click.ClickException(error.detail) from error
    available = this_machine().available_bytes
    limits = Limits() if available is None else Limits(memory_bytes=available // 2)
    failed = False
    for file in _files(dmodels):
        try:
            card, path, remarks, code = adopted(
                file, classes, place, factory=factory, trusted=trust, output=stated, limits=limits
            )
        except SectorwatchError as error:
            echo_fault(error)
            failed = True
            continue
        click.echo(f"{card.name}: {card.format}, {_counted(card.classes)}, {card.output}, sha256 {card.sha256}")
        if code:
            click.echo(f"{card.name} {code}, which can run code; you trust it, and its card says so (trusted = true)")
        for remark in remarks:
            click.echo(f"warning: {path}: {remark}", err=True)
    if failed:
        raise SystemExit(1)


def _files(dmodels: Path) -> list[Path]:
    """The networks of a folder, or the one file. Raises ClickException if there is none."""
    from server.ensemble.adoption import SUFFIXES

    if dmodels.is_file():
        return [dmodels]
    try:
        listed = sorted(dmodels.iterdir())
    except OSError as error:
        raise click.ClickException(f"{dmodels} cannot be read: {error.strerror}") from error
    files = [
        file for file in listed if file.suffix.lower() in SUFFIXES and file.is_file() and not file.name.startswith(".")
    ]
    if not files:
        raise click.ClickException(f"{dmodels} has no networks ({', '.join(SUFFIXES)})")
    return files


def _counted(classes: Sequence[str]) -> str:
    return f"{len(classes)} class{'es' if len(classes) > 1 else ''}"


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
    from server.ensemble.adoption import adopt_torchvision

    card = adopt_torchvision(architecture, _place(models_dir, config), file)
    click.echo(f"{card.name}: {card.kind}, {len(card.classes)} classes, sha256 {card.sha256}")


def _place(models_dir: Path | None, config: Path | None) -> Path:
    place = load_settings(config, models_dir=models_dir).models_dir
    if place is None:
        raise click.UsageError("give --out FOLDER for the cards, or the setting `models_dir`")
    return place
