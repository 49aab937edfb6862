"""Occupancy of sectors: occupied, clear or unobserved. Blind is not clear.

`current_occupancy` gives that of every sector of a camera at an instant, from the camera's state alone. `timeline`
gives it over a stretch of the past: a gap between frames is a stretch of `unobserved`, whatever was there before and
after it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from itertools import pairwise

import msgspec
from msgspec.structs import replace

from policies.events import microseconds
from policies.fold import State, advance
from policies.observation import Observation
from policies.site.sectors import Sector
from policies.site.site_policy import CameraPolicy

TURNED = "the camera was turned or moved"
"""How the cause begins where the view is not the one that the sectors were drawn in."""


class Occupancy(StrEnum):
    OCCUPIED = "occupied"
    CLEAR = "clear"
    UNOBSERVED = "unobserved"


class SectorOccupancy(msgspec.Struct, frozen=True):
    """A sector's occupancy by one target since `since_us` (None: since before the memory of the state).

    `cause` says why a sector is unobserved, as far as frames show it: none ever came, none came since, those that
    came carried no information, or the camera was turned or moved. A heartbeat of the agent may give a better cause
    than the first three.
    """

    target: str
    sector: str
    occupancy: Occupancy
    since_us: int | None = None
    cause: str | None = None


class Span(msgspec.Struct, frozen=True):
    """A stretch of time, from `from_us` to before `until_us`, in which a sector's occupancy by a target is the same.

    `cause` says why it is unobserved, where the camera was turned or moved.
    """

    target: str
    sector: str
    occupancy: Occupancy = msgspec.field(name="standing")
    from_us: int
    until_us: int
    cause: str | None = None


Interval = tuple[int, int]
"""From one instant (us) to before another."""


def current_occupancy(policy: CameraPolicy, state: State, at_us: int) -> tuple[SectorOccupancy, ...]:
    """The occupancy of every sector of the policy at `at_us`, an instant not before the state's own."""
    occupied = {(p.target, p.sector): p.since_us for p in state.presences}
    turned_us = turned_since(state) if policy.asks_for_moving else None  # an older policy may have asked for it
    if turned_us is not None:
        return tuple(
            SectorOccupancy(target, sector.name, Occupancy.UNOBSERVED, turned_us, _turned_at(turned_us))
            for sector in policy.sectors
            for target in sector.rules.targets
        )
    return tuple(
        _current(target, sector, state, occupied.get((target, sector.name)), at_us)
        for sector in policy.sectors
        for target in sector.rules.targets
    )


def _current(target: str, sector: Sector, state: State, since_us: int | None, at_us: int) -> SectorOccupancy:
    limit_us = _blind_us(sector)
    if state.seen_us is None:
        cause = "no frame yet" if state.last_at_us is None else "no frame told anything yet"
    elif at_us - state.seen_us > limit_us:
        is_silent = at_us - (state.last_at_us or state.seen_us) > limit_us
        cause = "no frame since" if is_silent else "the frames repeat, or no model answers"
    else:
        occupancy = Occupancy.CLEAR if since_us is None else Occupancy.OCCUPIED
        return SectorOccupancy(target, sector.name, occupancy, since_us)
    return SectorOccupancy(target, sector.name, Occupancy.UNOBSERVED, state.seen_us, cause)


def turned_since(state: State) -> int | None:
    """Since when (us) the camera shows another view than it should; None: it does not."""
    return state.scene.turned_us if state.scene else None


def _turned_at(at_us: int) -> str:
    return f"{TURNED} at {datetime.fromtimestamp(at_us // 1_000_000, UTC):%Y-%m-%dT%H:%M:%SZ}"


def timeline(
    policy: CameraPolicy, state: State, frames: Iterable[tuple[CameraPolicy, Observation]], until_us: int
) -> Iterator[Span]:
    """The occupancy of every sector of `policy` from the first frame to `until_us`, in order of the spans' ends.

    Each frame comes with the policy that it was judged by. Presence is placed by the facts (the times in
    `presence_started` and `presence_ended`), not by when they were confirmed. What lies in a gap longer than `blind_s`
    is unobserved, and so is the time before a policy named the sector, or while none did.
    """
    known_us = state.seen_us
    from_us: int | None = None
    looks: dict[str, list[int]] = {sector.name: [] for sector in policy.sectors}
    held: dict[tuple[str, str | None], list[Interval]] = {}
    turned: dict[int, int] = {}
    for rules, seen in frames:
        from_us = seen.at_us if from_us is None else from_us
        state, events = advance(rules, state, seen)
        if (turned_us := turned_since(state)) is not None:
            turned[turned_us] = seen.at_us
        for sector in rules.sectors if state.seen_us == seen.at_us else ():
            looks.setdefault(sector.name, []).append(seen.at_us)
        for event in events:
            if event.kind == "presence_ended":
                stay = (microseconds(event.started_at), microseconds(event.at))
                held.setdefault((event.label, event.sector), []).append(stay)
    for presence in state.presences:
        held.setdefault((presence.target, presence.sector), []).append((presence.since_us, until_us))
    if from_us is None:
        return
    for sector in policy.sectors:
        looks_us = (from_us if known_us is None else known_us, *looks[sector.name], until_us)
        gaps = [(a, b) for a, b in pairwise(looks_us) if b - a > _blind_us(sector)]
        for target in sector.rules.targets:
            spans = _spans(target, sector.name, held.get((target, sector.name), []), gaps, (from_us, until_us))
            yield from (_with_cause(span, turned) for span in spans)


def _with_cause(span: Span, turned: Mapping[int, int]) -> Span:
    """The span, unobserved because the camera was turned, where it was: since when -> the last frame that came then."""
    if span.occupancy is not Occupancy.UNOBSERVED:
        return span
    since_us = next((at for at, last in turned.items() if at < span.until_us and span.from_us <= last), None)
    return span if since_us is None else replace(span, cause=_turned_at(since_us))


def _blind_us(sector: Sector) -> int:
    return int(sector.rules.presence.blind_s * 1e6)


def _spans(
    target: str, sector: str, held: Sequence[Interval], gaps: Sequence[Interval], stretch: Interval
) -> list[Span]:
    """The stretch cut at every edge, neighbours of the same occupancy joined. A gap outweighs a presence."""
    from_us, until_us = stretch
    edges = sorted({*stretch, *(t for interval in (*held, *gaps) for t in interval if from_us < t < until_us)})
    spans: list[Span] = []
    for start_us, end_us in pairwise(edges):
        occupancy = Occupancy.OCCUPIED if _covers(held, start_us) else Occupancy.CLEAR
        if _covers(gaps, start_us):
            occupancy = Occupancy.UNOBSERVED
        if spans and spans[-1].occupancy is occupancy:
            start_us = spans.pop().from_us
        spans.append(Span(target, sector, occupancy, start_us, end_us))
    return spans


def _covers(intervals: Sequence[Interval], at_us: int) -> bool:
    return any(from_us <= at_us < until_us for from_us, until_us in intervals)
