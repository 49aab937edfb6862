"""`sectorwatch annotate`: record which events were true, and which facts no event reported."""

from __future__ import annotations

import getpass
from typing import Any, get_args

import click
import msgspec

from policies.events import Kind, instant
from server.analysis.annotations import DEFAULT_WITHIN_S, Answer, MissedFact, annotation_of, missed_annotation
from server.commands.cameras import check_camera_is_stored, find_camera
from server.commands.options import Instant, current_store, echo_lines, store_options, utc
from server.domain.records import Annotation
from server.monitoring.logs import quoted
from server.settings import ServerSettings
from server.store import Store


class _Annotate(click.Group):
    """Runs the hidden subcommand `of` if the first word is not a subcommand: `annotate ID true`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in ctx.help_option_names:
            args = ["of", *args]
        return super().parse_args(ctx, args)


@click.group(cls=_Annotate)
def command() -> None:
    """Record which events were true: `annotate EVENT... true|false|unsure`, or what was missed: `annotate --missed`.

    \b
    sectorwatch annotate 5f3a91c2 true --note "the postman"
    sectorwatch annotate 5f3a91c2 77b0e4d1 false
    sectorwatch annotate --missed --kind entered --sector road --at 2026-11-22T07:12:05Z
    sectorwatch annotate list

    An annotation is never changed or removed; the newest annotation of an event counts. `annotate --missed --help`
    shows all options.
    """


class _Unnamed(click.Context):
    """Usage and errors show the command as typed, without the name of the hidden subcommand."""

    @property
    def command_path(self) -> str:
        assert self.parent is not None
        return self.parent.command_path


class _Hidden(click.Command):
    context_class = _Unnamed


@command.command("of", cls=_Hidden, hidden=True)
@click.argument("words", nargs=-1, metavar="EVENT... true|false|unsure")
@click.option("--missed", "is_missed", is_flag=True, help="Something true that no event reported.")
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
@click.option("--camera", help="The camera; may be left out if there is only one.")
@click.option("--site", help="Its site.")
@click.option("--note", help="A remark.")
@click.option("--author", help="Who annotates (default: the user of this shell).")
@store_options
def of(
    words: tuple[str, ...],
    is_missed: bool,
    note: str | None,
    author: str | None,
    settings: ServerSettings,
    **fact: Any,
) -> None:
    """Add annotations."""
    if is_missed == bool(words):
        raise click.UsageError("give either EVENT... true|false|unsure, or --missed with --kind and --at")
    given = {name: value for name, value in fact.items() if value is not None}
    if given and not is_missed:
        raise click.UsageError("an event has a time and place of its own: options for them go with --missed")
    store = current_store(settings)
    author = author or _user()
    if is_missed:
        made = [missed_annotation(store, _missed_fact(store, **given), author, note)]
    else:
        *events, truth = words
        if truth not in get_args(Answer) or not events:
            raise click.UsageError("give the events, and then true, false or unsure")
        every = [annotation_of(store, prefix, truth, author, note) for prefix in events]  # type: ignore[arg-type]
        made = list({annotation.subject: annotation for annotation in every}.values())
    echo_lines(map(line_of, store.annotations.add(made)))


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError) as error:  # a user id without an account, as in a container
        raise click.UsageError("this shell's user has no name: give one with --author") from error


@command.command("list")
@click.option("--site", help="Only of this site.")
@store_options
def list_(site: str | None, settings: ServerSettings) -> None:
    """Show the newest annotation of each event, in order of time."""
    store = current_store(settings)
    check_camera_is_stored(store, site)
    echo_lines(map(line_of, store.annotations.current(site)))


@command.command("export")
@click.option("--site", help="Only of this site.")
@store_options
def export(site: str | None, settings: ServerSettings) -> None:
    """Write all annotations as JSON lines, in the order in which they were made."""
    store = current_store(settings)
    check_camera_is_stored(store, site)
    echo_lines(msgspec.json.encode(annotation.as_wire()).decode() for annotation in store.annotations.all(site))


def line_of(made: Annotation) -> str:
    """An annotation as a line for a person, ending with the id by which to annotate the event again."""
    place = f"{made.from_sector}>{made.to_sector}" if made.kind == "moved" else made.sector or made.line or "-"
    note = f" note={quoted(made.note)}" if made.note else ""
    fact = f"{utc(made.at_us)} {made.kind} {made.site}/{made.camera} {made.label} {place}"
    return f"{made.truth:<6} {fact} author={quoted(made.author)}{note} event={made.subject}"


def _missed_fact(store: Store, site: str | None = None, camera: str | None = None, **facts: Any) -> MissedFact:
    if not {"kind", "at_us"} <= facts.keys():
        raise click.UsageError("--missed needs --kind and --at")
    head = find_camera(store, site, camera)
    return MissedFact(site=head.site, camera=head.camera, at=instant(facts.pop("at_us")), **facts)
