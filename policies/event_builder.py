"""Stage: from facts to events, with id, times, evidence and provenance."""

from __future__ import annotations

from collections.abc import Sequence

from policies.events import ORDER, Event, Fact, Provenance, event_id, instant
from policies.observation import Observation
from policies.site.site_policy import CameraPolicy


def build_events(policy: CameraPolicy, seen: Observation, facts: Sequence[Fact]) -> tuple[Event, ...]:
    """The events of the facts that one frame settled, by instant, kind (`ORDER`), sector and id."""
    events = [_event(policy, seen, fact) for fact in facts]
    if len(events) > 1:
        events.sort(key=lambda e: (e.at, ORDER.index(e.kind), e.sector or "", e.id))
    return tuple(events)


def _event(policy: CameraPolicy, seen: Observation, fact: Fact) -> Event:
    place = (fact.sector, fact.from_sector, fact.to_sector, fact.line, fact.direction)
    when = (fact.started_us, fact.ended_us)
    evidence = fact.evidence
    return Event(
        id=event_id(policy.site, policy.camera, fact.kind, fact.target, *place, *when, fact.track, policy.digest),
        kind=fact.kind,
        site=policy.site,
        camera=policy.camera,
        label=fact.target,
        sector=fact.sector,
        from_sector=fact.from_sector,
        to_sector=fact.to_sector,
        line=fact.line,
        direction=fact.direction,
        started_at=instant(fact.started_us),
        ended_at=None if fact.ended_us is None else instant(fact.ended_us),
        confirmed_at=instant(seen.at_us),
        time_uncertainty_s=round(fact.slack_us / 1e6 + seen.uncertainty_s, 6),
        track=fact.track,
        score=evidence.score,
        votes=evidence.votes,
        margin=evidence.margin,
        provenance=Provenance(
            burst_ids=tuple(dict.fromkeys((evidence.burst_id, seen.burst_id))),
            frame_sha256=tuple(dict.fromkeys((evidence.frame_sha256, seen.frame_sha256))),
            ensemble=seen.ensemble_info.ensemble,
            policy=policy.digest,
            mask_digest=seen.mask_digest,
        ),
    )
