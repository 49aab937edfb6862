"""`/events/<id>`: one event with the pictures of its visit, the arithmetic behind it, and what people say of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Annotated, Literal
from urllib.parse import urlencode

import msgspec

from policies.events import Event, microseconds
from policies.site.sectors import Sector
from policies.site.site_policy import CameraPolicy
from policies.site.toml_errors import ready
from server.analysis.annotations import place_of
from server.analysis.explain.arithmetic import Arithmetic, Line
from server.analysis.explain.scene import Scene, scene_of
from server.analysis.verify import summary_of, verify
from server.console import judging
from server.console.access import Viewer
from server.console.context import Context
from server.console.frames import FrameShown, Overlay, initials_of, overlay_of, shown_frame
from server.console.judging import Chosen, Judgement, Neighbour, Option
from server.console.pages import Pages, To
from server.delivery.event_text import VERBS, EventText, plain, withdrawal
from server.delivery.gone_text import gone_at
from server.delivery.visits import Visit
from server.domain.errors import ConfigurationError, RetryLater, Unknown
from server.domain.records import LoggedEvent
from server.domain.times.local_time import LocalTime
from server.web.openapi import Twin


class EventQuery(Chosen, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The list in which the event is looked at. `verify`: make the checks of `sectorwatch verify`. `done`: the event
    that was judged before; it is ignored where no event that the viewer may judge has this id.
    """

    verify: Literal["yes"] | None = None
    done: Annotated[str, msgspec.Meta(max_length=100)] | None = None

    def chosen(self) -> Chosen:
        """The list alone."""
        return Chosen(**{name: getattr(self, name) for name in Chosen.__struct_fields__})

    def fields(self) -> list[tuple[str, str]]:
        """The list's filters, for the hidden fields of a form."""
        return list(msgspec.to_builtins(self.chosen()).items())

    def within(self) -> str:
        """The list's filters as an address has them."""
        return urlencode(self.fields())


class CheckShown(msgspec.Struct, frozen=True):
    """A check of `verify`: it holds, failed, or cannot be made (`older`: other rules; `gone`: no longer kept)."""

    what: str
    state: Literal["holds", "failed", "older", "gone"]
    finding: str


class Verified(msgspec.Struct, frozen=True):
    """The checks, and their result in a sentence."""

    summary: str
    checks: tuple[CheckShown, ...]


class PartOfVisit(msgspec.Struct, frozen=True):
    """Another event of the same stay."""

    event: str
    kind: str
    at_local: str


class Origin(msgspec.Struct, frozen=True):
    """Which bytes, which weights and which policy made the event."""

    burst_ids: tuple[str, ...]
    frame_sha256: tuple[str, ...]
    ensemble: str
    policy: str
    mask_digest: str | None


class EventShown(msgspec.Struct, frozen=True):
    """One event. `line` is that of `sectorwatch events`. `standing` says why it does not hold, or what it replaced.

    `frames` are those of its visit, of which `left_out` more are stored; `deciding` is the one whose votes it has, and
    `reason` their arithmetic. `no_frames` says why there is none. `policy` says which policy judged, and why that one.
    `at_field` is the instant for a form's field. `undoes` is the event of which undo takes back an answer: the one that
    was judged before, else this one.
    """

    event: str
    line: str
    kind: str
    site: str
    camera: str
    target: str
    place: str
    at: datetime
    at_local: str
    at_field: str
    zone: str
    direction: str | None
    standing: tuple[str, ...]
    replaced_by: str | None
    frames: tuple[FrameShown, ...]
    left_out: int
    deciding: FrameShown | None
    no_frames: str | None
    overlay: Overlay | None
    reason: Arithmetic | None
    initials: dict[str, str]
    policy: tuple[str, ...]
    origin: Origin
    visit: tuple[PartOfVisit, ...]
    judgements: tuple[Judgement, ...]
    verified: Verified | None
    earlier: Neighbour | None
    later: Neighbour | None
    missed: tuple[Option, ...]
    may_judge: bool
    undoes: str | None


TWIN = Twin(
    "/v1/events/<event_id>/page",
    "showEvent",
    "Show what an event rests on.",
    EventQuery,
    EventShown,
    (("event_id", "The event's id."),),
)
ready(EventQuery)


def add(pages: Pages, context: Context) -> None:
    """Register the page."""

    @pages.page("/events/<event_id>", twin=TWIN, template="event.html", query=EventQuery)
    def event(viewer: Viewer, query: EventQuery, event_id: str) -> EventShown | To:
        logged = judging.event_for(context, viewer, event_id)
        if logged.event.id != event_id:
            return To(query.chosen().address(logged.event.id))
        return _shown(context, viewer, query, logged)


def _shown(context: Context, viewer: Viewer, query: EventQuery, logged: LoggedEvent) -> EventShown:
    event, chosen = logged.event, query.chosen()
    made = judging.history(context, event)
    local = context.local_time(event.site)
    scene = scene_of(context.store, logged)
    models = initials_of(line.model for frame in scene.frames for line in _lines(frame.arithmetic))
    frames = tuple(shown_frame(frame, local, models) for frame in scene.frames)
    deciding = next((i for i, frame in enumerate(scene.frames) if frame.decides), None)
    policy = context.store.policy(event.provenance.policy).camera(event.camera)
    sector = policy.by_name.get(event.sector or event.to_sector or "")
    return EventShown(
        event=event.id,
        line=plain(EventText(local).visit(Visit([logged]), "", dated=True, alone=True)),
        kind=event.kind,
        site=event.site,
        camera=event.camera,
        target=event.label,
        place=place_of(event),
        at=event.at,
        at_local=local.dated(microseconds(event.at)),
        at_field=judging.field_of(local, microseconds(event.at)),
        zone=local.name,
        direction=event.direction,
        standing=tuple(_standing(logged, local)),
        replaced_by=_replaced_by(context, logged),
        frames=frames,
        left_out=scene.left_out,
        deciding=None if deciding is None else frames[deciding],
        no_frames=None if frames else _no_frames(context, event),
        overlay=None if not scene.frames else overlay_of(policy, scene.frames[deciding or 0].size, event, scene.paths),
        reason=None if deciding is None else scene.frames[deciding].arithmetic,
        initials=models,
        policy=tuple(_policy(context, event, policy, sector, scene)),
        origin=msgspec.convert(event.provenance, Origin, from_attributes=True),
        visit=tuple(_visit(event, scene, local)),
        judgements=judging.judgements(made, local.dated),
        verified=_verified(context, event) if query.verify else None,
        earlier=judging.step(context, viewer, chosen, logged, backwards=True),
        later=judging.step(context, viewer, chosen, logged),
        missed=judging.options(policy),
        may_judge=viewer.changes(event.site),
        undoes=_judged_before(context, viewer, query) or (event.id if judging.standing(made) else None),
    )


def _judged_before(context: Context, viewer: Viewer, query: EventQuery) -> str | None:
    """The event that the viewer judged before this one, by its id in the address."""
    with suppress(Unknown):
        done = judging.event_for(context, viewer, query.done or "").event
        return done.id if viewer.changes(done.site) else None
    return None


def _lines(arithmetic: Arithmetic | None) -> Sequence[Line]:
    return () if arithmetic is None else arithmetic.lines


def _standing(logged: LoggedEvent, local: LocalTime) -> Iterator[str]:
    if logged.is_withdrawn:
        yield f"This event no longer holds: {withdrawal(logged, local)}."
    if logged.late:
        yield "It comes from a late burst: it was announced after its time."
    others = [each for each in logged.supersedes if each != logged.event.id]
    if others:
        yield f"It replaces {', '.join(each[:8] for each in others)}, the same fact at another instant."
    elif logged.supersedes:
        yield "A late burst corrected it."


def _replaced_by(context: Context, logged: LoggedEvent) -> str | None:
    """The event of the same fact at another instant, for one that was withdrawn; None where there is none."""
    if not logged.is_withdrawn:
        return None
    event, around_us = logged.event, 3_600_000_000
    at_us = microseconds(event.started_at)
    near = context.store.begun(at_us - around_us, at_us + around_us, event.site, event.camera, event.kind, limit=200)
    return next((each.event.id for each in near if event.id in each.supersedes), None)


def _no_frames(context: Context, event: Event) -> str:
    at_us = microseconds(event.confirmed_at)
    gone = gone_at(context.store.retention.gone(event.site, event.camera), at_us)
    return f"Its frames are no longer kept: {gone}." if gone else "None of its frames is stored."


def _policy(context: Context, event: Event, policy: CameraPolicy, sector: Sector | None, scene: Scene) -> Iterator[str]:
    """Which policy judged, why that one, and what it asked for over frames."""
    digest = event.provenance.policy
    yield f"Policy {digest[:8]} was in force when the burst came{_since(context, event.site, digest)}."
    deciding = next((frame for frame in scene.frames if frame.decides), None)
    entry = None if deciding is None else policy.schedule_at(deciding.at_us, deciding.brightness)
    if entry is not None:
        yield f"At that time its schedule `{entry.name}` held."
        policy = entry.policy
        sector = policy.by_name.get(sector.name) if sector is not None else None
    where = f"sector `{sector.name}`" if sector is not None else f"camera `{event.camera}`"
    rules = policy.rules if sector is None else sector.rules
    yield f"For {event.label} in {where} its rule is {rules.of(event.label).sensitivity.title}."
    movement = policy.rules.movement
    yield (
        f"A track counts once {movement.min_hits} of its latest {movement.window_frames} frames show it; a stay counts "
        f"from {rules.movement.dwell_s:g} s on, a presence from {rules.presence.confirm_s:g} s on."
    )


def _since(context: Context, site: str, digest: str) -> str:
    with suppress(ConfigurationError, RetryLater):
        now = context.sites.edition(site).policy.digest
        return ", and still is" if now == digest else f"; now {now[:8]} is"
    return ""


def _visit(event: Event, scene: Scene, local: LocalTime) -> Iterator[PartOfVisit]:
    for each in scene.visit:
        if each.id != event.id:
            yield PartOfVisit(each.id, VERBS[each.kind].split()[0], local.clock(microseconds(each.at)))


def _verified(context: Context, event: Event) -> Verified:
    [record] = context.store.past.events_like(event.id, 1)
    checks = list(verify(context.store, record))
    shown = [
        CheckShown(
            each.what,
            "holds" if each.holds else "gone" if each.is_gone else "older" if each.is_older else "failed",
            each.finding,
        )
        for each in checks
    ]
    return Verified(summary_of(checks), tuple(shown))
