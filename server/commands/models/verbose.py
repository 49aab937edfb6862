"""`--verbose` of every `sectorwatch models` subcommand: an error is one line, and the library's error comes after."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from typing import Any

import click

from server.domain.errors import SectorwatchError

_KEY = "server.commands.models.verbose"


class ModelsGroup(click.Group):
    """A group whose subcommands all take --verbose."""

    def add_command(self, cmd: click.Command, name: str | None = None) -> None:
        """Also gives the subcommand the option, and shows the cause of the error with which it ends."""
        cmd.params.append(
            click.Option(
                ["--verbose"],
                is_flag=True,
                expose_value=False,
                callback=_remember,
                help="After an error, show what the library says.",
            )
        )
        if cmd.callback is not None:
            cmd.callback = _explained(cmd.callback)
        super().add_command(cmd, name)


def echo_fault(error: SectorwatchError, before: str = "") -> None:
    """Print an error as one line, and with --verbose its cause."""
    click.echo(f"{before}{error.detail}{_hint(error)}", err=True)
    echo_cause(error)


def echo_cause(error: SectorwatchError) -> None:
    """Print the library's error behind ours, if --verbose asks for it."""
    cause = error.__cause__
    if cause is not None and click.get_current_context().meta.get(_KEY):
        click.echo("".join(traceback.format_exception(cause)).rstrip(), err=True)


def _hint(error: SectorwatchError) -> str:
    is_cut = error.detail.endswith(" ...") or "\n" in str(error.__cause__ or "").strip()
    return " (--verbose shows all of it)" if is_cut and not click.get_current_context().meta.get(_KEY) else ""


def _remember(context: click.Context, _parameter: click.Parameter, value: bool) -> None:
    context.meta[_KEY] = value


def _explained(callback: Callable[..., Any]) -> Callable[..., Any]:
    def with_cause(*arguments: Any, **options: Any) -> Any:
        try:
            return callback(*arguments, **options)
        except SectorwatchError as error:
            echo_cause(error)
            raise

    return with_cause
