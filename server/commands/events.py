"""`sectorwatch events`: the event log, past or as it grows."""

from __future__ import annotations

import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import TypeVar, get_args

import click

from policies.events import Event, Kind, microseconds
from policies.fold import decode_state
from policies.occupancy import Occupancy, current_occupancy
from server.commands.cameras import check_camera_is_stored, gone_within
from server.commands.options import Asked, Window, current_store, local_of, store_options, window_options
from server.delivery.event_text import EventText, Part, Piece, Places, Unwatched
from server.delivery.lines import json_line, text_line
from server.delivery.visit_log import PRESENCE, Stretch
from server.delivery.visits import Visit, begins_of, events_by_time, visits
from server.domain.errors import RetryLater
from server.domain.records import LoggedEvent
from server.domain.times.clock import now_us
from server.domain.times.local_time import LocalTime
from server.settings import ServerSettings
from server.store import Store

POLL_S = 0.5
_PAGE = 500
_AT_ONCE = 500
NEWEST = 100
"""Lines that are shown where nothing says how many or of when."""
_EVENTS_A_LINE = 6
"""A visit has hardly ever more events."""
_STYLES: dict[Part, dict[str, object]] = {
    "heading": {"bold": True},
    "place": {"bold": True},
    "blind": {"fg": "yellow"},
    "withdrawn": {"fg": "red"},
    "models": {"dim": True},
    "id": {"dim": True},
}


@click.command()
@click.option("--follow", "-f", is_flag=True, help="Then show new announcements as they come, until Ctrl-C.")
@click.option("--kind", type=click.Choice(get_args(Kind)), help="Only this kind, each event on a line of its own.")
@click.option(
    "--withdrawn/--no-withdrawn",
    default=True,
    help="Also events that a late burst disproved, marked as such (default).",
)
@click.option("--last", "-n", type=click.IntRange(min=1), help=f"Only the newest lines, so many (default: {NEWEST}).")
@click.option("--full", is_flag=True, help="All fields of each event, on a line of its own, with times in UTC.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per event, by the time of confirmation.")
@window_options
@store_options
def command(
    follow: bool,
    kind: str | None,
    withdrawn: bool,
    last: int | None,
    full: bool,
    as_json: bool,
    asked: Asked,
    settings: ServerSettings,
) -> None:
    """Show what happened, one line for each visit, in the site's local time.

    \b
    18:12:04-18:12:15 person at table, 11 s, came from the bottom, left to the right; 2 of 3 models  5f3a91c2
    since 18:12:04 ...  it goes on
    ~18:12:04 ...       the time lies in a stretch without frames, which the line names

    Lines come in the order of the time that they begin with. --since and --until select what lies in between, wholly or
    in part. Without both, the newest 100 lines are shown; --json shows all events. The id at the end of a line is that
    of its first event; other commands accept it.

    A time without a zone is in the site's local time: its `timezone`, or the machine's if the site sets none. 18:00 is
    the last time that it was 18:00. Where sites with different zones are shown, all times are the machine's.

    With --follow, show new events as they come, with corrections and withdrawals, in the order of their announcement.
    Without --since, --follow shows no past events. With --json, --since and --until go by the time of confirmation.
    """
    if follow and asked.until is not None:
        raise click.UsageError("--follow does not end, so it cannot be used with --until")
    if full and as_json:
        raise click.UsageError("give either --full or --json")
    if last is not None and (as_json or follow):
        raise click.UsageError("--last counts lines of the past: leave out --json and --follow, or use --since")
    store = current_store(settings)
    local = local_of(settings, store, asked.site)
    window = asked.window(local)
    if not follow:  # --follow may wait for a camera that has not sent anything yet
        check_camera_is_stored(store, window.site, window.camera)
    if not follow or window.since_us is not None:
        gone_within(store, local, window, events_only=True)
    line = json_line if as_json else text_line if full else None
    printer = VisitPrinter(store, local, window.site, window.camera)
    cursor = store.last_seq()
    if last is None and not as_json and window.since_us is None and window.until_us is None:
        last = NEWEST
    if not follow or window.since_us is not None:
        up_to = cursor if follow else None
        _show_past(store, printer, line, window, kind, withdrawn=withdrawn, last=last, up_to=up_to)
    if follow:
        show = printer.announced if line is None else partial(_echo_lines, line)
        try:
            following(store, show, cursor, window, kind, threading.Event())
        except KeyboardInterrupt:
            return


def _echo_lines(line: Callable[[LoggedEvent], str], events: Iterable[LoggedEvent]) -> None:
    for logged in events:
        click.echo(line(logged))


def _show_past(
    store: Store,
    printer: VisitPrinter,
    line: Callable[[LoggedEvent], str] | None,
    window: Window,
    kind: str | None,
    *,
    withdrawn: bool,
    last: int | None,
    up_to: int | None,
) -> None:
    """Print the log in a window, as lines of events or (`line` None) of visits; of announcements up to `up_to`. With
    `last`, only the newest lines, so many.
    """
    is_cut = False
    if last is not None:
        since_us = _near_end_us(store, window, kind, last, withdrawn=withdrawn)
        is_cut, window = since_us != window.since_us, window._replace(since_us=since_us)
    if line is None and kind is None:
        printer.show(_newest(visits(store, Stretch(*window), withdrawn=withdrawn), last, is_cut=is_cut))
        return
    if line is json_line:
        past = in_time(store, window, kind, withdrawn=withdrawn)
    else:
        past = events_by_time(store, Stretch(*window), kind, withdrawn=withdrawn)
    wanted = _newest((logged for logged in past if up_to is None or 0 < logged.seq <= up_to), last, is_cut=is_cut)
    if line is None:
        printer.show((Visit([logged]) for logged in wanted), alone=True)
        return
    _echo_lines(line, wanted)


def _near_end_us(store: Store, window: Window, kind: str | None, last: int, *, withdrawn: bool) -> int | None:
    """From when on the newest lines of a window are found, so many; the window's begin where it has no more."""
    most = last + 1 if kind is not None else _EVENTS_A_LINE * last
    newest = store.begun(*window, kind, limit=most, withdrawn=withdrawn, backwards=True, bare=True)
    return window.since_us if len(newest) < most else microseconds(newest[-1].event.started_at)


_T = TypeVar("_T")


def _newest(lines: Iterable[_T], last: int | None, *, is_cut: bool) -> Iterable[_T]:
    """The last lines, so many (None: all). It says so where others came before; `is_cut`: there are such."""
    if last is None:
        return lines
    kept, count = deque[_T](maxlen=last), 0
    for count, line in enumerate(lines, 1):  # noqa: B007 - the count is read below
        kept.append(line)
    if is_cut or count > last:
        click.echo(f"the newest {len(kept)} lines; --since or --last shows more", err=True)
    return kept


class VisitPrinter:
    """Prints visits of a site and camera (None: of all) with short ids, under a heading for each day; in colour on a
    terminal unless NO_COLOR is set.
    """

    def __init__(self, store: Store, local: LocalTime, site: str | None = None, camera: str | None = None) -> None:
        heads = [head for head in store.cameras() if site in (None, head.site) and camera in (None, head.camera)]
        self._store = store
        self._text = EventText(local, _places({(head.site, head.camera) for head in heads}), unwatched(store))
        self._day = ""
        is_plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb" or not sys.stdout.isatty()
        self._is_coloured = not is_plain

    def show(self, some: Iterable[Visit], *, alone: bool = False) -> None:
        """Print visits as they come, some hundreds at a time. `alone`: each is a single event, to be named as such."""
        every = iter(some)
        while batch := list(islice(every, _AT_ONCE)):
            short = self._store.past.short_ids([visit.first.id for visit in batch])
            for visit in batch:
                if (day := self._text.day(visit)) != self._day:
                    self._echo([Piece("heading", day)])
                    self._day = day
                self._echo(self._text.visit(visit, short.get(visit.first.id, ""), alone=alone))

    def announced(self, events: Sequence[LoggedEvent]) -> None:
        """Print announcements: a visit when it begins, and again when it is over."""
        left = [each for each in events if each.event.kind == "left" and not each.is_withdrawn]
        begins = begins_of(self._store, left)
        presences = [each for each in events if each.event.kind in PRESENCE]
        entries = self._store.begun_at([microseconds(each.event.started_at) for each in presences], bare=True)
        entered = {_at_once(each.event) for each in entries if each.event.kind == "entered"}
        shown: list[Visit] = []
        for logged in events:
            event = logged.event
            if event.id in begins:
                shown.append(Visit([begins[event.id], logged]))
            elif event.kind not in PRESENCE or _at_once(event) not in entered:  # else its `entered` was printed
                goes_on = event.kind in ("entered", "presence_started") and not logged.is_withdrawn
                shown.append(Visit([logged], is_over=not goes_on))
        self.show(shown)

    def _echo(self, pieces: Iterable[Piece]) -> None:
        line = "".join(self._styled(piece) if self._is_coloured else piece.text for piece in pieces)
        click.echo(line, color=self._is_coloured)

    def _styled(self, piece: Piece) -> str:
        style = _STYLES.get(piece.part)
        return click.style(piece.text, **style) if style else piece.text  # type: ignore[arg-type]


def _at_once(event: Event) -> tuple[object, ...]:
    """What a presence and the visit that it began with have in common."""
    return event.site, event.camera, event.sector, event.label, event.started_at


def dated_lines(store: Store, local: LocalTime, events: Iterable[Event]) -> Callable[[Event], str]:
    """Writes each of these events as a line with its date, and with its short id if it is in the log."""
    known = list(events)
    short = store.past.short_ids([event.id for event in known])
    text = EventText(local, _places({(event.site, event.camera) for event in known}))
    return lambda event: text.event(event, short.get(event.id, ""))


def _places(cameras: set[tuple[str, str]]) -> Places:
    """How much of a place has to be named so that it is one of these cameras'."""
    return "site" if len({site for site, _ in cameras}) > 1 else "camera" if len(cameras) > 1 else "sector"


def unwatched(store: Store) -> Unwatched:
    """Says since when the place of a visit that goes on is not watched, by the present state of its camera."""
    heads = {(head.site, head.camera): head for head in store.cameras()}

    def since_us(event: Event) -> int | None:
        head = heads.get((event.site, event.camera))
        if head is None:
            return None
        policy = store.policy(head.policy).camera(head.camera)
        stands = current_occupancy(policy, decode_state(head.state), max(now_us(), head.last_at_us))
        mine = [each for each in stands if each.occupancy is Occupancy.UNOBSERVED and each.sector == event.sector]
        return mine[0].since_us if mine else None

    return since_us


def in_time(store: Store, window: Window, kind: str | None, *, withdrawn: bool) -> Iterator[LoggedEvent]:
    """What `Store.events` gives, read page by page so that memory stays flat however long the log."""
    since_us, until_us, site, camera = window
    limit, shown = _PAGE, frozenset[str]()
    while True:
        page = store.events(since_us, until_us, site, camera, kind, limit=limit, withdrawn=withdrawn)
        yield from (logged for logged in page if logged.event.id not in shown)
        if len(page) < limit:
            return
        last_us = microseconds(page[-1].event.confirmed_at)
        if last_us == since_us:  # that instant has more events than fit on this page
            limit *= 2
        else:
            limit, shown = _PAGE, frozenset()
        since_us, shown = (
            last_us,
            shown | {logged.event.id for logged in page},
        )  # the next page repeats the last instant


def following(
    store: Store,
    show: Callable[[Sequence[LoggedEvent]], None],
    cursor: int,
    window: Window,
    kind: str | None,
    stop: threading.Event,
) -> None:
    """Show every announcement after `cursor`, a page at a time, until `stop` is set. Reads the store every POLL_S when
    idle.

    While the database does not answer, it waits, so that no announcement is missed.
    """
    is_away = False
    while not stop.is_set():
        try:
            newest = store.last_seq()
            page = store.events(site=window.site, camera=window.camera, kind=kind, after_seq=cursor, limit=_PAGE)
        except RetryLater as error:
            if not is_away:
                click.echo(f"sectorwatch: {error.detail}; waiting", err=True)
            is_away = True
            stop.wait(POLL_S)
            continue
        is_away = False
        if page:
            show(page)
            cursor = page[-1].seq
        if len(page) < _PAGE:  # the announcements of other cameras up to here need not be read again
            cursor = max(cursor, newest)
        if not page:
            stop.wait(POLL_S)
