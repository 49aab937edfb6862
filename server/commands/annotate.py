"""`sectorwatch annotate`: a person's word on which events were true, and on what no event told."""

from __future__ import annotations

import getpass
from pathlib import Path
from typing import Any, get_args

import click
import msgspec

from policies.events import Kind, instant
from server.analysis.annotations import DEFAULT_WITHIN_S, MissedFact, Said, missed, said_of
from server.commands.folding import check_camera_is_stored
from server.commands.options import Instant, opened_store, store_options
from server.domain.errors import Unknown
from server.domain.records import Annotation
from server.monitoring.logs import quoted
from server.store import Store


class _Annotate(click.Group):
    """`annotate ID true` without a verb in between: what is no subcommand is for the hidden one."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in ctx.help_option_names:
            args = ["of", *args]
        return super().parse_args(ctx, args)


@click.group(cls=_Annotate)
def command() -> None:
    """Say which events were true: `annotate EVENT... true|false|unsure`, or what no event told: `annotate --missed`.

    \b
    sectorwatch annotate 5f3a91c2 true --note "the postman"
    sectorwatch annotate 5f3a91c2 77b0e4d1 false
    sectorwatch annotate --missed --kind entered --sector road --at 2026-11-22T07:12:05Z
    sectorwatch annotate list

    An annotation is never changed or removed; a later one of the same event counts instead. `annotate --missed --help`
    shows all that can be said.
    """


class _Unnamed(click.Context):
    """Of the hidden subcommand: usage and errors show what was typed, and nobody typed its name."""

    @property
    def command_path(self) -> str:
        assert self.parent is not None
        return self.parent.command_path


class _Said(click.Command):
    context_class = _Unnamed


@command.command("of", cls=_Said, hidden=True)
@click.argument("words", nargs=-1, metavar="EVENT... true|false|unsure")
@click.option("--missed", "is_missed", is_flag=True, help="Something true that no event told.")
@click.option("--kind", type=click.Choice(get_args(Kind)), help="Kind of event that was missed.")
@click.option("--sector", help="Where, for a kind that has a sector.")
@click.option("--from", "from_sector", help="Sector that `moved` came from.")
@click.option("--to", "to_sector", help="Sector that `moved` went to.")
@click.option("--line", help="The line of `crossed`.")
@click.option("--at", "at_us", type=Instant(), help="When it happened: 10m (ago), or ISO 8601.")
@click.option(
    "--within",
    "within_s",
    type=click.FloatRange(0, 3600),
    help=f"How far off --at may be (s; default: {DEFAULT_WITHIN_S:g}).",
)
@click.option("--label", help="The target (default: person).")
@click.option("--camera", help="The camera; may be left out where there is one.")
@click.option("--site", help="Its site.")
@click.option("--note", help="In your words.")
@click.option("--author", help="Who says so (default: the user of this shell).")
@store_options
def of(
    words: tuple[str, ...],
    is_missed: bool,
    note: str | None,
    author: str | None,
    config: Path | None,
    database: str | None,
    data_dir: Path | None,
    **seen: Any,
) -> None:
    """Add annotations."""
    if is_missed == bool(words):
        raise click.UsageError("either EVENT... true|false|unsure, or --missed with --kind and --at")
    given = {name: value for name, value in seen.items() if value is not None}
    if given and not is_missed:
        raise click.UsageError("an event has its own time and place: the options that say them go with --missed")
    store = opened_store(config, database, data_dir)
    author = author or _user()
    if is_missed:
        made = [missed(store, _missed_fact(store, **given), author, note)]
    else:
        *events, truth = words
        if truth not in get_args(Said) or not events:
            raise click.UsageError("say which events, and then true, false or unsure")
        said = [said_of(store, prefix, truth, author, note) for prefix in events]  # type: ignore[arg-type]
        made = list({one.subject: one for one in said}.values())
    for one in store.annotations.add(made):
        click.echo(line_of(one))


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError) as error:  # a number that no account has, as in a container
        raise click.UsageError("this shell's user has no name: say who says so with --author") from error


@command.command("list")
@click.option("--site", help="Only of this site.")
@store_options
def list_(site: str | None, config: Path | None, database: str | None, data_dir: Path | None) -> None:
    """Show what counts now: the newest annotation of each event, in order of time."""
    store = opened_store(config, database, data_dir)
    check_camera_is_stored(store, site)
    for one in store.annotations.current(site):
        click.echo(line_of(one))


@command.command("export")
@click.option("--site", help="Only of this site.")
@store_options
def export(site: str | None, config: Path | None, database: str | None, data_dir: Path | None) -> None:
    """Write every annotation ever made, as JSON lines, in the order they were made."""
    store = opened_store(config, database, data_dir)
    check_camera_is_stored(store, site)
    for one in store.annotations.all(site):
        click.echo(msgspec.json.encode(one.as_wire()).decode())


def line_of(said: Annotation) -> str:
    """An annotation as one readable line, ending with the id to override it by."""
    place = f"{said.from_sector}>{said.to_sector}" if said.kind == "moved" else said.sector or said.line or "-"
    at = instant(said.at_us).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    note = f" note={quoted(said.note)}" if said.note else ""
    fact = f"{at} {said.kind} {said.site}/{said.camera} {said.label} {place}"
    return f"{said.truth:<6} {fact} author={quoted(said.author)}{note} event={said.subject}"


def _missed_fact(store: Store, site: str | None = None, camera: str | None = None, **facts: Any) -> MissedFact:
    if not {"kind", "at_us"} <= facts.keys():
        raise click.UsageError("--missed needs --kind and --at")
    cameras = [c for c in store.cameras() if site in (None, c.site) and camera in (None, c.camera)]
    if len(cameras) != 1:
        known = ", ".join(f"{c.site}/{c.camera}" for c in store.cameras()) or "none"
        raise Unknown(f"say which camera, with --site and --camera; there are: {known}")
    at = instant(facts.pop("at_us"))
    return MissedFact(site=cameras[0].site, camera=cameras[0].camera, at=at, **facts)
