"""`sectorwatch`, the server's command line; a subcommand is a module of `server.commands` or its `upkeep`.

What a terminal cannot show is escaped. Output that cannot be written is one line and an exit code, never a traceback.
"""

from __future__ import annotations

import codecs
import importlib
import io
import os
import sys
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version

import click

from server.domain.errors import ConfigurationError, SectorwatchError
from server.domain.secrets_in_text import without_secrets

_EXIT_CONFIG = 78
_ESCAPED = "sectorwatch.escaped"

SUBCOMMANDS = {
    "demo": "Show the whole way of a burst, on footage or a camera.",
    "serve": "Run the server.",
    "tls": "Make a certificate for HTTPS.",
    "tokens": "Make, list and revoke the tokens of cameras and readers.",
    "users": "Add and remove users of the console, and say what they may do.",
    "audit": "Show who changed what, and who signed in.",
    "models": "Fetch, list and verify the models' weights.",
    "events": "Show events, past or as they come.",
    "channels": "Show, try, pause and resume the channels, and send again.",
    "export": "Write events, labels or occupancy as files for other programs.",
    "replay": "Run a site policy over stored observations.",
    "compare": "Show on which events two policies differ.",
    "explain": "Say what was decided in a minute, and why.",
    "verify": "Recompute an event, and check every digest it names.",
    "annotate": "Say which events were true, and which were missed.",
    "tune": "Find the policy that keeps the true events and drops the rest.",
    "nuisances": "Find what is seen weakly again and again, and propose to suppress it.",
    "validate": "Check files before they are used, with the line of each fault.",
    "policy": "Propose a changed site policy, put it in force, take it back; import and export policies.",
    "late": "Show bursts that came too late, fold them in, or take others out.",
    "doctor": "Check that everything a server needs is here.",
    "frames": "Show which pictures are kept, and export those of an event.",
    "erase": "Erase a stretch of a camera for good, on request.",
    "db": "Care for the database.",
}
"""Name of the module, in `server.commands` or its `upkeep`, and what the overview says of it."""

_IN_UPKEEP = {"channels", "tls", "tokens", "users", "audit", "export", "frames", "erase", "late", "db"}


class _Subcommands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(SUBCOMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in SUBCOMMANDS:
            return None
        room = "server.commands.upkeep" if cmd_name in _IN_UPKEEP else "server.commands"
        command = importlib.import_module(f"{room}.{cmd_name}").command
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(SUBCOMMANDS.items()))

    def invoke(self, ctx: click.Context) -> object:
        """Runs the subcommand; an error of ours is one line and an exit code, never a traceback."""
        try:
            return super().invoke(ctx)
        except click.UsageError as error:
            raise click.UsageError(without_secrets(error.format_message()), error.ctx) from None
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
    _prepare_streams()
    try:
        command(prog_name="sectorwatch")
    except OSError as error:
        if error.errno is None:  # of a library, and not of writing
            raise
        _abandon_output()
        with suppress(OSError):
            click.echo(f"sectorwatch: {error.filename or 'cannot write the output'}: {error.strerror}", err=True)
        raise SystemExit(1) from None


class _Terminal(io.TextIOWrapper):
    """A stream whose encoding has a name that click does not know: where click finds ASCII, it writes UTF-8 instead."""

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return f"escaped-{super().encoding}"


def _prepare_streams() -> None:
    """Escape on both streams what their encodings lack. A closed output fails when it is used, and not silently."""
    codecs.register_error(_ESCAPED, _escape)
    if sys.stdout is None:  # type: ignore[unreachable,unused-ignore]
        sys.stdout = open(os.open(os.devnull, os.O_RDONLY), "w", encoding="utf-8")  # noqa: PTH123, SIM115
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if not isinstance(stream, io.TextIOWrapper):
            continue
        by_line = stream.line_buffering
        if codecs.lookup(stream.encoding).name != "ascii":
            stream.reconfigure(errors=_ESCAPED)
        else:
            setattr(sys, name, _Terminal(stream.detach(), "ascii", _ESCAPED, line_buffering=by_line))


def _escape(error: UnicodeError) -> tuple[str, int]:
    """As JSON escapes it, so that a line of JSON stays one: `\\u00e9`."""
    assert isinstance(error, UnicodeEncodeError)
    units = error.object[error.start : error.end].encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[i] << 8 | units[i + 1]:04x}" for i in range(0, len(units), 2)), error.end


def _abandon_output() -> None:
    """Let the rest of the output go nowhere, so that the end of the process does not fail once more."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.close(nowhere)


if __name__ == "__main__":
    main()
