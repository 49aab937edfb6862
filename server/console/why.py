"""`/why`: any minute of any camera: one sentence, then its pictures, then the record."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Annotated
from urllib.parse import urlencode

import msgspec

from policies.events import instant
from policies.observation import Observation
from policies.site.site_policy import CameraPolicy
from policies.site.toml_errors import ready
from server.analysis.explain import BurstRecord, Explanation, FrameRecord
from server.analysis.explain.minute import MINUTE_US, concluded, explain_minute
from server.analysis.explain.scene import MOST, picture_of
from server.analysis.explain.text import gap_lines, held_text, sector_text
from server.console import judging
from server.console.access import Viewer
from server.console.context import Context
from server.console.frames import FrameShown, Overlay, initials_of, minute_frame, overlay_of
from server.console.judging import Option
from server.console.pages import Pages
from server.delivery.event_text import EventText
from server.domain.errors import Unknown
from server.domain.times.local_time import FORMS, LocalTime, read_when
from server.web.openapi import Twin

_Name = Annotated[str, msgspec.Meta(max_length=100)]


class WhyQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which camera, and a time in the minute: `18:12` is the last time that it was 18:12 in the site's zone.

    `part` counts the pictures of a minute that has more than fit on a page.
    """

    site: _Name | None = None
    camera: _Name | None = None
    at: _Name | None = None
    part: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 1


class CameraChoice(msgspec.Struct, frozen=True):
    """A camera that can be asked about."""

    site: str
    camera: str


class OccupancyShown(msgspec.Struct, frozen=True):
    """How a sector stood, from one time to another."""

    sector: str
    target: str
    state: str
    since_local: str
    until_local: str


class BurstShown(msgspec.Struct, frozen=True):
    """A burst's record: its facts, its verdicts in each sector, and its events. The votes are those of the frames."""

    burst_id: str
    since_local: str
    until_local: str
    facts: str
    policy: str
    ensemble: str
    mask_digest: str | None
    sectors: tuple[str, ...]
    events: tuple[str, ...]


class EventLink(msgspec.Struct, frozen=True):
    """An event of the minute."""

    event: str
    line: str


class Minute(msgspec.Struct, frozen=True):
    """A minute of a camera. `sentence` says what came of it; `is_gone`: nothing of it is kept any more.

    `frames` are those of this part of `parts`. `earlier` and `later` are the minutes around it; None: still to come.
    """

    sentence: str
    is_gone: bool
    since: datetime
    at_local: str
    at_field: str
    day: str
    zone: str
    earlier: str
    later: str | None
    frames: tuple[FrameShown, ...]
    part: int
    parts: int
    overlay: Overlay | None
    occupancy: tuple[OccupancyShown, ...]
    gaps: tuple[str, ...]
    bursts: tuple[BurstShown, ...]
    events: tuple[EventLink, ...]


class Why(msgspec.Struct, frozen=True):
    """A minute of a camera, or (`minute` None) `hint`: what to choose first among `choices`."""

    site: str | None
    camera: str | None
    at: str
    target: str
    hint: str
    choices: tuple[CameraChoice, ...]
    minute: Minute | None
    missed: tuple[Option, ...] = ()
    may_judge: bool = False

    @property
    def sites(self) -> list[str]:
        return sorted({each.site for each in self.choices})

    @property
    def cameras(self) -> list[str]:
        return sorted({each.camera for each in self.choices if self.site in (None, each.site)})


TWIN = Twin("/v1/why", "explainMinute", "Explain a minute of a camera.", WhyQuery, Why)
ready(WhyQuery)


def add(pages: Pages, context: Context) -> None:
    """Register the page."""

    @pages.page("/why", twin=TWIN, template="why.html", query=WhyQuery)
    def why(viewer: Viewer, query: WhyQuery) -> Why:
        if query.site is not None:
            viewer.to_read(query.site)
        heads = [head for head in context.store.cameras() if viewer.reads(head.site)]
        choices = tuple(CameraChoice(head.site, head.camera) for head in heads)
        fitting = [c for c in choices if query.site in (None, c.site) and query.camera in (None, c.camera)]
        if choices and not fitting:
            raise Unknown(
                f"no camera `{query.camera}` of a site that you may read has sent anything; there are: "
                + ", ".join(f"{each.site}/{each.camera}" for each in choices[:20])
            )
        hint = "" if query.at else "Choose a camera and a time."
        if len(fitting) > 1:
            hint = "Several cameras fit: choose one."
        elif not choices:
            hint = "No camera has sent anything yet. On the Pi, `camera-agent doctor` says why."
        if hint or not query.at:
            only = fitting[0] if len(fitting) == 1 else None
            site, camera = (only.site, only.camera) if only else (query.site, query.camera)
            return Why(site, camera, query.at or "", "person", hint, choices, None)
        [one] = fitting
        return _why(context, viewer, query, one, choices)


def _why(
    context: Context, viewer: Viewer, query: WhyQuery, one: CameraChoice, choices: tuple[CameraChoice, ...]
) -> Why:
    local, now_us = context.local_time(one.site), context.clock()
    try:
        at_us = read_when(query.at or "").us(local, now_us)
        local.dated(at_us - MINUTE_US)
    except (ValueError, OverflowError):
        return Why(one.site, one.camera, query.at or "", "person", f"Write a time as {FORMS}.", choices, None)
    explanation = explain_minute(context.store, one.site, one.camera, at_us, now_us, local.dated)
    policy = _policy(context, explanation, one)
    return Why(
        one.site,
        one.camera,
        query.at or "",
        next(iter(policy.targets), "person") if policy else "person",
        "",
        choices,
        _minute(context, explanation, policy, local, query.part),
        judging.options(policy) if policy else (),
        viewer.changes(one.site),
    )


def _policy(context: Context, explanation: Explanation, one: CameraChoice) -> CameraPolicy | None:
    """The policy of the minute's last burst, else that of the camera's newest frames."""
    digests = [burst.facts.policy for burst in explanation.bursts[-1:]]
    digests += [h.policy for h in context.store.cameras() if (h.site, h.camera) == (one.site, one.camera)]
    return context.store.policy(digests[0]).camera(one.camera) if digests else None


def _minute(
    context: Context, explanation: Explanation, policy: CameraPolicy | None, local: LocalTime, part: int
) -> Minute:
    conclusion = concluded(context.store, explanation, local)
    since_us, until_us = explanation.since_us, explanation.until_us
    text = EventText(local)
    records = {(b.facts.burst_id, f.index): (b, f) for b in explanation.bursts for f in b.frames}
    seen = [
        each
        for each in context.store.observations(explanation.site, explanation.camera, since_us, until_us)
        if (each.burst_id, each.index) in records
    ]
    here = seen[(part - 1) * MOST : part * MOST]
    return Minute(
        sentence=conclusion.sentence,
        is_gone=explanation.is_gone,
        since=instant(since_us),
        at_local=local.dated(since_us),
        at_field=judging.field_of(local, since_us),
        day=local.dated(since_us)[:10],
        zone=local.name,
        earlier=_address(explanation, local, since_us - MINUTE_US),
        later=_address(explanation, local, until_us) if until_us <= explanation.known_until_us else None,
        frames=tuple(_frames(context, explanation, here, records, local)),
        part=part,
        parts=max(1, -(-len(seen) // MOST)),
        overlay=overlay_of(policy, here[0].size, None, ()) if here and policy else None,
        occupancy=tuple(
            OccupancyShown(
                each.sector,
                each.target,
                each.occupancy.value,
                local.clock(each.from_us),
                local.clock(each.until_us),
            )
            for each in explanation.occupancy
        ),
        gaps=tuple("; ".join(line.strip() for line in gap_lines(gap, local)) for gap in explanation.gaps),
        bursts=tuple(_burst(burst, text, local) for burst in explanation.bursts),
        events=tuple(EventLink(each.id, text.event(each)) for each in conclusion.events),
    )


def _address(explanation: Explanation, local: LocalTime, at_us: int) -> str:
    return "/why?" + urlencode({"site": explanation.site, "camera": explanation.camera, "at": local.written(at_us)})


def _frames(
    context: Context,
    explanation: Explanation,
    seen: Sequence[Observation],
    records: dict[tuple[str, int], tuple[BurstRecord, FrameRecord]],
    local: LocalTime,
) -> Iterator[FrameShown]:
    fates = context.store.frames.fates(explanation.site, explanation.camera, [each.frame_sha256 for each in seen])
    initials = initials_of(model for each in seen for model in each.answers)
    digests = {burst.facts.policy for burst in explanation.bursts}
    policies = {digest: context.store.policy(digest).camera(explanation.camera) for digest in digests}
    for each in seen:
        burst, record = records[each.burst_id, each.index]
        in_force = policies[burst.facts.policy].in_force(each.at_us, each.brightness)
        yield minute_frame(in_force, each, record, picture_of(fates[each.frame_sha256]), local, initials)


def _burst(burst: BurstRecord, text: EventText, local: LocalTime) -> BurstShown:
    facts = burst.facts
    fresh = sum(not frame.repeats for frame in burst.frames)
    enlarged = "".join(
        f"; detectors also saw {name} {times:.1f} times as large" for name, times in burst.enlarged.items()
    )
    late = ", late" if facts.late else ""
    return BurstShown(
        facts.burst_id,
        local.clock(facts.first_at_us),
        local.clock(facts.last_at_us),
        f"{facts.frames} frames ({facts.reason}){late}{held_text(facts)}{enlarged}",
        facts.policy,
        facts.ensemble,
        facts.mask_digest,
        tuple(sector_text(sector, fresh) for sector in burst.sectors if fresh),
        tuple(text.event(logged.event) for logged in burst.events),
    )
