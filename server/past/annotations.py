"""What a person says of the past, made from an event, from an earlier annotation, or from what they saw themselves."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Literal, Protocol, get_args

import msgspec

from policies.events import Event, Kind, event_id, instant, microseconds
from policies.site_policy import CameraPolicy, SitePolicy
from server.clock import SECOND_US
from server.errors import Unknown, Unusable
from server.past.matching import Fact
from server.records import Annotation, BurstFacts, CameraHead, EventRecord

Said = Literal["true", "false", "unsure"]
Text = Annotated[str, msgspec.Meta(min_length=1, max_length=2000)]

AHEAD_US = 3600 * SECOND_US
"""How long after a camera's newest frame something may have been missed: that frame's burst may be on its way."""

DEFAULT_WITHIN_S = 2.0
"""How far off the time of something that a person saw themselves is taken to be."""


class Past(Protocol):
    def events_like(self, prefix: str, limit: int = ...) -> list[EventRecord]: ...
    def before(self, site: str, camera: str, at_us: int, limit: int) -> Sequence[BurstFacts]: ...
    def after(self, site: str, camera: str, at_us: int, limit: int) -> Sequence[BurstFacts]: ...


class Annotations(Protocol):
    def about(self, prefix: str) -> list[Annotation]: ...


class Store(Protocol):
    @property
    def past(self) -> Past: ...
    @property
    def annotations(self) -> Annotations: ...
    def cameras(self) -> list[CameraHead]: ...
    def policy(self, digest: str) -> SitePolicy: ...


class Seen(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Something a person saw happen, whether or not an event told it. `at_us` may be off by `within_s`."""

    site: str
    camera: str
    kind: Kind
    at_us: int
    label: str = "person"
    sector: str | None = None
    from_sector: str | None = None
    to_sector: str | None = None
    line: str | None = None
    within_s: Annotated[float, msgspec.Meta(ge=0, le=3600)] = DEFAULT_WITHIN_S


def said_of(store: Store, prefix: str, truth: Said, author: str, note: str | None = None) -> Annotation:
    """What `author` says of the event, or of the added fact, whose id begins with `prefix`.

    Raises Unknown where nothing or several begin so.
    """
    events = store.past.events_like(prefix)
    added = [one for one in store.annotations.about(prefix) if not one.is_told]
    if len(events) + len(added) > 1:
        raise Unknown(f"several facts begin with {prefix}: give more of the id")
    if events:
        return _of_event(events[0].logged.event, truth, author, note)
    if added:
        return replace(added[0], truth="missed" if truth == "true" else truth, author=author, note=note)
    raise no_event(prefix)


def no_event(prefix: str) -> Unknown:
    """The error for an id that names nothing."""
    return Unknown(f"no event {prefix}: `sectorwatch events` shows their ids, at the end of each line")


def missed(store: Store, seen: Seen, author: str, note: str | None = None) -> Annotation:
    """That something happened which no event told. Raises Unknown or Unusable for a place that cannot be."""
    _check_place(store, seen)
    place = (seen.sector, seen.from_sector, seen.to_sector, seen.line)
    return Annotation(
        number=0,
        subject=event_id("missed", seen.site, seen.camera, seen.kind, seen.label, *place, seen.at_us),
        truth="missed",
        site=seen.site,
        camera=seen.camera,
        kind=seen.kind,
        label=seen.label,
        sector=seen.sector,
        from_sector=seen.from_sector,
        to_sector=seen.to_sector,
        line=seen.line,
        at_us=seen.at_us,
        within_s=seen.within_s,
        is_told=False,
        author=author,
        note=note,
        made_at_us=0,
    )


def fact_of(said: Annotation) -> Fact:
    """The fact an annotation is about, to be matched with what policies tell."""
    place = (said.sector, said.from_sector, said.to_sector, said.line)
    what = (said.site, said.camera, said.kind, said.label, *place)
    return Fact(what, said.at_us, round(said.within_s * 1e6))


def _of_event(event: Event, truth: Said, author: str, note: str | None) -> Annotation:
    return Annotation(
        number=0,
        subject=event.id,
        truth=truth,
        site=event.site,
        camera=event.camera,
        kind=event.kind,
        label=event.label,
        sector=event.sector,
        from_sector=event.from_sector,
        to_sector=event.to_sector,
        line=event.line,
        at_us=microseconds(event.at),
        within_s=event.time_uncertainty_s,
        is_told=True,
        author=author,
        note=note,
        made_at_us=0,
    )


def _check_place(store: Store, seen: Seen) -> None:
    heads = {c.camera: c for c in store.cameras() if c.site == seen.site}
    if seen.camera not in heads:
        raise Unknown(f"no camera `{seen.camera}` of site `{seen.site}` ever sent{_near(seen.camera, list(heads))}")
    last_us = heads[seen.camera].last_at_us
    if seen.at_us > last_us + AHEAD_US:
        raise Unusable(
            f"camera `{seen.camera}` sent its newest frame at {instant(last_us):%Y-%m-%dT%H:%M:%SZ}: what came so long "
            "after it no policy could tell"
        )
    if seen.kind not in get_args(Kind):
        raise Unusable(f"no kind of event is called `{seen.kind}`{_near(seen.kind, get_args(Kind))}")
    [newest] = store.past.before(seen.site, seen.camera, last_us + 1, 1)
    policy = store.policy(newest.policy).camera(seen.camera)
    needed = {"moved": ("from_sector", "to_sector"), "crossed": ("line",)}.get(seen.kind, ("sector",))
    for name in ("sector", "from_sector", "to_sector", "line"):
        given = getattr(seen, name)
        if (given is None) == (name in needed):
            raise Unusable(f"`{seen.kind}` {'needs' if given is None else 'has no'} {name}")
        _check_name(policy, name, given)
    if seen.label not in policy.targets:
        raise Unusable(f"no target is called `{seen.label}`{_near(seen.label, list(policy.targets))}")
    [first] = store.past.after(seen.site, seen.camera, 0, 1)
    if seen.at_us < first.first_at_us:
        raise Unusable(
            f"camera `{seen.camera}` sent its first frame at {instant(first.first_at_us):%Y-%m-%dT%H:%M:%SZ}: what was "
            "before it no policy could tell"
        )


def _check_name(policy: CameraPolicy, name: str, given: str | None) -> None:
    known = [place.name for place in (policy.lines if name == "line" else policy.sectors)]
    if given is not None and given not in known:
        raise Unusable(f"camera `{policy.camera}` has no {name} `{given}`{_near(given, known)}")


def _near(word: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(word, known, n=1)
    return f"; did you mean `{close[0]}`?" if close else f"; known here: {', '.join(known) or 'none'}"
