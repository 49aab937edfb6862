"""Make annotations: of a logged event, of an earlier annotation, or of a fact that no event reported."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Annotated, Literal, get_args

import msgspec

from policies.events import Event, Kind, event_id, instant, microseconds
from policies.site.site_policy import CameraPolicy
from server.analysis.stored import Store
from server.delivery.gone_text import gone_lines
from server.domain.errors import Unknown, Unprocessable
from server.domain.keeping import Gone
from server.domain.matching import Fact
from server.domain.records import Annotation, EventRecord, Truth
from server.domain.times.clock import SECOND_US
from server.domain.times.local_time import site_time

Answer = Literal["true", "false", "unsure"]
Text = Annotated[str, msgspec.Meta(min_length=1, max_length=2000)]

AHEAD_US = 3600 * SECOND_US
"""How long (us) after a camera's newest frame a missed fact may lie: the next burst may be on its way."""

DEFAULT_WITHIN_S = 2.0
"""The assumed error of the time that a person gives (s)."""


class MissedFact(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A fact that a person saw and no event reported; `at` may be off by `within_s`."""

    site: str
    camera: str
    kind: Kind
    at: Annotated[datetime, msgspec.Meta(tz=True)]
    label: str = "person"
    sector: str | None = None
    from_sector: str | None = None
    to_sector: str | None = None
    line: str | None = None
    within_s: Annotated[float, msgspec.Meta(ge=0, le=3600)] = DEFAULT_WITHIN_S


def annotation_of(store: Store, prefix: str, truth: Answer, author: str, note: str | None = None) -> Annotation:
    """An annotation of the event, or of the missed fact, whose id begins with `prefix`.

    Raises Unknown if no id or several ids begin with it.
    """
    events = store.past.events_like(prefix)
    added = [annotation for annotation in store.annotations.about(prefix) if not annotation.is_told]
    if len(events) + len(added) > 1:
        raise several(store, prefix, events, added)
    if events:
        return annotation_of_event(events[0].logged.event, truth, author, note)
    if added:
        return replace(added[0], truth="missed" if truth == "true" else truth, author=author, note=note)
    raise no_event(prefix, store.retention.all_gone())


def annotation_of_event(event: Event, truth: Answer, author: str, note: str | None = None) -> Annotation:
    """An annotation of an event."""
    return _annotation(event, event.id, truth, microseconds(event.at), event.time_uncertainty_s, author, note)


def no_event(prefix: str, gone: Sequence[Gone] = ()) -> Unknown:
    """The error for an id that no event has; `gone`: what is no longer kept, where it may have been."""
    lines = [line for each in gone for line in gone_lines(each, _utc, events_only=True)]
    kept = f"; it may be one of those that are not kept: {'; '.join(lines)}" if lines else ""
    return Unknown(f"no event {prefix}: `sectorwatch events` shows their ids, at the end of each line{kept}")


def _utc(at_us: int) -> str:
    return instant(at_us).isoformat(timespec="seconds").replace("+00:00", "Z")


def several(
    store: Store, prefix: str, records: Sequence[EventRecord], added: Sequence[Annotation] | None = None
) -> Unknown:
    """The error for the beginning of several ids, which names them as far as they are known here."""
    events = [record.logged.event for record in records]
    short = store.past.short_ids([event.id for event in events])
    facts: list[tuple[str, Event | Annotation, int]] = [
        (short[event.id], event, microseconds(event.at)) for event in events
    ]
    facts += [(each.subject, each, each.at_us) for each in added or ()]
    named = "; ".join(
        f"{name} ({site_time(store, fact.site).dated(at_us)} {fact.kind} {place_of(fact)})"
        for name, fact, at_us in facts
    )
    what = "events" if added is None else "facts"
    return Unknown(f"several {what} begin with `{prefix}`, among them {named}: give more of the id")


def place_of(fact: Event | Annotation | MissedFact) -> str:
    """The sector or line of a fact, or both sectors of `moved`."""
    return fact.sector or fact.line or f"{fact.from_sector} > {fact.to_sector}"


def missed_annotation(store: Store, fact: MissedFact, author: str, note: str | None = None) -> Annotation:
    """An annotation of a fact that no event reported. Raises Unknown or Unprocessable if it cannot have been seen."""
    at_us = microseconds(fact.at)
    _check_place(store, fact, at_us)
    place = (fact.sector, fact.from_sector, fact.to_sector, fact.line)
    subject = event_id("missed", fact.site, fact.camera, fact.kind, fact.label, *place, at_us)
    return _annotation(fact, subject, "missed", at_us, fact.within_s, author, note)


def fact_of(annotation: Annotation) -> Fact:
    """The fact of an annotation, to be matched with the facts of events."""
    place = (annotation.sector, annotation.from_sector, annotation.to_sector, annotation.line)
    what = (annotation.site, annotation.camera, annotation.kind, annotation.label, *place)
    return Fact(what, annotation.at_us, round(annotation.within_s * 1e6))


def _annotation(
    fact: Event | MissedFact, subject: str, truth: Truth, at_us: int, within_s: float, author: str, note: str | None
) -> Annotation:
    return Annotation(
        number=0,
        subject=subject,
        truth=truth,
        site=fact.site,
        camera=fact.camera,
        kind=fact.kind,
        label=fact.label,
        sector=fact.sector,
        from_sector=fact.from_sector,
        to_sector=fact.to_sector,
        line=fact.line,
        at_us=at_us,
        within_s=within_s,
        is_told=isinstance(fact, Event),
        author=author,
        note=note,
        made_at_us=0,
    )


def _check_place(store: Store, fact: MissedFact, at_us: int) -> None:
    heads = {c.camera: c for c in store.cameras() if c.site == fact.site}
    if fact.camera not in heads:
        raise Unknown(
            f"no camera `{fact.camera}` of site `{fact.site}` ever sent anything{_near(fact.camera, list(heads))}"
        )
    last_us = heads[fact.camera].last_at_us
    if at_us > last_us + AHEAD_US:
        raise Unprocessable(
            f"camera `{fact.camera}` sent its newest frame at {instant(last_us):%Y-%m-%dT%H:%M:%SZ}: no policy could "
            "report a fact so long after it"
        )
    if fact.kind not in get_args(Kind):
        raise Unprocessable(f"no kind of event is called `{fact.kind}`{_near(fact.kind, get_args(Kind))}")
    [newest] = store.past.before(fact.site, fact.camera, last_us + 1, 1)
    policy = store.policy(newest.policy).camera(fact.camera)
    needed = {"moved": ("from_sector", "to_sector"), "crossed": ("line",)}.get(fact.kind, ("sector",))
    for name in ("sector", "from_sector", "to_sector", "line"):
        given = getattr(fact, name)
        if (given is None) == (name in needed):
            raise Unprocessable(f"`{fact.kind}` {'needs' if given is None else 'has no'} {name}")
        _check_name(policy, name, given)
    if fact.label not in policy.targets:
        raise Unprocessable(f"no target is called `{fact.label}`{_near(fact.label, list(policy.targets))}")
    [first] = store.past.after(fact.site, fact.camera, 0, 1)
    if at_us < first.first_at_us:
        raise Unprocessable(
            f"camera `{fact.camera}` sent its first frame at {instant(first.first_at_us):%Y-%m-%dT%H:%M:%SZ}: no "
            "policy could report a fact before it"
        )


def _check_name(policy: CameraPolicy, name: str, given: str | None) -> None:
    known = [place.name for place in (policy.lines if name == "line" else policy.sectors)]
    if given is not None and given not in known:
        raise Unprocessable(f"camera `{policy.camera}` has no {name} `{given}`{_near(given, known)}")


def _near(word: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(word, known, n=1)
    return f"; did you mean `{close[0]}`?" if close else f"; known here: {', '.join(known) or 'none'}"
