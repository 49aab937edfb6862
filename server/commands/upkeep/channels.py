"""`sectorwatch channels`: how the channels stand, and what a person does with them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import click
import msgspec

from policies.events import Event, instant, microseconds
from server.commands.options import (
    Asked,
    aligned,
    current_store,
    echo_lines,
    local_of,
    store_options,
    window_options,
)
from server.commands.verify import event_record
from server.delivery.care import ChannelCare, Standing
from server.delivery.surroundings import Surroundings
from server.domain.announcements import DeadLetter
from server.domain.people import COMMAND_LINE
from server.domain.times.local_time import LocalTime
from server.settings import ServerSettings
from server.store import Store

NOT_IN_SETTINGS = "not in the settings"
_PAGE = 200
_dead_option = click.option("--dead", is_flag=True, help="Dead letters: those with these numbers, else all.")


@click.group()
def command() -> None:
    """Show the channels on which events leave, try, pause and resume them, and send again what was not delivered.

    Channels are declared in the settings, one table [channels.NAME] each. A change here takes effect within seconds,
    without a restart.
    """


@command.command("list")
@click.option("--dead", "dead", metavar="NAME", help="Show the dead letters of this channel instead, the newest last.")
@click.option("--limit", type=click.IntRange(1, 100_000), default=_PAGE, show_default=True, help="The newest letters.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object for each channel or letter.")
@store_options
def list_(dead: str | None, limit: int, as_json: bool, settings: ServerSettings) -> None:
    """Show how each channel stands: what waits, since when, what was sent last, and why it fails.

    A channel of the database that the settings do not have is shown as "not in the settings": nobody sends on it, and
    where the table comes back, it goes on where it was (`resume --from-now` passes over what has waited).
    """
    store = current_store(settings)
    care, local = _care(settings, store), local_of(settings, store, None)
    if dead is None:
        every = care.standings()
        echo_lines(_as_json(every) if as_json else _table(every, local))
        return
    letters = list(reversed(care.letters(dead, limit=limit)))
    if as_json:
        echo_lines(msgspec.json.encode(_wire(letter)).decode() for letter in letters)
    elif not letters:
        click.echo(f"No dead letters of {dead}.", err=True)
    else:
        echo_lines(_letters(letters, local))
    if len(letters) == limit:
        click.echo(f"These are the newest {limit}: --limit shows more.", err=True)


@command.command()
@click.argument("name")
@store_options
def test(name: str, settings: ServerSettings) -> None:
    """Send a test on the channel NAME, and say what was sent where. It is sent from here, also during a pause."""
    store = current_store(settings)
    click.echo(_care(settings, store).test(name))


@command.command()
@click.argument("name")
@store_options
def pause(name: str, settings: ServerSettings) -> None:
    """Send nothing on the channel NAME until it is resumed, not after a restart either. What comes meanwhile waits."""
    care = _care(settings, current_store(settings))
    care.pause(COMMAND_LINE, name)
    click.echo(f"Channel {name} is paused: `sectorwatch channels resume {name}` ends it.", err=True)


@command.command()
@click.argument("name")
@click.option("--from-now", is_flag=True, help="What has waited is never sent.")
@store_options
def resume(name: str, from_now: bool, settings: ServerSettings) -> None:
    """Send on the channel NAME again. One that fails is tried at once, instead of after its wait."""
    care = _care(settings, current_store(settings))
    before = care.standing(name)
    care.resume(COMMAND_LINE, name, from_now=from_now)
    what = f"passes over {before.backlog} announcements" if from_now else f"has {before.backlog} announcements to send"
    click.echo(f"Channel {name} {what}.", err=True)


@command.command()
@click.argument("name")
@click.argument("numbers", metavar="[NUMBER]...", nargs=-1, type=int)
@_dead_option
@click.option("--event", "ids", multiple=True, metavar="ID", help="This event; repeat it for several.")
@window_options
@store_options
def resend(
    name: str, numbers: Sequence[int], dead: bool, ids: Sequence[str], asked: Asked, settings: ServerSettings
) -> None:
    """Send again on the channel NAME: dead letters (--dead, with NUMBERs or all), events by id (--event), or the events
    confirmed in a stretch (--since, --until, --site, --camera).

    They are sent after what waits, as they are now, with the id that they had. The server does it, within seconds.
    """
    is_stretch = asked != Asked(None, None, None, None)
    if sum((dead, bool(ids), is_stretch)) != 1:
        raise click.UsageError("name what to send: --dead, --event ID, or a stretch with --since or --until")
    if numbers and not dead:
        raise click.UsageError("NUMBERs are those of dead letters: add --dead")
    if is_stretch and asked.since is None:
        raise click.UsageError("a stretch needs --since")
    store = current_store(settings)
    care = _care(settings, store)
    if dead:
        count = care.resend_letters(COMMAND_LINE, name, numbers or None)
        click.echo(
            f"{count} letters of {name} will be sent again." if count else f"No dead letters of {name}.", err=True
        )
        return
    events = [event_record(store, prefix).logged.event for prefix in ids] or _within(store, asked, settings)
    detail = ", ".join(f"{key} {value}" for key, value in (("site", asked.site), ("camera", asked.camera)) if value)
    count = care.resend_events(COMMAND_LINE, name, events, detail)
    passed = len(events) - count
    passed_over = f"; {passed} more are none that this channel sends" if passed else ""
    click.echo(f"{count} events will be sent again on {name}{passed_over}.", err=True)


@command.command()
@click.argument("name")
@click.argument("numbers", metavar="[NUMBER]...", nargs=-1, type=int)
@click.option("--all", "is_all", is_flag=True, help="All dead letters of the channel.")
@store_options
def drop(name: str, numbers: Sequence[int], is_all: bool, settings: ServerSettings) -> None:
    """Delete dead letters of the channel NAME, by NUMBER or --all. The events stay in the log."""
    if is_all == bool(numbers):
        raise click.UsageError("name the letters by their numbers, or give --all")
    count = _care(settings, current_store(settings)).drop(COMMAND_LINE, name, numbers or None)
    click.echo(f"{count} letters of {name} are deleted.", err=True)


@command.command()
@click.argument("name")
@store_options
def forget(name: str, settings: ServerSettings) -> None:
    """Delete the channel NAME for good, with its position and its dead letters. A broker of MQTT deletes all that it
    retains of it, pictures too, and Home Assistant its entities.

    Pause it, forget it, and take its table out of the settings before a server starts again: with its table it is a new
    channel. Without its table, the database alone forgets it.
    """
    sentence = _care(settings, current_store(settings)).forget(COMMAND_LINE, name)
    click.echo(f"Channel {name} is forgotten" + (f"; {sentence}." if sentence else "."), err=True)
    if name in settings.channels:
        click.echo(f"Take [channels.{name}] out of the settings before a server starts again.", err=True)
    else:
        click.echo(
            "Its table is not in the settings: what a broker retains of it, pictures too, stays there.", err=True
        )


def _care(settings: ServerSettings, store: Store) -> ChannelCare:
    def surroundings() -> Surroundings:
        from server.app.surroundings import surroundings_alone  # with it comes the whole server

        return surroundings_alone(settings, store)

    return ChannelCare(store, settings.channels, surroundings)


def _within(store: Store, asked: Asked, settings: ServerSettings) -> list[Event]:
    window = asked.window(local_of(settings, store, asked.site))
    found = store.events(window.since_us, window.until_us, window.site, window.camera, withdrawn=True)
    return [logged.event for logged in found]


def _as_json(standings: Sequence[Standing]) -> Iterator[str]:
    return (msgspec.json.encode(each).decode() for each in standings)


def _table(standings: Sequence[Standing], local: LocalTime) -> Iterator[str]:
    head = ("CHANNEL", "KIND", "STATE", "BACKLOG", "OLDEST", "LAST SENT", "DEAD")
    lines = aligned([head, *(_row(each, local) for each in standings)])
    yield next(lines)
    for each, line in zip(standings, lines, strict=True):
        yield line
        if each.error and each.kind is not None:
            yield f"    -> {each.error}"


def _row(each: Standing, local: LocalTime) -> tuple[str, ...]:
    def dated(at: object) -> str:
        return "-" if at is None else local.dated(microseconds(at))  # type: ignore[arg-type]

    since = each.paused_since if each.state == "paused" else each.failing_since
    state = f"{each.state} since {dated(since)}" if since is not None else each.state
    if each.kind is None:
        state = NOT_IN_SETTINGS if each.state != "paused" else f"{NOT_IN_SETTINGS}, {state}"
    elif each.state == "new":
        state = "new: no server has started with it"
    return (
        each.name,
        each.kind or "-",
        state,
        str(each.backlog),
        dated(each.oldest_undelivered_at),
        dated(each.last_sent_at),
        str(each.dead_letters) + (f" ({each.asked} to send again)" if each.asked else ""),
    )


def _letters(letters: Sequence[DeadLetter], local: LocalTime) -> Iterator[str]:
    rows = [("NUMBER", "SINCE", "WHAT", "EVENT", "WHY")]
    rows += [
        (
            str(each.number),
            local.dated(each.at_us),
            each.what,
            each.event_id or "-",
            "to be sent again" if each.asked_at_us is not None else each.error or "-",
        )
        for each in letters
    ]
    return aligned(rows)


def _wire(letter: DeadLetter) -> dict[str, object]:
    """The fields of a letter as the console's twin has them."""
    return {
        "number": letter.number,
        "channel": letter.channel,
        "what": letter.what,
        "event": letter.event_id,
        "since": instant(letter.at_us),
        "error": letter.error,
        "asked_at": None if letter.asked_at_us is None else instant(letter.asked_at_us),
    }
