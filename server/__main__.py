"""`sectorwatch`, the server's command line; a subcommand is a module of `server.commands`."""

from __future__ import annotations

import importlib
from importlib.metadata import PackageNotFoundError, version

import click

from server.domain.errors import ConfigurationError, SectorwatchError

_EXIT_CONFIG = 78

SUBCOMMANDS = {
    "demo": "Show the whole way of a burst, on footage or a camera.",
    "serve": "Run the server.",
    "tokens": "Make, list and revoke the tokens of cameras and readers.",
    "models": "Fetch, list and verify the models' weights.",
    "events": "Show events, past or as they come.",
    "replay": "Run a site policy over stored observations.",
    "compare": "Show on which events two policies differ.",
    "explain": "Say what was decided in a minute, and why.",
    "verify": "Recompute an event, and check every digest it names.",
    "annotate": "Say which events were true, and which were missed.",
    "tune": "Find the policy that keeps the true events and drops the rest.",
    "nuisances": "Find what is seen weakly again and again, and propose to suppress it.",
    "doctor": "Check that everything a server needs is here.",
    "db": "Care for the database.",
}
"""Module in `server.commands`, and what the overview says of it."""


class _Subcommands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(SUBCOMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in SUBCOMMANDS:
            return None
        command = importlib.import_module(f"server.commands.{cmd_name}").command
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(SUBCOMMANDS.items()))

    def invoke(self, ctx: click.Context) -> object:
        """Runs the subcommand; an error of ours is one line and an exit code, never a traceback."""
        try:
            return super().invoke(ctx)
        except SectorwatchError as error:
            click.echo(f"sectorwatch: {error.detail}", err=True)
            raise SystemExit(_EXIT_CONFIG if isinstance(error, ConfigurationError) else 1) from None


def _version() -> str:
    try:
        return version("sectorwatch")
    except PackageNotFoundError:
        return "from a checkout"


@click.group(cls=_Subcommands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(_version(), prog_name="sectorwatch")
def command() -> None:
    """Presence and movement events from bursts of stills."""


def main() -> None:
    command(prog_name="sectorwatch")


if __name__ == "__main__":
    main()
