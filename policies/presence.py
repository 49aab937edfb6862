"""Stage: presence of a target in a sector: the union of the visits of all its tracks, with hysteresis.

It starts with the first visit that lasted `confirm_s`. It ends when every visit is over and none has begun within
`clear_s` of the last one's end.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import msgspec
from msgspec.structs import replace

from policies.events import Evidence, Fact
from policies.site.sectors import Sector
from policies.site.site_policy import CameraPolicy
from policies.tracking.lifetime import has_lasted, is_held
from policies.tracking.track import Closed, Frame, Track, Visit

T = TypeVar("T")


class Presence(msgspec.Struct, frozen=True):
    """A target that is in a sector since `since_us`; `end_us` when it seems to have gone, not yet for certain."""

    target: str
    sector: str
    since_us: int
    evidence: Evidence
    end_us: int | None = None
    end_slack_us: int = 0


def update_presences(
    policy: CameraPolicy,
    frame: Frame,
    presences: Sequence[Presence],
    tracks: Sequence[Track],
    closed: Sequence[tuple[str, Closed]],
) -> tuple[tuple[Presence, ...], Sequence[Fact]]:
    """Presence in every sector, given the tracks that go on and the visits that are over, with their targets; and the
    facts of presences that started or ended.

    A presence that the policy no longer asks for ends.
    """
    known = {(p.target, p.sector): p for p in presences}
    going = _by_place([(track.target, visit.sector, (track, visit)) for track in tracks for visit in track.visits])
    gone = _by_place([(target, each.visit.sector, each) for target, each in closed])
    touched = {*known, *going, *gone}
    after: list[Presence] = []
    facts: list[Fact] = []
    for sector in policy.sectors:
        for target in sector.rules.targets:
            place = (target, sector.name)
            if place not in touched:
                continue
            presence, here, over = known.pop(place, None), going.get(place, []), gone.get(place, [])
            if presence is None and here:  # whoever stands on the border keeps one up, and starts none
                here = [(t, v) for t, v in here if not is_held(v, t.visits, policy.apart)]
            if target not in frame.blind and (presence is not None or here or over):
                presence, settled = _updated(presence, target, sector, here, over, frame.at_us)
                facts += settled
            if presence is not None:
                after.append(presence)
    for place, presence in known.items():  # the policy no longer asks for them
        if presence.end_us is None:
            presence = _ending(presence, (), gone.get(place, []))
        facts.append(_ended(presence, frame.at_us))
    return tuple(after), facts


def _by_place(entries: Sequence[tuple[str, str, T]]) -> dict[tuple[str, str], list[T]]:
    """What comes with each target and sector, in order."""
    found: dict[tuple[str, str], list[T]] = {}
    for target, sector, entry in entries:
        found.setdefault((target, sector), []).append(entry)
    return found


def _updated(
    presence: Presence | None,
    target: str,
    sector: Sector,
    here: Sequence[tuple[Track, Visit]],
    closed: Sequence[Closed],
    at_us: int,
) -> tuple[Presence | None, Sequence[Fact]]:
    """One presence after a frame, and the facts of its start and its end."""
    rules = sector.rules.presence
    lasting = [v for t, v in here if t.confirmed and has_lasted(v, v.last_us, rules.confirm_s)]
    if lasting and presence is not None and presence.end_us is None:  # most frames: it goes on
        return presence, ()
    over = [c for c in closed if has_lasted(c.visit, c.end_us, rules.confirm_s)]
    facts: list[Fact] = []
    if presence is None:
        visits = [*lasting, *(c.visit for c in over)]
        if not visits:
            return None, facts
        first = min(visits, key=lambda v: (v.entry_us, v.evidence.frame_sha256))
        presence = Presence(target, sector.name, first.entry_us, first.evidence)
        when = (first.entry_us, first.entry_slack_us)
        facts.append(Fact("presence_started", target, *when, first.evidence, sector=sector.name))
    elif presence.end_us is None and not (lasting or over):  # it began under rules that asked for less
        lasting, over = [v for t, v in here if t.confirmed], list(closed)
    presence = _ending(presence, lasting, over)
    if presence.end_us is None:
        return presence, facts
    clear_at_us = presence.end_us + int(rules.clear_s * 1e6)
    if at_us < clear_at_us or any(visit.entry_us < clear_at_us for _, visit in here):
        return presence, facts
    return None, [*facts, _ended(presence, at_us)]


def _ending(presence: Presence, lasting: Sequence[Visit], over: Sequence[Closed]) -> Presence:
    """The presence with its end set by the last visit that is over, or without an end while a visit goes on."""
    if lasting:
        return replace(presence, end_us=None, end_slack_us=0)
    last = max(over, key=lambda c: c.end_us, default=None)
    if last is None or (presence.end_us is not None and last.end_us <= presence.end_us):
        return presence
    return replace(presence, end_us=last.end_us, end_slack_us=last.slack_us)


def _ended(presence: Presence, at_us: int) -> Fact:
    """The end of a presence: where it is set, else at the instant of the frame."""
    return Fact(
        "presence_ended",
        presence.target,
        presence.since_us,
        presence.end_slack_us,
        presence.evidence,
        sector=presence.sector,
        ended_us=at_us if presence.end_us is None else presence.end_us,
    )
