"""`sectorwatch models lock|approve|check`: what is served, written down and tried."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
import msgspec

from server.catalogue import check_lock, write_lock
from server.settings import ServerSettings, load_settings

if TYPE_CHECKING:
    from server.ensemble import Ensemble

F = TypeVar("F", bound=Callable[..., Any])

_PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")


def folder_options(command: F) -> F:
    """Adds --config and --models-dir; hand them to `load_settings`."""
    for option in (
        click.option(
            "--models-dir",
            "folder",
            type=click.Path(exists=True, file_okay=False, path_type=Path),
            help="A folder of your own models: one folder each, with a card.toml.",
        ),
        click.option("--config", type=click.Path(path_type=Path), help="Settings file (TOML) of the server."),
    ):
        command = option(command)
    return command


def ensemble_options(command: F) -> F:
    """Adds the models' names (default: those of the settings), --config and --models-dir."""
    return click.argument("names", nargs=-1, metavar="[MODEL]...")(folder_options(command))


@click.command()
@ensemble_options
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="File to write [the settings' `lock`].")
def lock(names: tuple[str, ...], folder: Path | None, config: Path | None, out: Path | None) -> None:
    """Write down all that decides the answers of the ensemble, for the setting `lock`.

    A server with that setting refuses to start when weights, class lists, input forms, code or libraries differ.
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
    help="Folder of small pictures, in the order of their names [default: drawn ones].",
)
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Folder to write [the setting `golden`].")
def approve(
    names: tuple[str, ...], folder: Path | None, config: Path | None, pictures: Path | None, out: Path | None
) -> None:
    """Keep what the models say now of some pictures as what they have to say from now on.

    They say it in float32, whatever the setting `execution`: that is what it is held against.
    """
    from server.ensemble import approve as approved
    from server.ensemble import drawn

    settings = load_settings(config, models_dir=folder)
    place = out or settings.golden
    if place is None:
        raise click.UsageError("say where: --out FOLDER, or the setting `golden`")
    shown = _read(pictures) if pictures else drawn.pictures()
    golden = approved(_loaded(msgspec.structs.replace(settings, execution="fp32"), names), shown, place)
    for picture in golden.pictures:
        said = (
            f"{model} {each.label} {each.score:.2f} (+{each.margin:.2f})" for model, each in picture.expected.items()
        )
        click.echo(f"{picture.file}: {', '.join(said)}")
    click.echo(f"{place}: approved for {golden.ensemble}")
    for model in golden.unsure:
        what = "is sure of no picture, and hardly any change of what it says would be noticed"
        click.echo(f"warning: {model} {what}: show it some of what it knows, with --pictures FOLDER", err=True)


@click.command()
@ensemble_options
def check(names: tuple[str, ...], folder: Path | None, config: Path | None) -> None:
    """Load the ensemble and compare it with its lock and its golden set. Exit code 1 unless both hold."""
    from server.ensemble import read_golden, shipped_golden

    settings = load_settings(config, models_dir=folder)
    ensemble = _loaded(settings, names)
    click.echo(f"ensemble {ensemble.ensemble_info.ensemble}")
    if settings.lock is not None:
        check_lock(ensemble.lock, settings.lock)
        click.echo(f"lock {settings.lock}: as locked")
    golden = read_golden(settings.golden or shipped_golden())
    wrong = golden.faults(ensemble, execution=settings.execution)
    for each in wrong:
        click.echo(f"golden set: {each}", err=True)
    beyond = golden.uncovered(ensemble)
    if beyond:
        click.echo(f"golden set: says nothing of {', '.join(beyond)}; `sectorwatch models approve` makes one that does")
    if wrong:
        raise SystemExit(1)
    if len(beyond) < len(ensemble.ensemble_info.models):
        click.echo("golden set: answers as approved")


def _loaded(settings: ServerSettings, names: Sequence[str]) -> Ensemble:
    from server.ensemble import load_ensemble

    folders = [settings.models_dir] if settings.models_dir else []
    return load_ensemble(
        names or settings.models, folders=folders, max_pixels=settings.max_pixels, execution=settings.execution
    )


def _read(folder: Path) -> dict[str, bytes]:
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in _PICTURES)
    if not files:
        raise click.ClickException(f"{folder} has no pictures ({', '.join(_PICTURES)})")
    return {path.name: path.read_bytes() for path in files}
