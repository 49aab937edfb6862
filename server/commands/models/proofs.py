"""`sectorwatch models lock|approve|check`: lock the ensemble, and check its answers."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
import msgspec

from server.catalogue import check_lock, lowered, write_lock
from server.commands.options import cards_of, config_option
from server.domain.precision import check_execution
from server.serving.loading import check_answering
from server.serving.machine import this_machine
from server.settings import ServerSettings, load_settings

if TYPE_CHECKING:
    from server.ensemble import Ensemble

F = TypeVar("F", bound=Callable[..., Any])

_PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")


def folder_options(command: F) -> F:
    """Adds --config and --models-dir; hand them to `load_settings`."""
    folder = click.Path(exists=True, file_okay=False, path_type=Path)
    what = "Folder of your own models: a folder for each model, with a card.toml."
    return config_option(click.option("--models-dir", "folder", type=folder, help=what)(command))


def ensemble_options(command: F) -> F:
    """Adds the models' names (default: those of the settings), --config and --models-dir."""
    return click.argument("names", nargs=-1, metavar="[MODEL]...")(folder_options(command))


@click.command()
@ensemble_options
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="File to write [the settings' `lock`].")
def lock(names: tuple[str, ...], folder: Path | None, config: Path | None, out: Path | None) -> None:
    """Write everything that decides the answers of the ensemble into a file, for the setting `lock`.

    A server with that setting refuses to start if weights, class lists, input forms, code or libraries differ.
    """
    settings = load_settings(config, models_dir=folder)
    place = out or settings.lock or Path("ensemble.lock")
    ensemble = _loaded(settings, names)
    write_lock(ensemble.lock, place)
    named = ", ".join(model_info.model for model_info in ensemble.ensemble_info.models)
    click.echo(f"{place}: {ensemble.ensemble_info.ensemble} ({named})")


@click.command()
@ensemble_options
@click.option(
    "--pictures",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder of small pictures, in the order of their names [default: those of the shipped set].",
)
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Folder to write [the setting `golden`].")
def approve(
    names: tuple[str, ...], folder: Path | None, config: Path | None, pictures: Path | None, out: Path | None
) -> None:
    """Store the answers of the models to some pictures as the golden set, with which later answers are compared.

    The answers are computed in float32, whatever the setting `execution`.
    """
    from server.ensemble import approve as approved
    from server.ensemble import read_golden, shipped_golden

    settings = load_settings(config, models_dir=folder)
    place = out or settings.golden
    if place is None:
        raise click.UsageError("give --out FOLDER, or the setting `golden`")
    shown = _read(pictures) if pictures else read_golden(shipped_golden()).named_pictures
    golden = approved(_loaded(msgspec.structs.replace(settings, execution="fp32"), names), shown, place)
    for picture in golden.pictures:
        answers = (
            f"{model} {each.label} {each.score:.2f} (+{each.margin:.2f})" for model, each in picture.expected.items()
        )
        click.echo(f"{picture.file}: {', '.join(answers)}")
    click.echo(f"{place}: approved for {golden.ensemble}")
    for model in golden.unsure:
        what = "is sure of no picture, so most changes of its answers go unnoticed"
        click.echo(f"warning: {model} {what}: give pictures that it knows with --pictures FOLDER", err=True)


@click.command()
@ensemble_options
def check(names: tuple[str, ...], folder: Path | None, config: Path | None) -> None:
    """Load the ensemble and compare it with its lock and its golden set. Exit code 1 unless both hold.

    A model that the set does not judge has to answer about one of its pictures at least.
    """
    from server.ensemble import read_golden, shipped_golden

    settings = load_settings(config, models_dir=folder)
    golden = read_golden(settings.golden or shipped_golden())
    ensemble = _loaded(settings, names, golden.set.models)
    click.echo(f"ensemble {ensemble.ensemble_info.ensemble}")
    if settings.lock is not None:
        check_lock(ensemble.lock, settings.lock)
        click.echo(f"lock {settings.lock}: as locked")
    wrong = golden.faults(ensemble, execution=settings.execution)
    for each in wrong:
        click.echo(f"golden set: {each}", err=True)
    for model_info in ensemble.ensemble_info.models if wrong else ():
        if why := ensemble.last_fault(model_info.model):
            click.echo(f"{model_info.model} failed: {why}", err=True)
    beyond = golden.uncovered(ensemble)
    check_answering(ensemble, golden.pictures, beyond)
    if beyond:
        click.echo(
            f"golden set: does not cover {', '.join(beyond)}; `sectorwatch models approve` makes a set that does"
        )
    if wrong:
        raise SystemExit(1)
    if len(beyond) < len(ensemble.ensemble_info.models):
        click.echo("golden set: answers as approved")


def _loaded(settings: ServerSettings, names: Sequence[str], judged: Collection[str] | None = None) -> Ensemble:
    """The named models, or those of the settings. Raises ConfigurationError where the server would refuse them."""
    from server.ensemble import load_ensemble

    cards = cards_of(settings, names or settings.models)
    check_execution(settings.execution, this_machine().vectors, lowered(cards), judged)
    folders = [settings.models_dir] if settings.models_dir else []
    return load_ensemble(
        names or settings.models, folders=folders, max_pixels=settings.max_pixels, execution=settings.execution
    )


def _read(folder: Path) -> dict[str, bytes]:
    try:
        files = sorted(
            path
            for path in folder.iterdir()
            if path.suffix.lower() in _PICTURES and path.is_file() and not path.name.startswith(".")
        )
        if not files:
            raise click.ClickException(f"{folder} has no pictures ({', '.join(_PICTURES)})")
        return {path.name: path.read_bytes() for path in files}
    except OSError as error:
        raise click.ClickException(f"{error.filename} cannot be read: {error.strerror}") from error
