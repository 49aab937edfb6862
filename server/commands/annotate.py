"""`sectorwatch annotate`: record which events were true, and which facts no event reported."""

from __future__ import annotations

import getpass
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, cast, get_args

import click
import msgspec

from policies.events import Event, Kind, instant
from server.analysis.annotations import (
    DEFAULT_WITHIN_S,
    Answer,
    MissedFact,
    annotation_of,
    annotation_of_event,
    missed_annotation,
    place_of,
)
from server.commands.cameras import check_camera_is_stored, find_camera
from server.commands.options import Instant, current_store, echo_lines, local_of, store_options, stretch
from server.delivery.visit_log import Stretch
from server.delivery.visits import events_by_time, visit_of
from server.domain.errors import Unknown
from server.domain.people import COMMAND_LINE
from server.domain.records import Annotation
from server.domain.times.clock import now_us
from server.domain.times.local_time import FORMS, read_when
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
    sectorwatch annotate 5f3a91c2 false --visit
    sectorwatch annotate 18:00..18:20 false --sector table
    sectorwatch annotate --missed --kind entered --sector road --at 07:12:05
    sectorwatch annotate list

    EVENT is the beginning of an event's id. A range FROM..TO stands for the events of one camera from FROM to before
    TO, in the site's local time; --sector, --kind and --label narrow it.

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
@click.argument("words", nargs=-1, metavar="EVENT...|FROM..TO true|false|unsure")
@click.option("--visit", "is_visit", is_flag=True, help="Also the other events of the visit on the event's line.")
@click.option("--missed", "is_missed", is_flag=True, help="Something true that no event reported.")
@click.option(
    "--kind", type=click.Choice(get_args(Kind)), help="Kind of event that was missed, or of those in a range."
)
@click.option("--sector", help="Where, for a kind that has a sector; or only this sector of a range.")
@click.option("--from", "from_sector", help="Sector that `moved` came from.")
@click.option("--to", "to_sector", help="Sector that `moved` went to.")
@click.option("--line", help="The line of `crossed`.")
@click.option("--at", type=Instant(), help=f"When it happened: {FORMS}.")
@click.option(
    "--within",
    "within_s",
    type=click.FloatRange(0, 3600),
    help=f"How far off --at may be (s; default: {DEFAULT_WITHIN_S:g}).",
)
@click.option("--label", help="The target (default: person; of a range: any).")
@click.option("--camera", help="The camera; may be left out if there is only one.")
@click.option("--site", help="Its site.")
@click.option("--note", help="A remark.")
@click.option("--author", help="Who annotates (default: the user of this shell).")
@store_options
def of(
    words: tuple[str, ...],
    is_visit: bool,
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
    _check_options(words, given, is_missed, is_visit)
    store = current_store(settings)
    author = author or _user()
    if is_missed:
        made = [missed_annotation(store, _missed_fact(store, settings, **given), author, note)]
    else:
        *events, truth = words
        meant = cast(Answer, truth)
        if ".." in events[0]:
            made = [annotation_of_event(e, meant, author, note) for e in _in_range(store, settings, events[0], **given)]
        else:
            made = [each for prefix in events for each in _of_id(store, prefix, meant, author, note, is_visit)]
    made = list({annotation.subject: annotation for annotation in made}.values())
    before = {each.subject: each for site in {m.site for m in made} for each in store.annotations.current(site)}
    added = store.annotations.add(made, by=COMMAND_LINE)
    echo_lines(_lines(store, settings, added, before))


_OF_A_RANGE = {"kind", "sector", "label", "camera", "site"}


def _check_options(words: tuple[str, ...], given: Collection[str], is_missed: bool, is_visit: bool) -> None:
    """Raises UsageError for options that do not go with what is annotated."""
    if is_missed:
        if is_visit:
            raise click.UsageError("--visit goes with an event")
        return
    is_range = any(".." in word for word in words)
    if given and not is_range:
        raise click.UsageError("an event has a time and place of its own: options for them go with --missed or a range")
    if is_range and (len(words) != 2 or set(given) - _OF_A_RANGE or is_visit):
        raise click.UsageError(
            "a range goes alone: FROM..TO true|false|unsure, with --sector, --kind, --label, --camera"
        )
    if words[-1] not in get_args(Answer) or len(words) < 2:
        raise click.UsageError("give the events or a range, and then true, false or unsure")


def _of_id(
    store: Store, prefix: str, truth: Answer, author: str, note: str | None, is_visit: bool
) -> Iterator[Annotation]:
    """The annotation of the fact with an id and, on request, of the events of its visit."""
    made = annotation_of(store, prefix, truth, author, note)
    yield made
    if is_visit and made.is_told:
        [record] = store.past.events_like(made.subject)
        yield from (annotation_of_event(e.event, truth, author, note) for e in visit_of(store, record.logged))


def _in_range(
    store: Store,
    settings: ServerSettings,
    words: str,
    site: str | None = None,
    camera: str | None = None,
    kind: str | None = None,
    sector: str | None = None,
    label: str | None = None,
) -> list[Event]:
    """The events of one camera in a range of time. Raises Unknown if there are none, or for several cameras."""
    head = find_camera(store, site, camera)
    local = local_of(settings, store, head.site)
    try:
        first, last = (read_when(word) for word in words.split(".."))
    except ValueError as error:
        raise click.UsageError(f"{words} is no range FROM..TO: {error}") from None
    since_us, until_us = stretch(local, first, last)
    window = Stretch(since_us, until_us, head.site, head.camera)
    there = [logged.event for logged in events_by_time(store, window, kind, withdrawn=False)]
    found = [
        event
        for event in there
        if label in (None, event.label) and sector in (None, event.sector, event.from_sector, event.to_sector)
    ]
    if not found:
        assert since_us is not None
        assert until_us is not None
        between = f"between {local.dated(since_us)} and {local.dated(until_us)}"
        places = sorted({f"{event.label} at {place_of(event)}" for event in there})
        others = f"; there are: {', '.join(places)}" if places else ""
        raise Unknown(f"{head.site}/{head.camera} has no such event {between}{others}")
    return found


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
    echo_lines(_lines(store, settings, store.annotations.current(site)))


@command.command("export")
@click.option("--site", help="Only of this site.")
@store_options
def export(site: str | None, settings: ServerSettings) -> None:
    """Write all annotations as JSON lines, in the order in which they were made."""
    store = current_store(settings)
    check_camera_is_stored(store, site)
    echo_lines(msgspec.json.encode(annotation.as_wire()).decode() for annotation in store.annotations.all(site))


def _lines(
    store: Store, settings: ServerSettings, made: Sequence[Annotation], before: Mapping[str, Annotation] | None = None
) -> Iterator[str]:
    """Annotations as lines for a person, each with the id by which to annotate the event again, and what was said."""
    local = {site: local_of(settings, store, site) for site in {each.site for each in made}}
    short = store.past.short_ids([each.subject for each in made])
    for each in made:
        place = f"{each.from_sector}>{each.to_sector}" if each.kind == "moved" else each.sector or each.line or "-"
        note = f" note={quoted(each.note)}" if each.note else ""
        earlier = (before or {}).get(each.subject)
        was = f" was={earlier.truth}" if earlier and earlier.truth != each.truth else ""
        fact = f"{local[each.site].dated(each.at_us)} {each.kind} {each.site}/{each.camera} {each.label} {place}"
        subject = short.get(each.subject, each.subject)
        yield f"{each.truth:<6} {fact} author={quoted(each.author)}{note}{was} event={subject}"


def _missed_fact(
    store: Store, settings: ServerSettings, site: str | None = None, camera: str | None = None, **facts: Any
) -> MissedFact:
    if not {"kind", "at"} <= facts.keys():
        raise click.UsageError("--missed needs --kind and --at")
    head = find_camera(store, site, camera)
    at_us = facts.pop("at").us(local_of(settings, store, head.site), now_us())
    return MissedFact(site=head.site, camera=head.camera, at=instant(at_us), **facts)
