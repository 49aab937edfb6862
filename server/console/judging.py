"""Annotating events from their pages: the list that a viewer goes through, true, false and unsure, undo, and what was
missed.

An annotation is never changed or removed; the newest one of an event counts. So undo adds what counted before, and the
next undo passes over both.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Annotated, Literal, cast
from urllib.parse import parse_qsl, urlencode

import msgspec

from policies.events import Event, Kind, instant
from policies.site.site_policy import CameraPolicy
from policies.site.toml_errors import ready
from server.analysis.annotations import Answer, MissedFact, annotation_of_event, missed_annotation
from server.console.access import Viewer
from server.console.context import Context
from server.console.pages import Pages, To, own_address
from server.delivery.event_text import VERBS
from server.domain.errors import Malformed, Unknown
from server.domain.records import Annotation, LoggedEvent, Truth
from server.domain.times.clock import SECOND_US
from server.domain.times.local_time import LocalTime, read_when

TAKEN_BACK = "taken back"
"""The note of an undo that leaves no answer: the event is unsure by it, and unjudged again. Where an earlier answer
counts again, the note also has the one that was taken back: `taken back: false`.
"""

KINDS_IN_SECTORS: tuple[Kind, ...] = ("entered", "left", "presence_started", "presence_ended", "lingered")
_PAGES = (10, 100, 400)
"""How many events are read at once while the next one of a list is looked for."""
_MOST_PAIRS = 20
_HISTORY = 20
_MOST_ANSWERS = 1000

_Name = Annotated[str, msgspec.Meta(max_length=100)]
_Note = Annotated[str, msgspec.Meta(max_length=2000)]


class Chosen(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Which events a viewer goes through; `unjudged`: only those without an annotation."""

    site: _Name | None = None
    camera: _Name | None = None
    sector: _Name | None = None
    target: _Name | None = None
    kind: Kind | None = None
    unjudged: Literal["yes"] | None = None

    def has(self, event: Event) -> bool:
        """Whether an event is in the list, whoever judged it."""
        places = (event.sector, event.from_sector, event.to_sector, event.line)
        return (self.sector is None or self.sector in places) and self.target in (None, event.label)

    def address(self, event_id: str, **more: str) -> str:
        """The address of an event's page within this list."""
        asked = urlencode({**msgspec.to_builtins(self), **more})
        return f"/events/{event_id}{'?' if asked else ''}{asked}"


class TruthForm(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a person says of an event. `within`: the filters of the list, as in an address."""

    truth: Answer
    note: _Note = ""
    within: str = ""


class UndoForm(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Take back the newest annotation of an event."""

    within: str = ""


class MissedForm(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A fact that no event reported. `fact` is `entered|road`, `moved|road|table` or `crossed|gate`; `at` a time in the
    site's zone. `back`: the page to show then.
    """

    site: _Name
    camera: _Name
    fact: _Name
    at: _Name
    target: _Name = "person"
    within_s: Annotated[float, msgspec.Meta(ge=0, le=3600)] = 2.0
    note: _Note = ""
    back: str = "/"


class Option(msgspec.Struct, frozen=True):
    """A fact that can be missed at a camera: its value in the form, and in words."""

    value: str
    words: str


class Judgement(msgspec.Struct, frozen=True):
    """An annotation as a page shows it."""

    truth: str
    author: str
    note: str | None
    made_at: str


class Neighbour(msgspec.Struct, frozen=True):
    """A neighbour in the list. `matches` is false where the search gave up here, after many events that are not in the
    list.
    """

    event: str
    address: str
    matches: bool


ready(Chosen)


def add(pages: Pages, context: Context) -> None:
    """Register the actions."""
    annotations = context.store.annotations

    @pages.action("/events/<event_id>/truth", form=TruthForm)
    def judge_event(viewer: Viewer, form: TruthForm, event_id: str) -> To:
        logged = event_for(context, viewer, event_id)
        viewer.to_change(logged.event.site)
        chosen = chosen_of(form.within)
        answer = annotation_of_event(logged.event, form.truth, viewer.name, form.note.strip() or None)
        annotations.add([answer], by=viewer.name)
        unjudged = msgspec.structs.replace(chosen, unjudged="yes")
        following = step(context, viewer, unjudged, logged)
        if following is None:
            return To(
                chosen.address(logged.event.id, done=logged.event.id),
                "That was the last event of the list without an answer.",
            )
        if not following.matches:
            here = chosen.address(logged.event.id, done=logged.event.id)
            return To(here, f"The next {sum(_PAGES)} events have an answer or are not in the list.")
        return To(chosen.address(following.event, done=logged.event.id))

    @pages.action("/events/<event_id>/undo", form=UndoForm)
    def undo(viewer: Viewer, form: UndoForm, event_id: str) -> To:
        logged = event_for(context, viewer, event_id)
        viewer.to_change(logged.event.site)
        answers = standing(history(context, logged.event))
        address = chosen_of(form.within).address(logged.event.id)
        if not answers:
            return To(address, "No answer to this event counts, so there is nothing to take back.")
        annotations.add([_taken_back(answers, viewer.name)], by=viewer.name)
        again = f"It counts as {answers[-2].truth} again." if len(answers) > 1 else "The event is open again."
        return To(address, f"Taken back: {answers[-1].truth}. {again}")

    @pages.action("/missed", form=MissedForm)
    def missed(viewer: Viewer, form: MissedForm) -> To:
        viewer.to_change(form.site)
        made = missed_annotation(context.store, _fact(context, form), viewer.name, form.note.strip() or None)
        [kept] = annotations.add([made], by=viewer.name)
        local = context.local_time(form.site)
        return To(
            own_address(form.back), f"Noted: {_in_words(form.target, form.fact)} at {local.dated(kept.at_us)}, missed."
        )


def event_for(context: Context, viewer: Viewer, event_id: str) -> LoggedEvent:
    """An event by its id. Raises Unknown, also for one of a site that the viewer does not read."""
    found = context.store.past.events_like(event_id, 2) if _is_id(event_id) else []
    mine = [record for record in found if viewer.reads(record.logged.event.site)]
    if len(mine) != 1:
        raise Unknown(_no_event(context, viewer, event_id))
    return mine[0].logged


def chosen_of(within: str) -> Chosen:
    """The list that a form names. Raises Malformed."""
    try:
        return msgspec.convert(dict(parse_qsl(within, max_num_fields=20)), Chosen)
    except (msgspec.ValidationError, ValueError) as error:
        raise Malformed(f"no list of events: {error}") from None


def step(
    context: Context, viewer: Viewer, chosen: Chosen, logged: LoggedEvent, *, backwards: bool = False
) -> Neighbour | None:
    """The next event of the list, or the one before; None at its end."""
    beyond = logged
    for limit in _PAGES:
        page = context.store.begun(
            site=chosen.site,
            camera=chosen.camera,
            kind=chosen.kind,
            sites=viewer.sites,
            beyond=beyond,
            limit=limit,
            backwards=backwards,
        )
        fitting = [each.event for each in page if chosen.has(each.event)]
        if chosen.unjudged:
            known = context.store.annotations.of([event.id for event in fitting])
            fitting = [event for event in fitting if is_unjudged(known.get(event.id))]
        if fitting:
            return Neighbour(fitting[0].id, chosen.address(fitting[0].id), matches=True)
        if len(page) < limit:
            return None
        beyond = page[-1]
    return Neighbour(beyond.event.id, chosen.address(beyond.event.id), matches=False)


def is_unjudged(annotation: Annotation | None) -> bool:
    """Whether nobody has said anything of an event, or took it back."""
    return annotation is None or (annotation.truth == "unsure" and annotation.note == TAKEN_BACK)


def history(context: Context, event: Event) -> list[Annotation]:
    """The annotations of an event, in the order they were made."""
    return context.store.annotations.history(event.id, _MOST_ANSWERS)


def judgements(made: Sequence[Annotation], written: Callable[[int], str]) -> tuple[Judgement, ...]:
    """The newest of some annotations, as a page shows them; `written` writes an instant."""
    shown = made[-_HISTORY:]
    return tuple(Judgement(each.truth, each.author, each.note, written(each.made_at_us)) for each in shown)


def options(policy: CameraPolicy) -> tuple[Option, ...]:
    """What can be missed at a camera: each kind in each sector, each line, and from sector to sector."""
    facts = [(kind, sector.name) for kind in KINDS_IN_SECTORS for sector in policy.sectors]
    facts += [("crossed", line.name) for line in policy.lines]
    moved = [("moved", a, b) for a, b in sorted(policy.apart)][:_MOST_PAIRS]
    return tuple(Option("|".join(fact), _in_words("", "|".join(fact))) for fact in (*facts, *moved))


def field_of(local: LocalTime, at_us: int) -> str:
    """An instant as a person would type it into a form, to the second; with its offset where a clock shows that time
    twice.
    """
    whole_us = at_us // SECOND_US * SECOND_US
    typed = local.dated(whole_us)
    return typed if local.us(datetime.fromisoformat(typed)) == whole_us else local.written(whole_us)


def _in_words(target: str, fact: str) -> str:
    """`person entered road`."""
    kind, *places = fact.split("|")
    return f"{target} {VERBS[cast(Kind, kind)]} {' > '.join(places)}".strip()


def _fact(context: Context, form: MissedForm) -> MissedFact:
    """The fact that a form describes. Raises Malformed."""
    kind, *places = form.fact.split("|")
    names = {"moved": ("from_sector", "to_sector"), "crossed": ("line",)}.get(kind, ("sector",))
    try:
        at_us = read_when(form.at).us(context.local_time(form.site), context.clock())
        return msgspec.convert(
            {
                "site": form.site,
                "camera": form.camera,
                "kind": kind,
                "at": instant(at_us),
                "label": form.target,
                "within_s": form.within_s,
                **dict(zip(names, places, strict=True)),
            },
            MissedFact,
        )
    except (msgspec.ValidationError, ValueError, OverflowError) as error:
        raise Malformed(f"the form cannot be used: {error}") from None


def standing(made: Sequence[Annotation]) -> list[Annotation]:
    """The answers among an event's annotations that nobody took back, in the order they were made; the last counts."""
    answers: list[Annotation] = []
    for each in made:
        if is_unjudged(each):
            answers.clear()
        elif len(answers) > 1 and (each.truth, each.note) == _counting_again(answers):
            answers.pop()
        else:
            answers.append(each)
    return answers


def _counting_again(answers: Sequence[Annotation]) -> tuple[Truth, str]:
    """The truth that counts once the last of several answers is taken back, and the note that says so."""
    return answers[-2].truth, f"{TAKEN_BACK}: {answers[-1].truth}"


def _taken_back(answers: Sequence[Annotation], author: str) -> Annotation:
    """An annotation with the truth that counted before the last answer, unsure where nothing did."""
    truth, note = _counting_again(answers) if len(answers) > 1 else ("unsure", TAKEN_BACK)
    return replace(answers[-1], truth=truth, author=author, note=note)


def _is_id(text: str) -> bool:
    return 8 <= len(text) <= 32 and all(letter in "0123456789abcdef" for letter in text)


def _no_event(context: Context, viewer: Viewer, event_id: str) -> str:
    kept = [gone for gone in context.store.retention.all_gone() if viewer.reads(gone.site) and gone.events_from_us]
    lines = [
        f"events of {gone.site}/{gone.camera} before {context.local_time(gone.site).dated(gone.events_from_us or 0)}"
        for gone in kept
    ]
    of_old = f" No longer kept are {', '.join(lines)}." if lines else ""
    return (
        f"no event {event_id[:32]} of a site that you may read.{of_old} The day's page lists the events that there "
        "are, each with its link"
    )
