"""How a sector stands: occupied, clear or unobserved. Blind is not clear.

`standings` says how every sector of a camera stands at an instant, from the camera's state alone. `timeline` says
how each stood over a stretch of the past: a gap between frames is a stretch of `unobserved`, whatever was there
before and after it.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator
from enum import StrEnum
from itertools import pairwise

import msgspec

from policies.events import microseconds
from policies.fold import State, advance
from policies.observation import Observation
from policies.site.sectors import Sector
from policies.site.site_policy import CameraPolicy


class Standing(StrEnum):
    OCCUPIED = "occupied"
    CLEAR = "clear"
    UNOBSERVED = "unobserved"


class SectorStanding(msgspec.Struct, frozen=True, omit_defaults=True):
    """How one sector stands for one target since `since_us` (None: since before the memory of the state).

    `cause` says why a sector is unobserved, as far as frames can tell: none ever came, none came since, or those
    that came told nothing. Whoever knows more (a heartbeat of the agent) may say it better.
    """

    target: str
    sector: str
    standing: Standing
    since_us: int | None = None
    cause: str | None = None


class Span(msgspec.Struct, frozen=True):
    """A stretch of time, from `from_us` to before `until_us`, in which a sector stood one way for a target."""

    target: str
    sector: str
    standing: Standing
    from_us: int
    until_us: int


def standings(policy: CameraPolicy, state: State, at_us: int) -> tuple[SectorStanding, ...]:
    """How every sector of the policy stands at `at_us`, an instant not before the state's own."""
    occupied = {(p.target, p.sector): p.since_us for p in state.presences}
    return tuple(
        _standing(target, sector, state, occupied.get((target, sector.name)), at_us)
        for sector in policy.sectors
        for target in sector.rules.targets
    )


def _standing(target: str, sector: Sector, state: State, since_us: int | None, at_us: int) -> SectorStanding:
    if state.seen_us is None:
        cause = "no frame yet" if state.last_at_us is None else "no frame told anything yet"
        return SectorStanding(target, sector.name, Standing.UNOBSERVED, None, cause)
    limit_us = int(sector.rules.presence.blind_s * 1e6)
    if at_us - state.seen_us > limit_us:
        newest_us = state.last_at_us or state.seen_us
        is_silent = at_us - newest_us > limit_us
        cause = "no frame since" if is_silent else "the frames repeat, or no model answers"
        return SectorStanding(target, sector.name, Standing.UNOBSERVED, state.seen_us, cause)
    standing = Standing.CLEAR if since_us is None else Standing.OCCUPIED
    return SectorStanding(target, sector.name, standing, since_us)


def timeline(
    policy: CameraPolicy, state: State, frames: Iterable[tuple[CameraPolicy, Observation]], until_us: int
) -> Iterator[Span]:
    """How every sector of `policy` stood from the first frame to `until_us`, in order of the spans' ends.

    Each frame comes with the policy that it was judged by. Presence is placed by the facts (`presence_started` and
    `presence_ended` tell when it was), not by when they were confirmed; what lies in a gap longer than `blind_s` is
    unobserved, and so is what lies before anybody asked about a sector, or while nobody did.
    """
    gaps: dict[str, list[tuple[int, int]]] = {s.name: [] for s in policy.sectors}
    held: dict[tuple[str, str], list[tuple[int, int]]] = {}
    seen_us: dict[str, int] = {}
    first_us = None
    for rules, seen in frames:
        if first_us is None:
            first_us = seen.at_us
            seen_us = dict.fromkeys(gaps, seen.at_us if state.seen_us is None else state.seen_us)
        state, events = advance(rules, state, seen)
        if state.seen_us == seen.at_us:
            asked = {s.name for s in rules.sectors}
            _note_gaps(policy, asked, gaps, seen_us, seen.at_us)
        for event in events:
            if event.kind == "presence_ended":
                assert event.sector is not None
                assert event.ended_at is not None
                stay = (microseconds(event.started_at), microseconds(event.ended_at))
                held.setdefault((event.label, event.sector), []).append(stay)
    if first_us is None:
        return
    _note_gaps(policy, gaps, gaps, seen_us, until_us)
    for presence in state.presences:
        held.setdefault((presence.target, presence.sector), []).append((presence.since_us, until_us))
    for sector in policy.sectors:
        for target in sector.rules.targets:
            spans = held.get((target, sector.name), [])
            yield from _spans(target, sector.name, spans, gaps[sector.name], first_us, until_us)


def _note_gaps(
    policy: CameraPolicy,
    asked: Container[str],
    gaps: dict[str, list[tuple[int, int]]],
    seen_us: dict[str, int],
    at_us: int,
) -> None:
    """Note for each sector that is seen again how long it was not."""
    for sector in policy.sectors:
        if sector.name in asked:
            if at_us - seen_us[sector.name] > int(sector.rules.presence.blind_s * 1e6):
                gaps[sector.name].append((seen_us[sector.name], at_us))
            seen_us[sector.name] = at_us


def _spans(
    target: str,
    sector: str,
    held: list[tuple[int, int]],
    gaps: list[tuple[int, int]],
    from_us: int,
    until_us: int,
) -> list[Span]:
    """The stretch cut at every edge, neighbours that stand alike joined. A gap outweighs a presence."""
    edges = sorted({from_us, until_us, *(t for span in (*held, *gaps) for t in span if from_us < t < until_us)})
    spans: list[Span] = []
    for start_us, end_us in pairwise(edges):
        if any(a <= start_us < b for a, b in gaps):
            standing = Standing.UNOBSERVED
        elif any(a <= start_us < b for a, b in held):
            standing = Standing.OCCUPIED
        else:
            standing = Standing.CLEAR
        if spans and spans[-1].standing is standing:
            start_us = spans.pop().from_us
        spans.append(Span(target, sector, standing, start_us, end_us))
    return spans
