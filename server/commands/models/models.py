"""`sectorwatch models`: list models, fetch and verify their weights; the group of all subcommands of `models`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import click

from server.catalogue import ModelCard, cache_dir, can_pull, locate, pull, read_cards, remedy, verify
from server.commands.models import adopt, proofs, swap
from server.commands.models.proofs import ensemble_options, folder_options
from server.commands.models.verbose import ModelsGroup, echo_fault
from server.commands.options import aligned, cards_of, echo_lines
from server.domain.errors import SectorwatchError
from server.settings import load_settings

_every = click.option("--all", "every", is_flag=True, help="All models.")


@click.group(cls=ModelsGroup)
def command() -> None:
    """The models, and their weights on this machine."""


for _subcommand in (
    *(proofs.lock, proofs.approve, proofs.check),
    *(swap.swap, swap.rollback, swap.status, swap.history),
    *(adopt.adopt, adopt.torchvision, adopt.timm, adopt.hugging_face),
):
    command.add_command(_subcommand)


@command.command("list")
@folder_options
def list_models(folder: Path | None, config: Path | None) -> None:
    """List every model: kind, classes, licence, and whether its weights are here.

    Exit code 1 if a card cannot be used; the others are listed all the same.
    """
    chosen, are_all_usable = _chosen((), folder, config, every=True)
    rows = [(card.name, card.kind, str(len(card.classes)), _presence(card), card.licence) for card in chosen]
    echo_lines(aligned([("MODEL", "KIND", "CLASSES", "WEIGHTS", "LICENCE"), *rows]))
    if not are_all_usable:
        sys.exit(1)


@command.command("pull")
@ensemble_options
@_every
def pull_models(names: tuple[str, ...], folder: Path | None, config: Path | None, *, every: bool) -> None:
    """Get the weights of the named models (default: those of the ensemble), and check each against its card."""
    chosen, are_all_usable = _chosen(names, folder, config, every=every)
    failed = [card for card in chosen if not _pulled(card)]
    if failed or not are_all_usable:
        sys.exit(1)


@command.command("verify")
@ensemble_options
@_every
def verify_models(names: tuple[str, ...], folder: Path | None, config: Path | None, *, every: bool) -> None:
    """Hash the weights of the named models (default: those of the ensemble). Exit code 1 unless all are right."""
    chosen, are_all_usable = _chosen(names, folder, config, every=every)
    failed = [card for card in chosen if not _verified(card)]
    if failed or not are_all_usable:
        sys.exit(1)


def _chosen(
    names: Sequence[str], folder: Path | None, config: Path | None, *, every: bool
) -> tuple[list[ModelCard], bool]:
    """The cards of the named models, of all models, or of the models in the settings, and whether all can be used.

    Prints what is wrong with the others.
    """
    try:
        settings = load_settings(config, models_dir=folder)
        if not every or names:
            return cards_of(settings, names or settings.models), True
        by_name, faults = read_cards([settings.models_dir] if settings.models_dir else [])
        for fault in faults:
            click.echo(fault.detail, err=True)
        return list(by_name.values()), not faults
    except SectorwatchError as error:
        raise click.ClickException(error.detail) from error


def _presence(card: ModelCard) -> str:
    if card.sha256 is None:
        return "none needed"
    if locate(card, cache_dir()):
        return "here"
    return "not pulled" if can_pull(card) else "missing"


def _pulled(card: ModelCard) -> bool:
    is_terminal = sys.stdout.isatty()
    total_bytes = card.size_bytes or 0
    shown_bytes = 0
    with click.progressbar(length=total_bytes, label=card.name, file=sys.stderr, hidden=not is_terminal) as bar:

        def progress(done_bytes: int, total_bytes: int) -> None:
            nonlocal shown_bytes
            if total_bytes != bar.length:  # of the archive, and then of the part that is kept
                bar.length, bar.pos, shown_bytes = total_bytes, 0, 0
            bar.update(done_bytes - shown_bytes)
            shown_bytes = done_bytes

        try:
            path = pull(card, cache_dir(), progress, is_terminal=is_terminal)
        except SectorwatchError as error:
            echo_fault(error, f"{card.name}: ")
            return False
    click.echo(f"{card.name}: " + (f"{path} (sha256 {card.sha256}, as its card says)" if path else "no weights needed"))
    return True


def _verified(card: ModelCard) -> bool:
    if card.sha256 is None:
        click.echo(f"{card.name}: no weights needed")
        return True
    path = locate(card, cache_dir())
    if path is None:
        click.echo(f"{card.name}: its weights are not here; {remedy(card)}", err=True)
        return False
    try:
        verify(card, path)
    except SectorwatchError as error:
        echo_fault(error)
        return False
    click.echo(f"{card.name}: {path} is right (sha256 {card.sha256})")
    return True
