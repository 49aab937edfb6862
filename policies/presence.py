"""Presence of a target in a sector: the union of the visits of all its tracks, with hysteresis.

It starts with the first visit that lasted `confirm_s`, and ends when every visit is over and none has begun
within `clear_s` of the last one's end.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from msgspec.structs import replace

from policies.site.site_policy import Sector
from policies.tracking.track import Track
from policies.tracking.visit import Closed, Evidence, Visit


class Presence(msgspec.Struct, frozen=True):
    """A target that is in a sector since `since_us`; `end_us` when it seems to have gone, not yet for certain."""

    target: str
    sector: str
    since_us: int
    evidence: Evidence
    end_us: int | None = None
    end_slack_us: int = 0


class Change(msgspec.Struct, frozen=True):
    """A presence that began (`ended` false) or ended at `at_us`, give or take `slack_us`."""

    presence: Presence
    at_us: int
    slack_us: int
    ended: bool


def stay(
    presence: Presence | None,
    target: str,
    sector: Sector,
    here: Sequence[tuple[Track, Visit]],
    closed: Sequence[Closed],
    at_us: int,
) -> tuple[Presence | None, list[Change]]:
    """One sector's presence after a frame, given the visits of live tracks there, and those that were closed by it."""
    rules = sector.rules.presence
    confirm_us, clear_us = int(rules.confirm_s * 1e6), int(rules.clear_s * 1e6)
    firm = [v for t, v in here if t.firm and v.lasted_us(v.last_us, confirm_us) >= confirm_us]
    gone = [c for c in closed if c.visit.lasted_us(c.end_us, confirm_us) >= confirm_us]
    changes: list[Change] = []
    if presence is None:
        visits = [*firm, *(c.visit for c in gone)]
        if not visits:
            return None, []
        first = min(visits, key=lambda v: (v.entry_us, v.evidence.frame_sha256))
        presence = Presence(target, sector.name, first.entry_us, first.evidence)
        changes.append(Change(presence, first.entry_us, first.entry_slack_us, ended=False))
    if presence.end_us is None and not (firm or gone):  # less was needed when it began, by the rules of that time
        firm, gone = [v for t, v in here if t.firm], list(closed)
    presence = _ending(presence, firm, gone)
    if presence.end_us is None:
        return presence, changes
    sure_us = presence.end_us + clear_us
    if at_us < sure_us or any(v.entry_us < sure_us for _, v in here):
        return presence, changes
    changes.append(Change(presence, presence.end_us, presence.end_slack_us, ended=True))
    return None, changes


def given_up(presence: Presence, closed: Sequence[Closed], at_us: int) -> Change:
    """The end of a presence that nobody asks about any more, given its visits that were broken off."""
    if presence.end_us is None:
        presence = _ending(presence, (), closed)
    ended_us = at_us if presence.end_us is None else presence.end_us
    return Change(presence, ended_us, presence.end_slack_us, ended=True)


def _ending(presence: Presence, firm: Sequence[Visit], gone: Sequence[Closed]) -> Presence:
    """The presence with its end set by the last visit that is over, or taken back by one that goes on."""
    if firm:
        return replace(presence, end_us=None, end_slack_us=0)
    last = max(gone, key=lambda c: c.end_us, default=None)
    if last is None or (presence.end_us is not None and last.end_us <= presence.end_us):
        return presence
    return replace(presence, end_us=last.end_us, end_slack_us=last.slack_us)
